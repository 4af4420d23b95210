//! Operations on single jobs: list, show, find by suffix, copy.

use crate::codec::RawPayload;
use crate::{EnqueueOptions, Error, ErrorKind, JobFilter, Queue};
use pm_core::op::{
    AttemptRecord, Attempts, CopyJob, Head, Job, JobResult, ListJobs, NextJobs, Payload, ResolveSuffix, Settings,
};
use pm_core::{IdSuffix, JobMetadata, QueueName, State};
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// How many of the newest jobs are searched for a suffix before all jobs are.
const NEWEST_JOBS: usize = 20_000;
/// The maximum number of jobs that `list_pending` returns.
const MAX_PENDING: usize = 10_000;

impl Queue {
    /// Returns the pending jobs of a queue without their payloads, newest first, at most 10,000.
    ///
    /// While the queue is paused its jobs count as paused, not as pending.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`.
    pub async fn list_pending(&self, queue: &str) -> Result<Vec<JobMetadata>, Error> {
        self.list_jobs(JobFilter::default().queue(queue).state(State::Pending).limit(MAX_PENDING)).await
    }

    /// Returns jobs without their payloads, newest first.
    ///
    /// Reads jobs from the newest on until `filter.limit` of them match: with a rare state or queue that may be the
    /// whole table. For failed jobs and jobs in progress an index is used.
    ///
    /// # Errors
    ///
    /// `QueueNotFound` when the filter names a queue that does not exist.
    pub async fn list_jobs(&self, filter: JobFilter) -> Result<Vec<JobMetadata>, Error> {
        let queue = filter.queue.as_deref().map(QueueName::new).transpose()?;
        let jobs = self.execute(ListJobs { filter }).await?;
        if let (true, Some(name)) = (jobs.is_empty(), queue) {
            self.execute(Settings { name }).await?;
        }
        Ok(jobs)
    }

    /// Returns the jobs of a queue that would be claimed next, without their payloads, and whether the queue is paused.
    ///
    /// Only reads: another worker may claim the jobs at any moment. The cost does not depend on the size of the
    /// backlog.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`.
    pub async fn next_jobs(&self, queue: &str, limit: usize) -> Result<Head, Error> {
        self.execute(NextJobs { queue: QueueName::new(queue)?, limit }).await
    }

    /// Returns a job without its payload, if it exists.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn get_job(&self, id: Uuid) -> Result<Option<JobMetadata>, Error> {
        self.execute(Job { id }).await
    }

    /// Returns a job without its payload.
    ///
    /// # Errors
    ///
    /// `JobNotFound`.
    pub async fn job(&self, id: Uuid) -> Result<JobMetadata, Error> {
        let missing = || Error::new(ErrorKind::JobNotFound, format!("job {id} not found"));
        self.get_job(id).await?.ok_or_else(missing)
    }

    /// Returns the stored payload of a job, without decoding it, if the job exists.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn payload(&self, id: Uuid) -> Result<Option<RawPayload>, Error> {
        let stored = self.execute(Payload { id }).await?;
        Ok(stored.map(|stored| RawPayload { codec: stored.codec, bytes: stored.bytes }))
    }

    /// Returns the result with which a job was [committed](crate::JobAck::commit_with), decoded as `T`; `None` if the
    /// job has none, has not finished, or does not exist.
    ///
    /// One statement, which transfers the result: up to 1 MiB. Results are not part of listings;
    /// [`JobMetadata::result_bytes`] tells whether there is one. A restart clears it, and copies have none.
    ///
    /// # Errors
    ///
    /// `Payload` when the result cannot be decoded as `T`; `Unavailable`, `Schema` or `Database`.
    pub async fn result<T: DeserializeOwned>(&self, id: Uuid) -> Result<Option<T>, Error> {
        let Some(stored) = self.execute(JobResult { id }).await? else { return Ok(None) };
        let refused = |error: serde_json::Error| {
            let message = format!("the result of job {id} cannot be decoded: {error}");
            Error::new(ErrorKind::Payload, message).with_source(error)
        };
        serde_json::from_str(&stored).map(Some).map_err(refused)
    }

    /// Returns the unsuccessful attempts of a job, oldest first.
    ///
    /// The job itself records the successful one. A release leaves no record.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn attempts(&self, id: Uuid) -> Result<Vec<AttemptRecord>, Error> {
        self.execute(Attempts { id }).await
    }

    /// Returns the jobs whose id ends in these 1 to 32 hex digits, newest first, at most 11.
    ///
    /// Dashes are allowed anywhere. The newest 20,000 jobs are searched first; if none matches, the whole table is
    /// read. So a suffix that matches a recent job may also match an older one; [`Queue::resolve_ids_among_all`] finds
    /// both.
    ///
    /// # Errors
    ///
    /// `Invalid` when `suffix` is not 1 to 32 hex digits.
    pub async fn resolve_ids(&self, suffix: &str) -> Result<Vec<JobMetadata>, Error> {
        let suffix = IdSuffix::new(suffix)?;
        if let Some(id) = suffix.whole_id() {
            return Ok(self.get_job(id).await?.into_iter().collect());
        }
        let recent = self.execute(ResolveSuffix { suffix: suffix.clone(), newest: Some(NEWEST_JOBS) }).await?;
        match recent.is_empty() {
            true => self.execute(ResolveSuffix { suffix, newest: None }).await,
            false => Ok(recent),
        }
    }

    /// Does what [`Queue::resolve_ids`] does, but always searches all jobs. For actions that must not hit the wrong
    /// job.
    ///
    /// # Errors
    ///
    /// `Invalid` when `suffix` is not 1 to 32 hex digits.
    pub async fn resolve_ids_among_all(&self, suffix: &str) -> Result<Vec<JobMetadata>, Error> {
        let suffix = IdSuffix::new(suffix)?;
        match suffix.whole_id() {
            Some(_) => self.resolve_ids(suffix.digits()).await,
            None => self.execute(ResolveSuffix { suffix, newest: None }).await,
        }
    }

    /// Creates a job with the payload of another and returns its id. The payload is stored once and shared.
    ///
    /// The copy inherits priority (unless the options give one other than 0), description, number of retries and
    /// timeout unless the options give others, and always the delays and the jitter. It expires only if the options say
    /// so. The options `codec`, `key_hold`, `on_conflict`, `backoff`, `jitter_percent` and `trace` have no effect: a
    /// key is reserved while the copy is active, and its attempts are linked to the span in which the copied job was
    /// enqueued.
    ///
    /// # Errors
    ///
    /// `JobNotFound`, `QueueNotFound`; `KeyConflict` when the key is reserved in the queue; `Invalid`.
    pub async fn copy_job(&self, id: Uuid, queue: &str, options: EnqueueOptions) -> Result<Uuid, Error> {
        let job = self.new_job(QueueName::new(queue)?, bytes::Bytes::new(), options)?;
        let copied = job.id;
        let queue_id = self.execute(CopyJob { source: id, job }).await?;
        self.notify_of_change(queue_id);
        Ok(copied)
    }
}
