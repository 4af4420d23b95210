//! The jobs that handlers get.

use crate::JobAck;
use pm_core::{Codec, JobTrace, TakenJob, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// A claimed job: its payload, its metadata and its ack.
///
/// Take it apart with [`PendingJob::into_parts`] and settle the job through the ack. Dropping it soft-fails the job.
#[derive(Debug)]
#[must_use = "dropping a job soft-fails it"]
pub struct PendingJob<T> {
    payload: T,
    metadata: PendingMetadata,
    ack: JobAck,
}

/// The metadata of a claimed job.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingMetadata {
    /// The job's id.
    pub id: Uuid,
    /// The queue it was claimed from.
    pub queue: Arc<str>,
    /// The priority; higher comes first.
    pub priority: i32,
    /// The number of attempts, this one included. The first attempt is 1.
    pub attempt: u32,
    /// The number of soft failures since the job was created or last restarted.
    pub retry_count: u32,
    /// How many soft failures are retried: one more, and the job has failed.
    pub max_retries: u32,
    /// How often a handler has [put it off](JobAck::snooze) since then.
    pub snoozes: u32,
    /// How long this attempt may take, by the job's options or its queue's setting; `None` for any time. [`Queue::run`]
    /// sees to it; in a loop of your own you do. The lease ends 30 s after this at the latest, counted from the claim.
    ///
    /// [`Queue::run`]: crate::Queue::run
    pub timeout: Option<Duration>,
    /// When it was enqueued, by the database's clock.
    pub created_at: Timestamp,
    /// How the payload is encoded.
    pub codec: Codec,
    /// The description, a text for humans.
    pub description: Option<String>,
    /// The key, which keeps a second job of the same work off the queue.
    pub key: Option<String>,
    /// How this attempt relates to the span in which the job was enqueued; `None` if the job was stored without one.
    pub trace: Option<JobTrace>,
}

impl PendingMetadata {
    /// Returns whether the job has failed if this attempt soft-fails: no retry is left.
    pub fn is_last_attempt(&self) -> bool {
        self.retry_count >= self.max_retries
    }
}

impl<T> PendingJob<T> {
    pub(crate) fn new(payload: T, TakenJob { job, queue, max_retries }: TakenJob, ack: JobAck) -> Self {
        let trace = job.trace();
        let columns = job.columns;
        let metadata = PendingMetadata {
            id: job.lease.job,
            queue,
            priority: columns.priority,
            attempt: columns.attempt,
            retry_count: columns.retry_count,
            max_retries,
            snoozes: columns.snoozes.unwrap_or_default(),
            timeout: columns.timeout,
            created_at: columns.created_at,
            codec: columns.codec,
            description: columns.description,
            key: columns.key,
            trace,
        };
        PendingJob { payload, metadata, ack }
    }

    /// Returns the job's id.
    pub fn id(&self) -> Uuid {
        self.metadata.id
    }

    /// Returns the job's metadata.
    pub fn metadata(&self) -> &PendingMetadata {
        &self.metadata
    }

    /// Returns the span of `tracing` of this attempt; see [`JobAck::span`].
    #[cfg(feature = "tracing")]
    pub fn span(&self) -> tracing::Span {
        self.ack.span()
    }

    /// Returns the payload.
    pub fn payload(&self) -> &T {
        &self.payload
    }

    /// Returns the payload and the ack.
    pub fn into_parts(self) -> (T, JobAck) {
        (self.payload, self.ack)
    }

    /// Returns the payload, the metadata and the ack.
    pub fn into_parts_with_metadata(self) -> (T, PendingMetadata, JobAck) {
        (self.payload, self.metadata, self.ack)
    }
}
