//! `pm reap`

use crate::context::{Context, options};
use crate::duration::parse_duration;
use crate::error::CommandError;
use crate::render::{Value, jobs};
use crate::serving::ServeArgs;
use crate::stop::Stop;
use pm_driver_tokio_postgres::{ErrorKind, MaintenanceReport};
use std::time::{Duration, Instant};

/// Errors are shown no more often than this: each statement is retried within 5 s.
const ERROR_INTERVAL: Duration = Duration::from_secs(5);

/// Reaps, promotes, fires schedules and prunes until stopped
///
/// Workers do all of this except pruning; run this command to prune, and when no worker is
/// running. It prints what it did, and retries after database errors. Any number of them may run
/// at the same time. It stops on Ctrl-C, SIGTERM and SIGHUP.
///
/// Example:
///   pm reap
///   pm reap --prune-every 1h --metrics 127.0.0.1:9187
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ReapArgs {
    /// How often to delete ended jobs past their queue's retention
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration)]
    prune_every: Duration,
    #[command(flatten)]
    serve: ServeArgs,
}

pub(super) async fn run(context: &mut Context, args: &ReapArgs) -> Result<(), CommandError> {
    let settings = context.settings()?;
    let (metrics, options) = args.serve.observed(options(&settings));
    let queue = context.connect_with(options).await?;
    let _serving = args.serve.start(&queue, metrics).await?;
    let mut stop = Stop::listen()?;
    context.output.message("Reaping, promoting, firing schedules and pruning; Ctrl-C stops it.");
    let mut maintenance = queue.maintenance(Some(args.prune_every));
    let mut shown_at: Option<Instant> = None;
    loop {
        let step = tokio::select! {
            step = maintenance.step() => step,
            () = stop.requested() => break,
        };
        match step {
            Ok(done) => report(context, &done)?,
            Err(error) if [ErrorKind::Unavailable, ErrorKind::Database].contains(&error.kind()) => {
                if shown_at.is_none_or(|at| at.elapsed() >= ERROR_INTERVAL) {
                    shown_at = Some(Instant::now());
                    context.output.message(&format!("{error}; retrying"));
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    context.output.message("Stopped.");
    Ok(())
}

fn report(context: &mut Context, done: &MaintenanceReport) -> Result<(), CommandError> {
    let MaintenanceReport { reaped, expired, promoted, fired, pruned, .. } = *done;
    let actions =
        [("reaped", reaped), ("expired", expired), ("promoted", promoted), ("fired", fired), ("pruned", pruned)];
    let done = actions.iter().filter(|(_, count)| *count > 0);
    let sentence: Vec<_> = done.map(|(action, count)| format!("{action} {}", jobs(*count))).collect();
    let step = Value::named(actions.map(|(action, count)| (action, Value::number(count))));
    context.output.done(&step, &sentence.join(", "))?;
    context.output.flush()
}
