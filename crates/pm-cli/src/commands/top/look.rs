//! The queries of `pm top`.

use super::super::job::read_job;
use super::view::{Failure, Lease, QueueLine, Snapshot};
use pm_core::State;
use pm_driver_tokio_postgres::{Error, JobFilter, JobMetadata, Queue, QueueStats, Uuid};

/// How many jobs in progress are read, the newest ones.
const MAX_LEASES: usize = 1_000;
/// How many failures are read.
const MAX_FAILURES: usize = 100;

impl Snapshot {
    /// Reads queues, leases and failures.
    pub(super) async fn take(queue: &Queue) -> Result<Snapshot, Error> {
        let stats = queue.stats().await?;
        let filter = JobFilter::default();
        let in_progress = queue.list_jobs(filter.clone().state(State::InProgress).limit(MAX_LEASES)).await?;
        let failed = queue.list_jobs(filter.state(State::Failed).limit(MAX_FAILURES)).await?;
        let mut leases: Vec<_> = in_progress.iter().map(lease).collect();
        leases.sort_by_key(|lease| lease.ends_in_s);
        let mut failures: Vec<_> = failed.iter().map(failure).collect();
        failures.sort_by_key(|failure| failure.ago_s);
        let window = stats.window;
        Ok(Snapshot { queues: stats.queues.into_iter().map(line).collect(), window, leases, failures })
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

fn lease(job: &JobMetadata) -> Lease {
    let until = job.lease_expires_at.unwrap_or(job.read_at);
    Lease {
        id: job.id,
        queue: job.queue.clone(),
        worker: job.worker.clone().unwrap_or_default(),
        attempt: job.attempt,
        ends_in_s: (until.unix_us() - job.read_at.unix_us()) / 1_000_000,
    }
}

fn failure(job: &JobMetadata) -> Failure {
    let ended = job.ended_at.unwrap_or(job.read_at);
    Failure {
        id: job.id,
        queue: job.queue.clone(),
        ago_s: job.read_at.unix_us().saturating_sub(ended.unix_us()).unsigned_abs() / 1_000_000,
        reason: job.reason.clone().unwrap_or_default(),
    }
}
