//! Commands about queues.

mod create;
mod delete;
mod ls;
mod pause;
mod rename;
mod resume;
mod set;
mod show;

use crate::context::Context;
use crate::error::CommandError;
use crate::render::jobs;

/// Creates, lists, pauses, changes and deletes queues
///
/// Example:
///   pm queue ls
#[derive(clap::Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum QueueCommand {
    Ls(ls::LsArgs),
    Show(show::ShowArgs),
    Create(create::CreateArgs),
    Set(set::SetArgs),
    Pause(pause::PauseArgs),
    Resume(resume::ResumeArgs),
    Rename(rename::RenameArgs),
    Delete(delete::DeleteArgs),
}

impl QueueCommand {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), CommandError> {
        match self {
            QueueCommand::Ls(_) => ls::run(context).await,
            QueueCommand::Show(args) => show::run(context, &args).await,
            QueueCommand::Create(args) => create::run(context, &args).await,
            QueueCommand::Set(args) => set::run(context, &args).await,
            QueueCommand::Pause(args) => pause::run(context, &args).await,
            QueueCommand::Resume(args) => resume::run(context, &args).await,
            QueueCommand::Rename(args) => rename::run(context, &args).await,
            QueueCommand::Delete(args) => delete::run(context, &args).await,
        }
    }
}

/// Returns "1 job is" or "7 jobs are".
fn jobs_are(count: u64) -> String {
    format!("{} {}", jobs(count), if count == 1 { "is" } else { "are" })
}
