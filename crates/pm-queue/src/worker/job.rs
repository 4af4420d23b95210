//! The jobs that handlers get.

use crate::JobAck;
use pm_core::{Codec, LeasedColumns, TakenJob, Timestamp};
use std::sync::Arc;
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
    /// When it was enqueued, by the database's clock.
    pub created_at: Timestamp,
    /// How the payload is encoded.
    pub codec: Codec,
    /// The description, a text for humans.
    pub description: Option<String>,
    /// The key, which keeps a second job of the same work off the queue.
    pub key: Option<String>,
}

impl<T> PendingJob<T> {
    pub(crate) fn new(payload: T, TakenJob { job, queue }: TakenJob, ack: JobAck) -> Self {
        let LeasedColumns { priority, attempt, retry_count, created_at, codec, description, key, .. } = job.columns;
        let id = job.lease.job;
        let metadata =
            PendingMetadata { id, queue, priority, attempt, retry_count, created_at, codec, description, key };
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

    /// Returns the payload.
    pub fn payload(&self) -> &T {
        &self.payload
    }

    /// Returns the payload and the ack.
    pub fn into_parts(self) -> (T, JobAck) {
        (self.payload, self.ack)
    }
}
