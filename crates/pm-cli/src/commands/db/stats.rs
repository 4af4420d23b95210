//! `pm db stats`

use crate::context::Context;
use crate::error::CommandError;
use crate::render::StatsView;

/// Shows statistics: jobs by status, the oldest waiting job, rates, table sizes
///
/// The cost is bounded, whatever the number of jobs. Counts of up to 10,000 jobs per status are
/// exact. The rates count the jobs added and ended in the last 5m: exactly among the newest 20,000
/// jobs, and also among older ones while the job table is at most 16 MB. A number marked ~ is an
/// estimate from a sample of the table. Jobs deleted in this time are not counted. The oldest
/// waiting job is the job at the front of its line that has waited longest since it was added or
/// became due; paused jobs and jobs not yet due do not count. The rows of a table are as of its
/// last vacuum.
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
