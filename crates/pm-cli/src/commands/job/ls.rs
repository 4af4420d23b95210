//! `pm job ls`

use crate::context::Context;
use crate::error::CommandError;
use crate::input::parse_state;
use pm_core::{IdSuffix, QueueName, State};
use pm_driver_tokio_postgres::JobFilter;

/// Lists jobs, newest first
///
/// For the next page, pass the last id of this page to --after. Jobs with a rare status are found
/// by scanning back through the others: in a large table that takes a while.
///
/// Example:
///   pm job ls --queue mail --status failed --limit 20
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct LsArgs {
    /// Only jobs of this queue
    #[arg(short, long, value_name = "QUEUE", value_parser = QueueName::new)]
    queue: Option<QueueName>,
    /// Only jobs that are pending, paused, in-progress, finished or failed
    #[arg(short, long, value_name = "STATUS", value_parser = parse_state)]
    status: Option<State>,
    /// The most jobs to list, up to 100000
    #[arg(short, long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Only jobs older than this one
    #[arg(long, value_name = "ID", value_parser = IdSuffix::new, allow_hyphen_values = true)]
    after: Option<IdSuffix>,
}

pub(super) async fn run(context: &mut Context, args: &LsArgs) -> Result<(), CommandError> {
    let queue = context.connect().await?;
    let mut filter = JobFilter::default().limit(args.limit as usize);
    filter.queue = args.queue.as_ref().map(QueueName::to_string);
    filter.state = args.status;
    if let Some(after) = &args.after {
        filter.after = Some(crate::id::resolve(&queue, after).await?);
    }
    let jobs = queue.list_jobs(filter).await?;
    context.output.rows(&jobs, "No jobs.")
}
