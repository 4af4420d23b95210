//! What operators do with jobs: look at them, restart, end, delete, move, copy.

use crate::codec::RawPayload;
use crate::{EnqueueOptions, Error, ErrorKind, JobFilter, Queue};
use pm_core::op::{
    AttemptRecord, Attempts, BulkReply, Change, CopyJob, DeleteJobs, EndJobs, GetJob, GetSettings, Head, JobMatch,
    ListJobs, MoveJobs, NextJobs, Payload, Precondition, ResolveSuffix, RestartJobs,
};
use pm_core::{Codec, Failure, IdSuffix, JobMetadata, Operation, QueueName, State};
use std::time::Duration;
use uuid::Uuid;

/// A suffix is first looked for among so many of the newest jobs.
const NEWEST: usize = 20_000;
/// The most jobs that `list_pending` returns.
const MOST_PENDING: usize = 10_000;
/// The most jobs that one statement changes.
const CHANGED_AT_ONCE: usize = 1_000;
/// How long to wait before locked jobs are tried again, the first time; twice as long each time after.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// How long to wait at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What an operator wants done to jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BulkAction {
    /// Make them pending again; see [`Queue::restart_jobs`].
    Restart {
        /// Whether jobs in progress are taken from their holders.
        force: bool,
    },
    /// Declare them finished; see [`Queue::finish_jobs`].
    Finish,
    /// Declare them failed; see [`Queue::fail_jobs`].
    Fail {
        /// Why.
        reason: String,
    },
    /// Delete them; see [`Queue::delete_jobs`].
    Delete,
    /// Move them; see [`Queue::move_jobs`].
    Move {
        /// The queue they go to.
        to: QueueName,
    },
}

/// What became of each of many jobs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BulkReport {
    changes: Vec<Change>,
}

impl BulkReport {
    /// Returns what became of each job, in the order of the ids given.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Returns how many jobs were changed.
    pub fn changed(&self) -> u64 {
        self.count(Change::Changed)
    }

    /// Returns of how many jobs this became.
    pub fn count(&self, change: Change) -> u64 {
        self.changes.iter().filter(|one| **one == change).count() as u64
    }
}

impl Queue {
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

