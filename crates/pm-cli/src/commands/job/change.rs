//! The arguments of the commands that change selected jobs: restart, done, fail, cancel and move.

use super::bulk::SelectionArgs;
use pm_core::QueueName;

/// Makes jobs pending and ready immediately, and resets their retry count
///
/// A job in progress is reported and not restarted, with exit code 1; with --force it is
/// restarted, and its worker can no longer settle it. Jobs of a paused queue stay paused. A job
/// whose key is reserved by another job of its queue is reported and not restarted, also with
/// --force. Jobs that were cancelled are restarted only by id, or with --cancelled.
///
/// Example:
///   pm job restart --status failed --where reason~timeout
///   pm job restart 9f3c 77ab
///   pm job restart --queue mail --status failed --dry-run
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    pub(super) selection: SelectionArgs,
    /// Also restart jobs in progress, taking them from their workers
    #[arg(long)]
    pub(super) force: bool,
    /// With filters: also restart jobs that were cancelled
    #[arg(long)]
    pub(super) cancelled: bool,
}

/// Marks jobs as finished that are pending, paused or in progress
///
/// The worker of a job in progress loses its lease: it can no longer settle the job.
///
/// Example:
///   pm job done 9f3c
///   pm job done 9f3c --lease 5577006791947779410
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct DoneArgs {
    #[command(flatten)]
    pub(super) selection: SelectionArgs,
    #[command(flatten)]
    pub(super) lease: LeaseArgs,
}

#[derive(clap::Args)]
pub(crate) struct LeaseArgs {
    /// Only if the job is in progress and its lease has this number, as printed by `pm job next`
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, conflicts_with_all = ["queue", "status", "older_than", "conditions"])]
    pub(super) lease: Option<i64>,
}

/// Marks jobs as failed that are pending, paused or in progress
///
/// They are not retried. The worker of a job in progress loses its lease: it can no longer settle
/// the job.
///
/// Example:
///   pm job fail 9f3c --message "the customer is gone"
///   pm job fail 9f3c -m "no such mailbox" --lease 5577006791947779410
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct FailArgs {
    #[command(flatten)]
    pub(super) selection: SelectionArgs,
    /// The reason
    #[arg(short, long, value_name = "MESSAGE")]
    pub(super) message: String,
    #[command(flatten)]
    pub(super) lease: LeaseArgs,
}

/// Cancels jobs: waiting jobs fail at once, running ones are asked to stop
///
/// The handler of a job in progress may still finish it; however else it ends, the job has failed
/// and is not retried. `pm work` ends the command of a cancelled job: SIGTERM, then SIGKILL 2 s
/// later. With --force the worker loses its lease, and the job has failed at once.
///
/// Example:
///   pm job cancel 9f3c
///   pm job cancel --queue mail --status pending --message "the campaign is over"
///   pm job cancel 9f3c --force
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    pub(super) selection: SelectionArgs,
    /// The reason, which is stored with the jobs
    #[arg(short, long, value_name = "MESSAGE", default_value = "cancelled")]
    pub(super) message: String,
    /// Take jobs in progress from their workers at once
    #[arg(long)]
    pub(super) force: bool,
}

/// Moves jobs to another queue; they keep id, payload, priority and lease
///
/// They are paused if that queue is paused. A job whose key is reserved there is reported and not
/// moved, with exit code 1.
///
/// Example:
///   pm job move 9f3c --to mail-slow
///   pm job move --queue mail --status pending -t mail-slow --yes
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MoveArgs {
    #[command(flatten)]
    pub(super) selection: SelectionArgs,
    /// The queue to move to
    #[arg(short, long, value_name = "QUEUE", value_parser = QueueName::new)]
    pub(super) to: QueueName,
}
