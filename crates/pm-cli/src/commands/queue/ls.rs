//! `pm queue ls`

use crate::context::Context;
use crate::error::CommandError;
use crate::render::{Format, QueueView, queue_table};

/// Lists queues with the number of their jobs by status
///
/// Jobs of a paused queue that would be pending count as paused. Counting is cheap
/// however many jobs there are: up to 10,000 the numbers are exact, beyond they may be
/// estimated from a sample of the table and are marked with ~.
///
/// Example:
///   pm queue ls
///   pm queue ls --json
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct LsArgs {}

pub(super) async fn run(context: &mut Context) -> Result<(), CommandError> {
    let queues = context.connect().await?.list_queues().await?;
    if queues.is_empty() && context.output.format() == Format::People {
        context.output.say("No queues.");
    }
    let views: Vec<_> = queues.iter().map(QueueView::new).collect();
    context.output.rows(&views, queue_table)
}
