//! Commands about jobs.

mod add;
mod bulk;
mod change;
mod ls;
mod next;
mod one;
mod search;
mod wait;
mod watch;

pub(super) use one::read as read_job;

use crate::context::Context;
use crate::error::CommandError;
use pm_driver_tokio_postgres::BulkAction;

/// Adds, lists, shows, restarts, ends, cancels, moves and deletes jobs
///
/// Commands accept a job's id or the end of it: enough hex digits to identify the job, with or
/// without dashes.
///
/// Commands that change jobs accept filters instead of ids: --queue, --status, --older-than, and
/// --where with a condition. A job must match all of them. A condition is a field, an operator and
/// a value: everything after the operator, spaces inside it included. Text fields (description,
/// key, reason, worker) support = and !=, and ~ and !~ (contains or does not contain the value,
/// ignoring case); a missing text is empty. Numeric fields (priority, attempts, retries, bytes of
/// payload) and time fields (created, ended, due) support = != < <= > >=; a missing time matches
/// nothing. Jobs are processed newest first, 1,000 at a time; each 1,000 are read and then changed
/// together. On a terminal the command asks for confirmation first; in a script, use --dry-run to
/// see the number of jobs.
///
/// Example:
///   pm job ls --status failed
#[derive(clap::Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum JobCommand {
    Ls(ls::LsArgs),
    Show(one::ShowArgs),
    Add(add::AddArgs),
    Get(one::GetArgs),
    Result(one::ResultArgs),
    Search(search::SearchArgs),
    Watch(watch::WatchArgs),
    Wait(wait::WaitArgs),
    Next(next::NextArgs),
    Restart(change::RestartArgs),
    Done(change::DoneArgs),
    Fail(change::FailArgs),
    Cancel(change::CancelArgs),
    Move(change::MoveArgs),
    Copy(one::CopyArgs),
    /// Deletes jobs in any state, with their payloads and attempts
    ///
    /// The worker of a job in progress loses its lease.
    ///
    /// Example:
    ///   pm job delete --status finished --where 'created<2026-01-01'
    ///   pm job delete 9f3c
    ///   pm job delete --queue mail --status finished --older-than 30d
    #[command(verbatim_doc_comment)]
    Delete(bulk::SelectionArgs),
}

impl JobCommand {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), CommandError> {
        match self {
            JobCommand::Ls(args) => ls::run(context, &args).await,
            JobCommand::Show(args) => one::run_show(context, &args).await,
            JobCommand::Add(args) => add::run(context, &args).await,
            JobCommand::Get(args) => one::run_get(context, &args).await,
            JobCommand::Result(args) => one::run_result(context, &args).await,
            JobCommand::Search(args) => search::run(context, &args).await,
            JobCommand::Watch(args) => watch::run(context, &args).await,
            JobCommand::Wait(args) => wait::run(context, &args).await,
            JobCommand::Next(args) => next::run(context, &args).await,
            JobCommand::Restart(mut args) => {
                args.selection.filter.without_cancelled = !args.cancelled;
                bulk::run(context, &args.selection, BulkAction::Restart { force: args.force }, None).await
            }
            JobCommand::Done(args) => bulk::run(context, &args.selection, BulkAction::Finish, args.lease.lease).await,
            JobCommand::Fail(args) => {
                let fail = BulkAction::Fail { reason: args.message };
                bulk::run(context, &args.selection, fail, args.lease.lease).await
            }
            JobCommand::Cancel(args) => {
                let cancel = BulkAction::Cancel { reason: args.message, force: args.force };
                bulk::run(context, &args.selection, cancel, None).await
            }
            JobCommand::Move(args) => bulk::run(context, &args.selection, BulkAction::Move { to: args.to }, None).await,
            JobCommand::Copy(args) => one::run_copy(context, &args).await,
            JobCommand::Delete(args) => bulk::run(context, &args, BulkAction::Delete, None).await,
        }
    }
}
