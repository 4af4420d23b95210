//! Commands about schedules.

mod delete;
mod ls;
mod pause;
mod resume;
mod set;
mod show;

use crate::context::Context;
use crate::error::CommandError;
use pm_core::ScheduleName;

/// Manages schedules, which add jobs at the ticks of a cron expression
///
/// Example:
///   pm schedule ls
#[derive(clap::Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum ScheduleCommand {
    Ls(ls::LsArgs),
    Show(show::ShowArgs),
    Set(set::SetArgs),
    Pause(pause::PauseArgs),
    Resume(resume::ResumeArgs),
    Delete(delete::DeleteArgs),
}

impl ScheduleCommand {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), CommandError> {
        match self {
            ScheduleCommand::Ls(_) => ls::run(context).await,
            ScheduleCommand::Show(args) => show::run(context, &args).await,
            ScheduleCommand::Set(args) => set::run(context, &args).await,
            ScheduleCommand::Pause(args) => pause::run(context, &args).await,
            ScheduleCommand::Resume(args) => resume::run(context, &args).await,
            ScheduleCommand::Delete(args) => delete::run(context, &args).await,
        }
    }
}

fn not_found(name: &ScheduleName) -> CommandError {
    CommandError::refused(format!("schedule \"{name}\" not found")).hint("list schedules: pm schedule ls")
}
