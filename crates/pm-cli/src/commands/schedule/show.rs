//! `pm schedule show`

use super::not_found;
use crate::context::Context;
use crate::error::CommandError;
use crate::input::parse_schedule;
use crate::render::ScheduleView;
use pm_core::ScheduleName;

/// Shows a schedule with the payload of its jobs
///
/// Example:
///   pm schedule show nightly
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ShowArgs {
    /// The schedule
    #[arg(value_name = "SCHEDULE", value_parser = parse_schedule)]
    schedule: ScheduleName,
}

pub(super) async fn run(context: &mut Context, args: &ShowArgs) -> Result<(), CommandError> {
    let found = context.connect().await?.schedule(args.schedule.as_str()).await?;
    let found = found.ok_or_else(|| not_found(&args.schedule))?;
    context.output.document(&ScheduleView::new(found), ScheduleView::yaml)
}
