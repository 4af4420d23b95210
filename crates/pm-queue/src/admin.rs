//! What operators do: queues, settings, looking at jobs, reaping.

use crate::codec::RawPayload;
use crate::{Error, ErrorKind, JobFilter, Queue};
use pm_core::op::{
    AttemptRecord, Attempts, CountPending, CreateQueue, GetJob, GetSettings, JobMatch, ListJobs, ListQueues,
    PauseQueue, Payload, QueueSummary, Reap, ResolveSuffix, ResumeQueue, SetQueue,
};
use pm_core::{IdSuffix, JobMetadata, QueueName, QueueSettings, SettingsChange, State};
use std::time::Duration;
use uuid::Uuid;

/// A suffix is first looked for among so many of the newest jobs.
const NEWEST: usize = 20_000;
/// The most jobs that `list_pending` returns.
const MOST_PENDING: usize = 10_000;
/// The most leases one statement reaps.
const REAPED_AT_ONCE: usize = 500;

impl Queue {
    /// Creates a queue, paused or not; returns whether it was created.
    ///
    /// One of that name that exists is left as it is, its pause included.
    ///
    /// # Errors
    ///
    /// `Invalid` for a bad name: 1 to 200 bytes, no control characters, no blank at either end.
    pub async fn create_queue(&self, name: &str, paused: bool) -> Result<bool, Error> {
        let created = self.run(CreateQueue { name: QueueName::new(name)?, paused }).await?;
        self.notice_change();
        Ok(created)
    }

    /// Pauses a queue; returns how many jobs are now held.
    ///
    /// One write, whatever the number of jobs: claims read the flag, so nothing that waits, comes in or is retried
    /// leaks. Work in progress goes on. Counting costs about 0.2 µs a job.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`.
    pub async fn pause_queue(&self, name: &str) -> Result<u64, Error> {
        let queue_id = self.run(PauseQueue { name: QueueName::new(name)? }).await?;
        self.notice_change();
        self.notify_change(queue_id);
        self.run(CountPending { queue_id }).await
    }

    /// Resumes a queue; returns how many jobs are set free, those enqueued as `Paused` included.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`.
    pub async fn resume_queue(&self, name: &str) -> Result<u64, Error> {
        let resumed = self.run(ResumeQueue { name: QueueName::new(name)? }).await?;
        self.notice_change();
        self.notify_change(resumed.queue_id);
        match resumed.was_paused {
            true => self.run(CountPending { queue_id: resumed.queue_id }).await,
            false => Ok(resumed.freed),
        }
    }

