//! The queries of `pm top`.

use super::super::job::read_job;
use super::view::{QueueLine, Snapshot};
use pm_core::State;
use pm_driver_tokio_postgres::{Error, JobFilter, Queue, QueueStats, Uuid};
use std::cmp::Reverse;

/// How many jobs in progress are read, the newest ones.
const MAX_LEASES: usize = 1_000;
/// How many failures are read.
const MAX_FAILURES: usize = 100;

impl Snapshot {
    /// Reads queues, leases and failures.
    pub(super) async fn take(queue: &Queue) -> Result<Snapshot, Error> {
        let stats = queue.stats().await?;
        let filter = JobFilter::default();
        let mut leases = queue.list_jobs(filter.clone().state(State::InProgress).limit(MAX_LEASES)).await?;
        leases.sort_by_key(|job| job.lease_expires_at);
        let mut failures = queue.list_jobs(filter.state(State::Failed).limit(MAX_FAILURES)).await?;
        failures.sort_by_key(|job| Reverse(job.ended_at));
        let queues = stats.queues.into_iter().map(line).collect();
        Ok(Snapshot { queues, window: stats.window, leases, failures })
    }
}

/// Returns a job as `pm job show` prints it, if it exists.
pub(super) async fn job(queue: &Queue, id: Uuid) -> Result<Option<String>, Error> {
    Ok(read_job(queue, id).await?.map(|job| job.document()))
}

fn line(stats: QueueStats) -> QueueLine {
    QueueLine {
        name: stats.queue.name.clone(),
        paused: stats.queue.paused,
        counts: stats.queue.counts,
        oldest: stats.oldest_waiting,
        lately: [stats.enqueued, stats.finished, stats.failed],
    }
}
