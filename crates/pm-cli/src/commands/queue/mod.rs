//! Commands about queues.

mod create;
mod ls;
mod pause;
mod resume;
mod set;
mod show;

use crate::context::Context;
use crate::error::CommandError;

/// Makes, lists, pauses and changes queues
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
        }
    }
}

/// Returns "1 job is" or "7 jobs are".
fn jobs_are(count: u64) -> String {
    match count {
        1 => "1 job is".to_owned(),
        count => format!("{count} jobs are"),
    }
}
