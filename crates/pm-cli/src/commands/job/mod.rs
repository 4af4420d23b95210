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

use crate::context::Context;
use crate::error::CommandError;

/// Adds, lists, shows, restarts, ends, moves and deletes jobs
///
/// Where a job is wanted, its id will do, or the end of it: as many hex digits as tell it
/// from the others, with dashes or without.
///
/// Commands that change jobs take filters instead of ids: --queue, --status, --older-than, and
/// --where with a condition, all of which must hold. A condition is a field, an operator and a
/// value: everything after the operator, blanks inside included. Texts (description, key, reason,
/// worker) are tested by = and !=, and by ~ and !~ (contains it or not, whatever the case); a text
/// that is not there is empty. Numbers (priority, attempts, retries, bytes of payload) and times
/// (created, ended, due) are compared by = != < <= > >=; a time that is not there fits nothing.
/// Jobs are looked at newest first, 1,000 at a time, and each thousand is changed at once after.
/// On a terminal it is asked first; a script that wants to see first says --dry-run.
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
