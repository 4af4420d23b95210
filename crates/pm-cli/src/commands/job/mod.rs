//! Commands about jobs.

mod add;
mod ls;
mod show;

use crate::context::Context;
use crate::error::CommandError;

/// Adds, lists and shows jobs
///
/// Where a job is wanted, its id will do, or the end of it: as many hex digits as tell it
/// from the others, with dashes or without.
///
/// Example:
///   pm job ls --status failed
#[derive(clap::Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum JobCommand {
    Ls(ls::LsArgs),
    Show(show::ShowArgs),
    Add(add::AddArgs),
}

impl JobCommand {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), CommandError> {
        match self {
            JobCommand::Ls(args) => ls::run(context, &args).await,
            JobCommand::Show(args) => show::run(context, &args).await,
            JobCommand::Add(args) => add::run(context, &args).await,
        }
    }
}
