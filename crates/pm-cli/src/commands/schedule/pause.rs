//! `pm schedule pause`

use super::not_found;
use crate::context::Context;
use crate::error::CommandError;
use crate::input::parse_schedule;
use pm_core::ScheduleName;
use serde::Serialize;

/// Pauses a schedule: it adds no jobs until it is resumed
///
/// Jobs that it has added are not affected. Ticks during the pause do not count as missed.
///
/// Example:
///   pm schedule pause nightly
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct PauseArgs {
    /// The schedule
    #[arg(value_name = "SCHEDULE", value_parser = parse_schedule)]
    schedule: ScheduleName,
}

#[derive(Serialize)]
struct Paused<'a> {
    schedule: &'a str,
}

pub(super) async fn run(context: &mut Context, args: &PauseArgs) -> Result<(), CommandError> {
    let name = args.schedule.as_str();
    if !context.connect().await?.pause_schedule(name).await? {
        return Err(not_found(&args.schedule));
    }
    context.output.done(&Paused { schedule: name }, &format!("Paused schedule \"{name}\"."))
}
