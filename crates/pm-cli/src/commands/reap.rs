//! `pm reap`

use crate::context::Context;
use crate::error::CommandError;
use crate::input::{parse_duration, show_seconds};
use crate::render::jobs;
use crate::stop::Stop;
use pm_driver_tokio_postgres::{ErrorKind, Pruning, Queue};
use serde::Serialize;
use std::time::{Duration, Instant};

/// The shortest time between two rounds.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest time between two rounds: leases and due times that come up meanwhile wait no longer.
const LONGEST: Duration = Duration::from_secs(5);

/// Reaps, promotes, fires schedules and prunes until it is told to stop
///
/// Workers do all but prune by themselves; this is for set-ups that have none running, and for
/// pruning. It says what it did, and waits out trouble with the database. Any number may run
/// at once. It ends on Ctrl-C, SIGTERM and SIGHUP.
///
/// Example:
///   pm reap
///   pm reap --prune-every 1h
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ReapArgs {
    /// How often to delete what queues do not retain any longer
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration)]
    prune_every: Duration,
}

/// What one round did.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Round {
    reaped: u64,
    promoted: u64,
    fired: u64,
    pruned: u64,
}

pub(super) async fn run(context: &mut Context, args: &ReapArgs) -> Result<(), CommandError> {
    let queue = context.connect().await?;
    let mut stop = Stop::listen()?;
    context.output.say("Reaping, promoting, firing schedules and pruning; Ctrl-C stops it.");
    let (mut prune_at, mut pruning) = (Instant::now(), None);
    loop {
        if pruning.is_none() && Instant::now() >= prune_at {
            prune_at = Instant::now() + args.prune_every;
            pruning = Some(queue.begin_prune());
        }
        let round = tokio::select! {
            round = round(&queue, &mut pruning) => round,
            () = stop.asked() => break,
        };
        let wait = match round {
            Ok((round, wait)) => {
                tell(context, &round)?;
                if pruning.is_some() { Duration::ZERO } else { wait.clamp(SHORTEST, LONGEST) }
            }
            Err(error) if [ErrorKind::Unavailable, ErrorKind::Database].contains(&error.kind()) => {
                context.output.say(&format!("{error}; trying again in {}", show_seconds(LONGEST)));
                LONGEST
            }
            Err(error) => return Err(error.into()),
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.asked() => break,
        }
    }
    context.output.say("Stopped.");
    Ok(())
}

/// Does one round, with one step of pruning, so that nothing waits for its end; returns what it did and when there is
/// more to do.
async fn round(
    queue: &Queue,
    pruning: &mut Option<Pruning>,
) -> Result<(Round, Duration), pm_driver_tokio_postgres::Error> {
    let (promoted, next_due) = queue.promote().await?;
    let (reaped, next_expiry) = queue.reap().await?;
    let (fired, next_tick) = queue.fire_schedules().await?;
    let mut pruned = 0;
    if let Some(clearing) = pruning {
        let before = clearing.deleted();
        let goes_on = clearing.step().await?;
        pruned = clearing.deleted() - before;
        if !goes_on {
            *pruning = None;
        }
    }
    let next = next_due.into_iter().chain(next_expiry).chain(next_tick).min().unwrap_or(LONGEST);
    Ok((Round { reaped, promoted, fired, pruned }, next))
}

fn tell(context: &mut Context, round: &Round) -> Result<(), CommandError> {
    if *round == Round::default() {
        return Ok(());
    }
    let actions =
        [("reaped", round.reaped), ("promoted", round.promoted), ("fired", round.fired), ("pruned", round.pruned)];
    let done: Vec<_> = actions.iter().filter(|(_, count)| *count > 0).collect();
    let words: Vec<_> = done.iter().map(|(action, count)| format!("{action} {}", jobs(*count))).collect();
    context.output.done(round, &words.join(", "))?;
    context.output.flush()
}