    /// Returns all queues by name, with settings and the number of their jobs by state.
    ///
    /// The cost is bounded however large the tables are: counts are exact up to 10,000 and estimated beyond from a
    /// sample of at most 64 MB; finished jobs are exact while the table is no larger than that.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn list_queues(&self) -> Result<Vec<QueueSummary>, Error> {
        self.run(ListQueues::default()).await
    }

    /// Returns the settings of a queue.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`.
    pub async fn queue_settings(&self, name: &str) -> Result<QueueSettings, Error> {
        self.run(GetSettings { name: QueueName::new(name)? }).await
    }

    /// Changes settings of a queue, all or some; returns them as they stand then.
    ///
    /// Takes a whole [`QueueSettings`] or a [`SettingsChange`]. Claims to come go by the new lease; workers take up
    /// the new backoff with their next claim.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`; `Invalid` for a setting out of range.
    pub async fn set_queue_settings(
        &self,
        name: &str,
        settings: impl Into<SettingsChange>,
    ) -> Result<QueueSettings, Error> {
        self.run(SetQueue::new(QueueName::new(name)?, settings.into())?).await
    }

    /// Returns the jobs of a queue that are pending, newest first, at most 10,000.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`.
    pub async fn list_pending(&self, queue: &str) -> Result<Vec<JobMetadata>, Error> {
        self.list_jobs(JobFilter::default().queue(queue).state(State::Pending).limit(MOST_PENDING)).await
    }

    /// Returns jobs without their payloads, newest first.
    ///
    /// The cost is that of the rows walked until the limit is met.
    ///
    /// # Errors
    ///
    /// `QueueNotFound` when the filter names a queue that does not exist.
    pub async fn list_jobs(&self, filter: JobFilter) -> Result<Vec<JobMetadata>, Error> {
        let filter = filter.into_core()?;
        let queue = filter.queue.clone();
        let jobs = self.run(ListJobs { filter }).await?;
        if let (true, Some(name)) = (jobs.is_empty(), queue) {
            self.run(GetSettings { name }).await?;
        }
        Ok(jobs)
    }

    /// Returns a job without its payload, if it exists.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn get_job(&self, id: Uuid) -> Result<Option<JobMetadata>, Error> {
        self.run(GetJob { id }).await
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

    /// Returns the payload of a job as it is stored, if the job exists.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn payload(&self, id: Uuid) -> Result<Option<RawPayload>, Error> {
        let stored = self.run(Payload { id }).await?;
        Ok(stored.map(|stored| RawPayload { codec: stored.codec, bytes: stored.bytes }))
    }

    /// Returns the attempts of a job that ended otherwise than in success, oldest first.
    ///
    /// The successful one is told by the job itself. Jobs given back untried leave none.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn attempts(&self, id: Uuid) -> Result<Vec<AttemptRecord>, Error> {
        self.run(Attempts { id }).await
    }

    /// Returns the jobs whose id ends in these 1 to 32 hex digits, newest first, at most 11.
    ///
    /// Dashes are allowed anywhere. The newest 20,000 jobs are searched first, and all when none of them fits: then
    /// the whole table is read. So a suffix that fits a recent job may fit an older one as well; see
    /// [`Queue::resolve_ids_among_all`].
    ///
    /// # Errors
    ///
    /// `Invalid` when it is no suffix of an id.
    pub async fn resolve_ids(&self, suffix: &str) -> Result<Vec<JobMatch>, Error> {
        let suffix = IdSuffix::new(suffix)?;
        if let Some(id) = suffix.whole_id() {
            let job = self.get_job(id).await?;
            return Ok(job.map(|job| JobMatch { id, queue: job.queue, state: job.state }).into_iter().collect());
        }
        let recent = self.run(ResolveSuffix { suffix: suffix.clone(), newest: Some(NEWEST) }).await?;
        match recent.is_empty() {
            true => self.run(ResolveSuffix { suffix, newest: None }).await,
            false => Ok(recent),
        }
    }

    /// Does what [`Queue::resolve_ids`] does, always among all jobs: for what must not hit the wrong one.
    ///
    /// # Errors
    ///
    /// `Invalid` when it is no suffix of an id.
    pub async fn resolve_ids_among_all(&self, suffix: &str) -> Result<Vec<JobMatch>, Error> {
        let suffix = IdSuffix::new(suffix)?;
        match suffix.whole_id() {
            Some(_) => self.resolve_ids(suffix.digits()).await,
            None => self.run(ResolveSuffix { suffix, newest: None }).await,
        }
    }

    /// Ends expired leases with the reason `lease expired`; returns how many, and the time until the next one ends.
    ///
    /// `None` when nothing is in progress. Streams do this by themselves. Two at once share the work. The cost grows
    /// with the jobs in progress, not with the backlog.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn reap(&self) -> Result<(u64, Option<Duration>), Error> {
        let mut total = 0;
        loop {
            let reaped = self.run(Reap { limit: REAPED_AT_ONCE, seed: self.random_seed() }).await?;
            total += reaped.reaped;
            if reaped.reaped < REAPED_AT_ONCE as u64 {
                self.notice_change();
                return Ok((total, reaped.next_expiry));
            }
        }
    }
}
