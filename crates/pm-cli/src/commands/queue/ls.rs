//! `pm queue ls`

use crate::context::Context;
use crate::error::CommandError;
use crate::render::{Format, QueueView, queue_table};

/// Lists queues with the number of their jobs by status
///
/// Pending jobs of a paused queue count as paused. Counting is cheap, whatever the number of jobs:
/// counts of up to 10,000 are exact; larger ones may be estimates from a sample of the table, which
/// are marked with ~.
///
/// Example:
///   pm queue ls
///   pm queue ls --json
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct LsArgs {}

pub(super) async fn run(context: &mut Context) -> Result<(), CommandError> {
    let queues = context.connect().await?.list_queues().await?;
    if queues.is_empty() && context.output.format() == Format::Human {
        context.output.message("No queues.");
    }
    let views: Vec<_> = queues.iter().map(QueueView::new).collect();
    context.output.rows(&views, queue_table)
}
