//! Commands about the database as a whole.

mod doctor;
mod grants;
mod migrate;
mod sql;

use crate::context::Context;
use crate::duration::{show_seconds, whole_ms};
use crate::error::CommandError;
use crate::render::{Progress, Value, jobs, stats_text, stderr_is_terminal, sum};
use crate::stop::Stop;
use pm_driver_tokio_postgres::Reaped;

/// Manages pm's tables
///
/// Example:
///   pm db migrate
#[derive(clap::Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum DbCommand {
    Migrate(migrate::MigrateArgs),
    /// Shows statistics: jobs by status, the oldest waiting job, rates, table sizes
    ///
    /// The cost is bounded, whatever the number of jobs. Counts of up to 10,000 jobs per status are
    /// exact. The rates count the jobs added and ended in the last 5m: exactly among the newest 20,000
    /// jobs, and also among older ones while the job table is at most 16 MB. A number marked ~ is an
    /// estimate from a sample of the table. Jobs deleted in this time are not counted. The oldest
    /// waiting job is the job at the front of its line that has waited longest since it was added or
    /// became due; paused jobs and jobs not yet due do not count. The rows of a table are as of its
    /// last vacuum.
    ///
    /// Example:
    ///   pm db stats
    ///   pm db stats --json | jq '.queues[] | {name, oldest_waiting_ms}'
    #[command(verbatim_doc_comment)]
    Stats,
    Doctor(doctor::DoctorArgs),
    Grants(grants::GrantsArgs),
    /// Reaps jobs whose lease has expired, once
    ///
    /// A job whose worker is gone is retried after its backoff, or fails when no retry is left.
    /// Workers also do this, and so does `pm reap`.
    ///
    /// Example:
    ///   pm db reap
    #[command(verbatim_doc_comment)]
    Reap,
    /// Deletes ended jobs past their queue's retention, once
    ///
    /// The retention is set by `pm queue set QUEUE --retain TIME`; the default is forever. Leftovers
    /// of deleted queues are deleted too. It works in small steps and can be stopped and run again.
    ///
    /// Example:
    ///   pm db prune
    #[command(verbatim_doc_comment)]
    Prune,
    Sql(sql::SqlArgs),
}

impl DbCommand {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), CommandError> {
        match self {
            DbCommand::Migrate(args) => migrate::run(context, &args).await,
            DbCommand::Stats => {
                let stats = context.connect().await?.stats().await?;
                context.output.show(&stats, |screen| stats_text(&stats, screen))
            }
            DbCommand::Doctor(args) => doctor::run(context, &args).await,
            DbCommand::Grants(args) => grants::run(context, &args),
            DbCommand::Reap => reap(context).await,
            DbCommand::Prune => prune(context).await,
            DbCommand::Sql(args) => sql::run(context, &args),
        }
    }
}

async fn reap(context: &mut Context) -> Result<(), CommandError> {
    let Reaped { reaped, expired, next_expiry } = context.connect().await?.reap().await?;
    let ended = if expired > 0 { format!(", {} expired", jobs(expired)) } else { String::new() };
    let then = match next_expiry {
        Some(next) => format!("the next lease or job expires in {}", show_seconds(next)),
        None => "nothing is going to expire".to_owned(),
    };
    let sentence = format!("Reaped {}{ended}; {then}.", jobs(reaped));
    // `null` when nothing is going to expire.
    let next_ms = next_expiry.map(|next| Value::number(whole_ms(next))).into();
    let counts = [("reaped", Value::number(reaped)), ("expired", Value::number(expired))];
    let json = Value::named(counts.into_iter().chain([("next_expiry_in_ms", next_ms)]));
    context.output.done(&json, &sentence)
}

async fn prune(context: &mut Context) -> Result<(), CommandError> {
    let queue = context.connect().await?;
    // Every job is visited. Those of deleted queues are not in the total.
    let total = match stderr_is_terminal() {
        true => Some(sum(queue.list_queues().await?.iter().flat_map(|queue| queue.counts))),
        false => None,
    };
    let mut stop = Stop::listen()?;
    let mut prune = queue.begin_prune();
    let mut progress = Progress::new("Pruning", total);
    while prune.step().await? {
        progress.show_with(prune.seen(), &format!("{} deleted", prune.deleted()));
        if stop.was_requested() {
            drop(progress);
            let message = format!("interrupted after pruning {}", jobs(prune.deleted()));
            return Err(CommandError::refused(message).hint("run it again to continue"));
        }
    }
    drop(progress);
    let pruned = prune.deleted();
    context.output.done(&Value::named([("pruned", Value::number(pruned))]), &format!("Pruned {}.", jobs(pruned)))
}
