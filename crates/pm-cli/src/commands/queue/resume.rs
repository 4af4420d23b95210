//! `pm queue resume`

use crate::context::Context;
use crate::error::CommandError;
use crate::input::parse_queue;
use crate::render::jobs;
use pm_core::QueueName;
use serde::Serialize;

/// Resumes a queue and its paused jobs
///
/// Jobs that were added with --paused are resumed too.
///
/// Example:
///   pm queue resume mail
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ResumeArgs {
    /// The queue
    #[arg(value_name = "QUEUE", value_parser = parse_queue)]
    queue: QueueName,
}

#[derive(Serialize)]
struct Resumed<'a> {
    queue: &'a str,
    /// How many jobs were resumed.
    #[serde(rename = "freed")]
    resumed: u64,
}

pub(super) async fn run(context: &mut Context, args: &ResumeArgs) -> Result<(), CommandError> {
    let queue = args.queue.as_str();
    let resumed = context.connect().await?.resume_queue(queue).await?;
    let sentence = format!("Resumed queue \"{queue}\": {} resumed.", jobs(resumed));
    context.output.done(&Resumed { queue, resumed }, &sentence)
}
