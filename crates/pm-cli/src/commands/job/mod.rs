//! Commands about jobs.

mod add;
mod bulk;
mod copy;
mod delete;
mod done;
mod fail;
mod get;
mod ls;
mod r#move;
mod next;
mod restart;
mod search;
mod show;
mod watch;

pub(super) use show::read as read_job;

use crate::context::Context;
use crate::error::CommandError;

/// Adds, lists, shows, restarts, ends, moves and deletes jobs
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
    Show(show::ShowArgs),
    Add(add::AddArgs),
    Get(get::GetArgs),
    Search(search::SearchArgs),
    Watch(watch::WatchArgs),
    Next(next::NextArgs),
    Restart(restart::RestartArgs),
    Done(done::DoneArgs),
    Fail(fail::FailArgs),
    Move(r#move::MoveArgs),
    Copy(copy::CopyArgs),
    Delete(delete::DeleteArgs),
}

impl JobCommand {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), CommandError> {
        match self {
            JobCommand::Ls(args) => ls::run(context, &args).await,
            JobCommand::Show(args) => show::run(context, &args).await,
            JobCommand::Add(args) => add::run(context, &args).await,
            JobCommand::Get(args) => get::run(context, &args).await,
            JobCommand::Search(args) => search::run(context, &args).await,
            JobCommand::Watch(args) => watch::run(context, &args).await,
            JobCommand::Next(args) => next::run(context, &args).await,
            JobCommand::Restart(args) => restart::run(context, &args).await,
            JobCommand::Done(args) => done::run(context, &args).await,
            JobCommand::Fail(args) => fail::run(context, &args).await,
            JobCommand::Move(args) => r#move::run(context, &args).await,
            JobCommand::Copy(args) => copy::run(context, &args).await,
            JobCommand::Delete(args) => delete::run(context, &args).await,
        }
    }
}
