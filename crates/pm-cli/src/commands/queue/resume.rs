//! `pm queue resume`

use super::jobs_are;
use crate::context::Context;
use crate::error::CommandError;
use crate::input::parse_queue;
use pm_core::QueueName;
use serde::Serialize;

/// Resumes a queue: jobs that waited for it are set free
///
/// So are jobs that were added as paused.
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
    /// How many jobs were set free.
    freed: u64,
}

pub(super) async fn run(context: &mut Context, args: &ResumeArgs) -> Result<(), CommandError> {
    let queue = args.queue.as_str();
    let freed = context.connect().await?.resume_queue(queue).await?;
    let sentence = format!("Resumed queue \"{queue}\": {} set free.", jobs_are(freed));
    context.output.done(&Resumed { queue, freed }, &sentence)
}
