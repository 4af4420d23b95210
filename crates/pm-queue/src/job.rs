//! Jobs as handlers get them.

use crate::ack::JobAck;
use pm_core::{ClaimedJob, Codec, Timestamp};
use std::sync::Arc;
use uuid::Uuid;

/// A job in a handler's hands: its payload, what is known of it, and its ack.
///
/// Dropping it is dropping its ack: the job is soft-failed.
#[derive(Debug)]
#[must_use = "dropping a job soft-fails it"]
pub struct PendingJob<T> {
    payload: T,
    metadata: PendingMetadata,
    ack: JobAck,
}

/// What a handler may know of a job besides its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingMetadata {
    /// Its id.
    pub id: Uuid,
    /// The queue it was found on.
    pub queue: Arc<str>,
    /// Higher first.
    pub priority: i32,
    /// How often it was claimed, this time included.
    pub attempt: u32,
    /// Soft failures since it was created or last restarted.
    pub retry_count: u32,
    /// When it was put on a queue, by the database's clock.
    pub created_at: Timestamp,
    /// How its payload is written.
    pub codec: Codec,
    /// For people.
    pub description: Option<String>,
    /// Its key.
    pub key: Option<String>,
}

impl<T> PendingJob<T> {
    pub(crate) fn new(payload: T, job: ClaimedJob, queue: Arc<str>, ack: JobAck) -> Self {
        let metadata = PendingMetadata {
            id: job.lease.job,
            queue,
            priority: job.priority,
            attempt: job.attempt,
            retry_count: job.retry_count,
            created_at: job.created_at,
            codec: job.codec,
            description: job.description,
            key: job.key,
        };
        PendingJob { payload, metadata, ack }
    }

    /// Returns the job's id.
    pub fn id(&self) -> Uuid {
        self.metadata.id
    }

    /// Returns what is known of the job.
    pub fn metadata(&self) -> &PendingMetadata {
        &self.metadata
    }

    /// Returns the payload.
    pub fn payload(&self) -> &T {
        &self.payload
    }

    /// Returns the payload and the ack, each to go its own way.
    pub fn into_parts(self) -> (T, JobAck) {
        (self.payload, self.ack)
    }
}
