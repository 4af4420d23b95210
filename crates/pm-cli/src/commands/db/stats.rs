//! `pm db stats`

use crate::context::Context;
use crate::error::CommandError;
use crate::render::StatsView;

/// Tells how the queues are doing: jobs by status, who waits how long, rates, table sizes
///
/// The cost is bounded however many jobs there are. Numbers of jobs up to 10,000 a status are
/// exact. What came in and ended in the last 5m is exact among the newest 20,000 jobs, and among
/// older ones while the table of jobs is no larger than 16 MB; a number marked ~ is estimated
/// from a sample of the table. Jobs deleted meanwhile count nowhere. The oldest waiting job is
/// the one first in line whose time since it was added, or became due, is longest; none is
/// counted that is held or not yet due. The rows of a table are as of its last vacuum.
///
/// Example:
///   pm db stats
///   pm db stats --json | jq '.queues[] | {name, oldest_waiting_ms}'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct StatsArgs {}

pub(super) async fn run(context: &mut Context) -> Result<(), CommandError> {
    let stats = context.connect().await?.stats().await?;
    context.output.tables(&StatsView::new(stats), StatsView::tables)
}
