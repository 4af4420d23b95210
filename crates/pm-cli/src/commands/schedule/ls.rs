//! `pm schedule ls`

use crate::context::Context;
use crate::error::CommandError;
use crate::render::{Format, ScheduleView, schedule_table};

/// Lists schedules with their next and last ticks
///
/// A next tick in the past means that no process fires schedules: run a worker or `pm reap`.
///
/// Example:
///   pm schedule ls
///   pm schedule ls --json
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct LsArgs {}

pub(super) async fn run(context: &mut Context) -> Result<(), CommandError> {
    let schedules = context.connect().await?.list_schedules().await?;
    if schedules.is_empty() && context.output.format() == Format::Human {
        context.output.message("No schedules.");
    }
    let views: Vec<_> = schedules.into_iter().map(ScheduleView::new).collect();
    context.output.rows(&views, schedule_table)
}
