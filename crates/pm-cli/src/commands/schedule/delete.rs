//! `pm schedule delete`

use super::not_found;
use crate::context::Context;
use crate::error::CommandError;
use crate::input::parse_schedule;
use pm_core::ScheduleName;
use serde::Serialize;

/// Deletes a schedule; jobs that it has added are kept
///
/// Example:
///   pm schedule delete nightly
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct DeleteArgs {
    /// The schedule
    #[arg(value_name = "SCHEDULE", value_parser = parse_schedule)]
    schedule: ScheduleName,
}

#[derive(Serialize)]
struct Deleted<'a> {
    schedule: &'a str,
}

pub(super) async fn run(context: &mut Context, args: &DeleteArgs) -> Result<(), CommandError> {
    let name = args.schedule.as_str();
    if !context.connect().await?.delete_schedule(name).await? {
        return Err(not_found(&args.schedule));
    }
    context.output.done(&Deleted { schedule: name }, &format!("Deleted schedule \"{name}\"."))
}