    /// Returns the jobs of a queue that would be claimed next, without their payloads, and whether the queue is paused.
    ///
    /// It writes nothing and takes nothing: a moment later someone else may have the jobs. The cost is flat in the
    /// backlog.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`.
    pub async fn next_jobs(&self, queue: &str, limit: usize) -> Result<Head, Error> {
        self.run(NextJobs { queue: QueueName::new(queue)?, limit }).await
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

    /// Makes jobs pending again, ready at once, and resets their retry count; returns how many.
    ///
    /// Jobs in progress are only restarted with `force`: their holders then get `LeaseLost`. A paused queue still holds
    /// what was restarted. A job takes its key again; it is refused while another job of its queue has reserved that, also
    /// with `force`.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`; after an error some of the jobs may be changed. A job that another transaction
    /// has locked is tried again for [`lock_timeout`](crate::ConnectOptions::lock_timeout) and holds up no other; if it is
    /// locked still, the error is `Database`, with SQLSTATE 55P03.
    pub async fn restart_jobs(&self, ids: &[Uuid], force: bool) -> Result<u64, Error> {
        self.changed(BulkAction::Restart { force }, ids).await
    }

    /// Declares jobs failed, whoever holds them; returns how many. Jobs that ended already are refused.
    ///
    /// # Errors
    ///
    /// As [`Queue::restart_jobs`].
    pub async fn fail_jobs(&self, ids: &[Uuid], reason: &str) -> Result<u64, Error> {
        self.changed(BulkAction::Fail { reason: reason.to_owned() }, ids).await
    }

    /// Declares jobs finished, whoever holds them; returns how many. Jobs that ended already are refused.
    ///
    /// # Errors
    ///
    /// As [`Queue::restart_jobs`].
    pub async fn finish_jobs(&self, ids: &[Uuid]) -> Result<u64, Error> {
        self.changed(BulkAction::Finish, ids).await
    }

    /// Deletes jobs in any state; returns how many. The holder of one in progress gets `LeaseLost`.
    ///
    /// # Errors
    ///
    /// As [`Queue::restart_jobs`].
    pub async fn delete_jobs(&self, ids: &[Uuid]) -> Result<u64, Error> {
        self.changed(BulkAction::Delete, ids).await
    }

    /// Moves jobs to another queue; returns how many. They keep id, payload, priority and description.
    ///
    /// The lease of a job in progress stays valid. The jobs obey the target's pause. A job whose key is reserved in the
    /// target queue is refused.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`; otherwise as [`Queue::restart_jobs`].
    pub async fn move_jobs(&self, ids: &[Uuid], queue: &str) -> Result<u64, Error> {
        self.changed(BulkAction::Move { to: QueueName::new(queue)? }, ids).await
    }

    async fn changed(&self, action: BulkAction, ids: &[Uuid]) -> Result<u64, Error> {
        let report = self.change_jobs(&action, ids, &Precondition::default()).await?;
        match report.count(Change::Locked) {
            0 => Ok(report.changed()),
            locked => {
                let message = format!("another transaction has locked {locked} of {} jobs", ids.len());
                Err(Failure::reported("55P03", None, message).into())
            }
        }
    }

    /// Does what an operator wants to jobs that still meet the precondition, and reports what became of each.
    ///
    /// It is done to 1,000 jobs at once. Jobs that another transaction has locked are tried again, apart from the others,
    /// for [`lock_timeout`](crate::ConnectOptions::lock_timeout). The cost is about 20 us a job.
    ///
    /// # Errors
    ///
    /// `QueueNotFound` when jobs are to be moved to a queue that does not exist; `Unavailable`, `Schema` or `Database`; after
    /// an error some of the jobs may be changed.
    pub async fn change_jobs(
        &self,
        action: &BulkAction,
        ids: &[Uuid],
        precondition: &Precondition,
    ) -> Result<BulkReport, Error> {
        let precondition = || precondition.clone();
        match action {
            BulkAction::Restart { force } => {
                self.in_bulk(ids, |ids| RestartJobs { ids, force: *force, precondition: precondition() }).await
            }
            BulkAction::Finish => self.in_bulk(ids, |ids| EndJobs::done(ids).only_if(precondition())).await,
            BulkAction::Fail { reason } => {
                self.in_bulk(ids, |ids| EndJobs::failed(ids, reason).only_if(precondition())).await
            }
            BulkAction::Delete => self.in_bulk(ids, |ids| DeleteJobs { ids, precondition: precondition() }).await,
            BulkAction::Move { to } if ids.is_empty() => {
                self.run(GetSettings { name: to.clone() }).await?;
                Ok(BulkReport::default())
            }
            BulkAction::Move { to } => {
                self.in_bulk(ids, |ids| MoveJobs { ids, queue: to.clone(), precondition: precondition() }).await
            }
        }
    }

    /// Makes a new job with the payload of another and returns its id; the payload is stored once and shared.
    ///
    /// Priority, description and number of retries are inherited unless the options give others (a priority of 0
    /// inherits), delays and jitter always. Of the options, codec, `key_hold`, `on_conflict`, `backoff` and
    /// `jitter_percent` have no effect: a key is held while the copy is active.
    ///
    /// # Errors
    ///
    /// `JobNotFound`, `QueueNotFound`; `KeyConflict` when the key is held in the queue; `Invalid`.
    pub async fn copy_job(&self, id: Uuid, queue: &str, options: EnqueueOptions) -> Result<Uuid, Error> {
        let priority = Some(options.priority).filter(|priority| *priority != 0);
        let new = self.new_job(QueueName::new(queue)?, bytes::Bytes::new(), options.into_core(Codec::default()))?;
        let copy = CopyJob { source: id, id: new.id, queue: new.queue, priority, options: new.options };
        let copied = copy.id;
        let queue_id = self.run(copy).await.map_err(taken_key)?;
        self.notice_change();
        self.notify_change(queue_id);
        Ok(copied)
    }

    /// Changes jobs, a thousand at once. Those that another transaction has locked are tried again, apart from the
    /// others, for as long as a statement may wait for a lock.
    async fn in_bulk<O>(&self, ids: &[Uuid], operation: impl Fn(Vec<Uuid>) -> O) -> Result<BulkReport, Error>
    where
        O: Operation<Output = BulkReply> + Clone + Send + Sync + 'static,
    {
        let link = self.link();
        let mut changes = vec![Change::Locked; ids.len()];
        let mut left: Vec<usize> = (0..ids.len()).collect();
        let (mut deadline, mut pause) = (None, FIRST_PAUSE);
        loop {
            for places in left.chunks(CHANGED_AT_ONCE) {
                let reply = self.run(operation(places.iter().map(|place| ids[*place]).collect())).await?;
                reply.queues.into_iter().for_each(|queue_id| self.notify_change(queue_id));
                places.iter().zip(reply.changes).for_each(|(place, change)| changes[*place] = change);
            }
            self.notice_change();
            left.retain(|place| changes[*place] == Change::Locked);
            let deadline = *deadline.get_or_insert_with(|| link.now() + link.lock_timeout);
            if left.is_empty() || link.now() + pause > deadline {
                return Ok(BulkReport { changes });
            }
            self.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Returns the error of a copy, by its own kind when it is that the key is held.
fn taken_key(error: Error) -> Error {
    let failure = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<Failure>());
    match failure {
        Some(failure) if failure.constraint() == Some("job_key") => {
            let message = "the key is held by another job of the queue";
            Error::new(ErrorKind::KeyConflict, message).with_source(failure.clone())
        }
        _ => error,
    }
}
