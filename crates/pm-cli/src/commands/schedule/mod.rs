//! Commands about schedules.

mod set;

use crate::context::Context;
use crate::error::CommandError;
use crate::render::Value;
use pm_core::ScheduleName;

/// Manages schedules, which add jobs at the ticks of a cron expression
///
/// Example:
///   pm schedule ls
#[derive(clap::Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum ScheduleCommand {
    /// Lists schedules with their next and last ticks
    ///
    /// A next tick in the past means that no process fires schedules: run a worker or `pm reap`.
    ///
    /// Example:
    ///   pm schedule ls
    ///   pm schedule ls --json
    #[command(verbatim_doc_comment)]
    Ls,
    /// Shows a schedule with the payload of its jobs
    ///
    /// Example:
    ///   pm schedule show nightly
    #[command(verbatim_doc_comment)]
    Show(ScheduleArgs),
    Set(set::SetArgs),
    /// Pauses a schedule: it adds no jobs until it is resumed
    ///
    /// Jobs that it has added are not affected. Ticks during the pause do not count as missed.
    ///
    /// Example:
    ///   pm schedule pause nightly
    #[command(verbatim_doc_comment)]
    Pause(ScheduleArgs),
    /// Resumes a paused schedule at its next tick
    ///
    /// A schedule that is not paused is not changed.
    ///
    /// Example:
    ///   pm schedule resume nightly
    #[command(verbatim_doc_comment)]
    Resume(ScheduleArgs),
    /// Deletes a schedule; jobs that it has added are kept
    ///
    /// Example:
    ///   pm schedule delete nightly
    #[command(verbatim_doc_comment)]
    Delete(ScheduleArgs),
}

#[derive(clap::Args)]
pub(crate) struct ScheduleArgs {
    /// The schedule
    #[arg(value_name = "SCHEDULE", value_parser = ScheduleName::new)]
    schedule: ScheduleName,
}

impl ScheduleCommand {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), CommandError> {
        match self {
            ScheduleCommand::Ls => {
                let schedules = context.connect().await?.list_schedules().await?;
                context.output.rows(&schedules, "No schedules.")
            }
            ScheduleCommand::Show(args) => {
                let found = context.connect().await?.schedule(args.schedule.as_str()).await?;
                context.output.document(&found.ok_or_else(|| not_found(&args.schedule))?)
            }
            ScheduleCommand::Set(args) => set::run(context, &args).await,
            ScheduleCommand::Pause(args) => {
                let found = context.connect().await?.pause_schedule(args.schedule.as_str()).await?;
                report(context, "Paused", &args.schedule, found)
            }
            ScheduleCommand::Resume(args) => {
                let found = context.connect().await?.resume_schedule(args.schedule.as_str()).await?;
                report(context, "Resumed", &args.schedule, found)
            }
            ScheduleCommand::Delete(args) => {
                let found = context.connect().await?.delete_schedule(args.schedule.as_str()).await?;
                report(context, "Deleted", &args.schedule, found)
            }
        }
    }
}

/// Reports what was done, unless the schedule was not found.
fn report(context: &mut Context, done: &str, name: &ScheduleName, found: bool) -> Result<(), CommandError> {
    if !found {
        return Err(not_found(name));
    }
    context.output.done(&Value::named([("schedule", name.as_str().into())]), &format!("{done} schedule \"{name}\"."))
}

fn not_found(name: &ScheduleName) -> CommandError {
    CommandError::refused(format!("schedule \"{name}\" not found")).hint_command("list schedules", "schedule ls")
}
