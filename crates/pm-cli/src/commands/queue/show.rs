//! `pm queue show`

use crate::context::Context;
use crate::error::CommandError;
use crate::input::parse_queue;
use crate::render::QueueView;
use pm_core::QueueName;

/// Shows a queue with its settings and the number of its jobs by status
///
/// Example:
///   pm queue show mail
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ShowArgs {
    /// The queue
    #[arg(value_name = "QUEUE", value_parser = parse_queue)]
    queue: QueueName,
}

pub(super) async fn run(context: &mut Context, args: &ShowArgs) -> Result<(), CommandError> {
    let queues = context.connect().await?.list_queues().await?;
    let found = queues.iter().find(|queue| queue.name == args.queue.as_str());
    let queue = found.ok_or_else(|| pm_core::Error::QueueNotFound(args.queue.to_string()))?;
    context.output.document(&QueueView::new(queue), QueueView::yaml)
}
