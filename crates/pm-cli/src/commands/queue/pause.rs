//! `pm queue pause`

use super::jobs_are;
use crate::context::Context;
use crate::error::CommandError;
use crate::input::parse_queue;
use pm_core::QueueName;
use serde::Serialize;

/// Pauses a queue: its jobs wait until it is resumed
///
/// Jobs in progress continue. New jobs and retries wait too.
///
/// Example:
///   pm queue pause mail
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct PauseArgs {
    /// The queue
    #[arg(value_name = "QUEUE", value_parser = parse_queue)]
    queue: QueueName,
}

#[derive(Serialize)]
struct Paused<'a> {
    queue: &'a str,
    /// How many jobs are paused now.
    #[serde(rename = "held")]
    paused: u64,
}

pub(super) async fn run(context: &mut Context, args: &PauseArgs) -> Result<(), CommandError> {
    let queue = args.queue.as_str();
    let paused = context.connect().await?.pause_queue(queue).await?;
    let sentence = format!("Paused queue \"{queue}\": {} paused now.", jobs_are(paused));
    context.output.done(&Paused { queue, paused }, &sentence)
}
