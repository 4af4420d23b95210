//! Actions on lists of jobs: restart, finish, fail, cancel, delete, move, change the priority.

use super::batches::{MAX_BATCH, pause_after};
use crate::{Error, Queue};
use pm_core::op::{
    BulkReply, CancelJobs, Change, DeleteJobs, EditJobs, EndJobs, MoveJobs, Precondition, RestartJobs, Settings,
};
use pm_core::{Failure, Operation, QueueName, Reason};
use uuid::Uuid;

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
    /// Cancel them; see [`Queue::cancel_jobs`].
    Cancel {
        /// The reason, which is stored with the jobs.
        reason: String,
        /// Whether jobs in progress fail at once too; their workers lose their leases.
        force: bool,
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

    /// Cancels jobs; returns how many have failed by it, or will. Jobs that have already ended are refused.
    ///
    /// A job that waits has failed at once, with the ending [`Cancel`](crate::Ending::Cancel) and this reason. The
    /// handler of one in progress is asked to stop: see [`JobAck::cancelled`](crate::JobAck::cancelled), and
    /// [`StopReason::Cancelled`](crate::StopReason) in a runner. If it commits, the job is finished; however else its
    /// lease ends, the job has failed as if it had been cancelled while it waited. It is never retried, unless it is
    /// restarted. With [`BulkAction::Cancel`] jobs in progress can be cancelled by force: their workers lose their
    /// leases.
    ///
    /// The handler learns of it within a second if its worker receives notifications, and else within its
    /// [longest poll interval](crate::StreamOptions::poll_most) and a second more; at the latest when its lease is
    /// extended.
    ///
    /// # Errors
    ///
    /// As [`Queue::restart_jobs`].
    pub async fn cancel_jobs(&self, ids: &[Uuid], reason: &str) -> Result<u64, Error> {
        self.changed(BulkAction::Cancel { reason: reason.to_owned(), force: false }, ids).await
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
            (None, 0) => Ok(report.changed() + report.count(Change::Requested)),
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
            BulkAction::Cancel { reason, force } => {
                let reason = Reason::new(reason);
                let cancel =
                    |ids| CancelJobs { ids, force: *force, reason: reason.clone(), precondition: precondition() };
                self.in_bulk(ids, cancel).await
            }
            BulkAction::Delete => self.in_bulk(ids, |ids| DeleteJobs { ids, precondition: precondition() }).await,
            BulkAction::Move { to } if ids.is_empty() => {
                self.execute(Settings { name: to.clone() }).await?;
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
        let (mut deadline, mut pauses) = (None, 0);
        loop {
            for indices in remaining.chunks(MAX_BATCH) {
                let reply = match self.execute(operation(indices.iter().map(|index| ids[*index]).collect())).await {
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
            let left = deadline.since(link.now());
            if remaining.is_empty() || left.is_zero() {
                return Ok((BulkReport { changes }, None));
            }
            link.runtime.sleep(pause_after(pauses).min(left)).await;
            pauses += 1;
        }
    }
}
