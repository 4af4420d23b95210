//! The options of a worker, and the limit of its batches.

use crate::QueueName;
use std::time::Duration;

/// The maximum number of jobs in one claim, extension or settle.
pub(super) const MAX_BATCH: usize = 500;

/// The options of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerOptions {
    /// The queues from which it claims jobs; empty for a worker that only settles [adopted](super::Worker::adopt) jobs.
    pub queues: Vec<QueueName>,
    /// Its human-readable name.
    pub worker: String,
    /// The maximum number of jobs that it claims ahead.
    pub prefetch: usize,
    /// For how long after its start the lease of a job is extended; `None` for never.
    pub heartbeat: Option<Duration>,
    /// The minimum time between two polls while there are no jobs.
    pub poll_least: Duration,
    /// The maximum time between two polls while there are no jobs.
    pub poll_most: Duration,
    /// Whether it reaps expired leases, also those of other workers, and fires schedules.
    pub reaps: bool,
    /// The channel on which it notifies idle workers of other processes:
    /// [`Notification::channel`](crate::op::Notification::channel).
    pub channel: String,
    /// The time after which the server has certainly cancelled a statement.
    pub statement_timeout: Duration,
}
