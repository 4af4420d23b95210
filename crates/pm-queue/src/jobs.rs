//! Operations on jobs: list, show, restart, end, delete, move, copy.

use crate::codec::RawPayload;
use crate::{EnqueueOptions, Error, ErrorKind, JobFilter, Queue};
use pm_core::op::{
    AttemptRecord, Attempts, BulkReply, Change, CopyJob, DeleteJobs, EditJobs, EndJobs, Head, Job, JobMatch, ListJobs,
    MoveJobs, NextJobs, Payload, Precondition, ResolveSuffix, RestartJobs, Settings,
};
use pm_core::{Failure, IdSuffix, JobMetadata, Operation, QueueName, State};
use std::time::Duration;
use uuid::Uuid;

/// How many of the newest jobs are searched for a suffix before all jobs are.
const NEWEST_JOBS: usize = 20_000;
/// The maximum number of jobs that `list_pending` returns.
const MAX_PENDING: usize = 10_000;
/// The maximum number of jobs that one statement changes.
const MAX_BATCH: usize = 1_000;
/// The pause before the first retry of locked jobs; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What to do to a list of jobs; see [`Queue::change_jobs`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BulkAction {
    /// Make them pending again; see [`Queue::restart_jobs`].
    Restart {
        /// Whether to restart jobs in progress too; their workers lose their leases.
        force: bool,
    },
    /// Mark them as finished; see [`Queue::finish_jobs`].
    Finish,
    /// Mark them as failed; see [`Queue::fail_jobs`].
    Fail {
        /// The reason, which is stored with the jobs.
        reason: String,
    },
    /// Delete them; see [`Queue::delete_jobs`].
    Delete,
    /// Move them to another queue; see [`Queue::move_jobs`].
    Move {
        /// The target queue.
        to: QueueName,
    },
    /// Change their priority; see [`Queue::set_priority`].
    SetPriority(i32),
}

/// The outcomes of a bulk action, job by job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BulkReport {
    changes: Vec<Change>,
}

impl BulkReport {
    /// Returns the outcome for each job, in the order of the ids given.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Returns the number of jobs that were changed.
    pub fn changed(&self) -> u64 {
        self.count(Change::Changed)
    }

