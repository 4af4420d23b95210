//! `pm schedule resume`

use super::not_found;
use crate::context::Context;
use crate::error::CommandError;
use crate::input::parse_schedule;
use pm_core::ScheduleName;
use serde::Serialize;

/// Resumes a paused schedule at its next tick
///
/// A schedule that is not paused is not changed.
///
/// Example:
///   pm schedule resume nightly
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ResumeArgs {
    /// The schedule
    #[arg(value_name = "SCHEDULE", value_parser = parse_schedule)]
    schedule: ScheduleName,
}

#[derive(Serialize)]
struct Resumed<'a> {
    schedule: &'a str,
}

pub(super) async fn run(context: &mut Context, args: &ResumeArgs) -> Result<(), CommandError> {
    let name = args.schedule.as_str();
    if !context.connect().await?.resume_schedule(name).await? {
        return Err(not_found(&args.schedule));
    }
    context.output.done(&Resumed { schedule: name }, &format!("Resumed schedule \"{name}\"."))
}