    /// Returns the number of jobs with this outcome.
    pub fn count(&self, change: Change) -> u64 {
        self.changes.iter().filter(|one| **one == change).count() as u64
    }
}

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
        let filter = filter.into_core()?;
        let queue = filter.queue.clone();
        let jobs = self.run(ListJobs { filter }).await?;
        if let (true, Some(name)) = (jobs.is_empty(), queue) {
            self.run(Settings { name }).await?;
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
        self.run(NextJobs { queue: QueueName::new(queue)?, limit }).await
    }

    /// Returns a job without its payload, if it exists.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn get_job(&self, id: Uuid) -> Result<Option<JobMetadata>, Error> {
        self.run(Job { id }).await
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
        let stored = self.run(Payload { id }).await?;
        Ok(stored.map(|stored| RawPayload { codec: stored.codec, bytes: stored.bytes }))
    }

    /// Returns the unsuccessful attempts of a job, oldest first.
    ///
    /// The job itself records the successful one. A release leaves no record.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn attempts(&self, id: Uuid) -> Result<Vec<AttemptRecord>, Error> {
        self.run(Attempts { id }).await
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
    pub async fn resolve_ids(&self, suffix: &str) -> Result<Vec<JobMatch>, Error> {
        let suffix = IdSuffix::new(suffix)?;
        if let Some(id) = suffix.whole_id() {
            let job = self.get_job(id).await?;
            return Ok(job.map(|job| JobMatch { id, queue: job.queue, state: job.state }).into_iter().collect());
        }
        let recent = self.run(ResolveSuffix { suffix: suffix.clone(), newest: Some(NEWEST_JOBS) }).await?;
        match recent.is_empty() {
            true => self.run(ResolveSuffix { suffix, newest: None }).await,
            false => Ok(recent),
        }
    }

    /// Does what [`Queue::resolve_ids`] does, but always searches all jobs. For actions that must not hit the wrong
    /// job.
    ///
    /// # Errors
    ///
    /// `Invalid` when `suffix` is not 1 to 32 hex digits.
    pub async fn resolve_ids_among_all(&self, suffix: &str) -> Result<Vec<JobMatch>, Error> {
        let suffix = IdSuffix::new(suffix)?;
        match suffix.whole_id() {
            Some(_) => self.resolve_ids(suffix.digits()).await,
            None => self.run(ResolveSuffix { suffix, newest: None }).await,
        }
    }

    /// Makes jobs pending and ready again and resets their retry count; returns how many.
    ///
    /// Jobs in progress are only restarted with `force`; their workers then get `LeaseLost`. Jobs restarted on a
    /// paused queue are paused. A restarted job reserves its key again; it is refused, even with `force`, while
    /// another job of its queue has reserved the key.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`; after an error some of the jobs may have been changed. Jobs that another
    /// transaction has locked are retried for [`lock_timeout`](crate::ConnectOptions::lock_timeout) without delaying
    /// the others; if one is still locked then, the error is `Database`, with SQLSTATE 55P03.
    pub async fn restart_jobs(&self, ids: &[Uuid], force: bool) -> Result<u64, Error> {
        self.changed(BulkAction::Restart { force }, ids).await
    }

    /// Marks jobs as failed, even if they are in progress; returns how many. Jobs that have already ended are refused.
    ///
    /// # Errors
    ///
    /// As [`Queue::restart_jobs`].
    pub async fn fail_jobs(&self, ids: &[Uuid], reason: &str) -> Result<u64, Error> {
        self.changed(BulkAction::Fail { reason: reason.to_owned() }, ids).await
    }

    /// Marks jobs as finished, even if they are in progress; returns how many. Jobs that have already ended are
    /// refused.
    ///
    /// # Errors
    ///
    /// As [`Queue::restart_jobs`].
    pub async fn finish_jobs(&self, ids: &[Uuid]) -> Result<u64, Error> {
        self.changed(BulkAction::Finish, ids).await
    }

    /// Deletes jobs in any state; returns how many. The worker of a job in progress gets `LeaseLost`.
    ///
    /// # Errors
    ///
    /// As [`Queue::restart_jobs`].
    pub async fn delete_jobs(&self, ids: &[Uuid]) -> Result<u64, Error> {
        self.changed(BulkAction::Delete, ids).await
    }

    /// Moves jobs to another queue; returns how many. They keep id, payload, priority and description.
    ///
    /// The lease of a job in progress stays valid. If the target queue is paused, so are the moved jobs. A job whose
    /// key is reserved in the target queue is refused.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`; otherwise as [`Queue::restart_jobs`].
    pub async fn move_jobs(&self, ids: &[Uuid], queue: &str) -> Result<u64, Error> {
        self.changed(BulkAction::Move { to: QueueName::new(queue)? }, ids).await
    }

    /// Changes the priority of jobs that are pending or paused; returns how many. Others are refused.
    ///
    /// A ready job that had another priority comes after the jobs that have the new one already; jobs changed together
    /// keep the order of their ids. One with the same priority keeps its position, and counts as changed.
    ///
    /// # Errors
    ///
    /// As [`Queue::restart_jobs`].
    pub async fn set_priority(&self, ids: &[Uuid], priority: i32) -> Result<u64, Error> {
        self.changed(BulkAction::SetPriority(priority), ids).await
    }

    async fn changed(&self, action: BulkAction, ids: &[Uuid]) -> Result<u64, Error> {
        let (report, interruption) = self.apply(&action, ids, &Precondition::default()).await?;
        match (interruption, report.count(Change::Locked)) {
            (Some(error), _) => Err(error),
            (None, 0) => Ok(report.changed()),
            (None, locked) => {
                let message = format!("another transaction has locked {locked} of {} jobs", ids.len());
                Err(Failure::reported("55P03", None, message).into())
            }
        }
    }

    /// Applies an action to those of the jobs that meet the precondition, and returns the outcome for each job.
    ///
    /// One statement changes up to 1,000 jobs. Jobs that another transaction has locked are retried for
    /// [`lock_timeout`](crate::ConnectOptions::lock_timeout) without delaying the others. The cost is about 20 µs per
    /// job.
    ///
    /// # Errors
    ///
    /// `QueueNotFound` when the target queue of a move does not exist; `Unavailable`, `Schema` or `Database`; after an
    /// error some of the jobs may have been changed.
    pub async fn change_jobs(
        &self,
        action: &BulkAction,
        ids: &[Uuid],
        precondition: &Precondition,
    ) -> Result<BulkReport, Error> {
        self.apply(action, ids, precondition).await.map(|(report, _)| report)
    }

    /// Does so, and also returns the error that ended the retries of locked jobs, if one did.
    async fn apply(
        &self,
        action: &BulkAction,
        ids: &[Uuid],
        precondition: &Precondition,
    ) -> Result<(BulkReport, Option<Error>), Error> {
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
                self.run(Settings { name: to.clone() }).await?;
                Ok((BulkReport::default(), None))
            }
            BulkAction::Move { to } => {
                self.in_bulk(ids, |ids| MoveJobs { ids, queue: to.clone(), precondition: precondition() }).await
            }
            BulkAction::SetPriority(priority) => {
                self.in_bulk(ids, |ids| EditJobs { ids, priority: *priority, precondition: precondition() }).await
            }
        }
    }

    /// Creates a job with the payload of another and returns its id. The payload is stored once and shared.
    ///
    /// The copy inherits priority (unless the options give one other than 0), description and number of retries unless
    /// the options give others, and always the delays and the jitter. The options `codec`, `key_hold`, `on_conflict`,
    /// `backoff` and `jitter_percent` have no effect: a key is reserved while the copy is active.
    ///
    /// # Errors
    ///
    /// `JobNotFound`, `QueueNotFound`; `KeyConflict` when the key is reserved in the queue; `Invalid`.
    pub async fn copy_job(&self, id: Uuid, queue: &str, options: EnqueueOptions) -> Result<Uuid, Error> {
        let priority = Some(options.priority).filter(|priority| *priority != 0);
        let new = self.new_job(QueueName::new(queue)?, bytes::Bytes::new(), options)?;
        let copy = CopyJob { source: id, id: new.id, queue: new.queue, priority, options: new.options };
        let copied = copy.id;
        let queue_id = self.run(copy).await?;
        self.notify_local_workers();
        self.notify_other_processes(queue_id);
        Ok(copied)
    }

    /// Changes jobs, 1,000 in one statement. Those that another transaction has locked are retried, apart from the
    /// others, until the lock timeout has passed.
    async fn in_bulk<O>(
        &self,
        ids: &[Uuid],
        operation: impl Fn(Vec<Uuid>) -> O,
    ) -> Result<(BulkReport, Option<Error>), Error>
    where
        O: Operation<Output = BulkReply> + Send + Sync + 'static,
    {
        let link = self.link();
        let mut changes = vec![Change::Locked; ids.len()];
        let mut remaining: Vec<usize> = (0..ids.len()).collect();
        let (mut deadline, mut pause) = (None, FIRST_PAUSE);
        loop {
            for indices in remaining.chunks(MAX_BATCH) {
                let reply = match self.run(operation(indices.iter().map(|index| ids[*index]).collect())).await {
                    // What became of the others is known, and must not be lost with this.
                    Err(error) if deadline.is_some() => {
                        let change = if error.is_outcome_unknown() { Change::Unknown } else { Change::Locked };
                        indices.iter().for_each(|index| changes[*index] = change);
                        return Ok((BulkReport { changes }, Some(error)));
                    }
                    reply => reply?,
                };
                reply.queues.into_iter().for_each(|queue_id| self.notify_other_processes(queue_id));
                indices.iter().zip(reply.changes).for_each(|(index, change)| changes[*index] = change);
            }
            self.notify_local_workers();
            remaining.retain(|index| changes[*index] == Change::Locked);
            let deadline = *deadline.get_or_insert_with(|| link.now() + link.lock_timeout);
            if remaining.is_empty() || link.now() + pause > deadline {
                return Ok((BulkReport { changes }, None));
            }
            self.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
