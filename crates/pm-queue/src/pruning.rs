//! Pruning in steps: what is left of deleted queues, and ended jobs past their retention.

use crate::{Error, Queue};
use pm_core::QueueName;
use pm_core::op::{BeginQueueDeletion, DeleteEmptyQueues, PruneJobs};
use std::time::Duration;
use uuid::Uuid;

/// How many jobs one step looks at.
const PAGE: usize = 5_000;
/// How often a deleted queue is pruned again for jobs that were locked.
const MOST_PASSES: u32 = 20;

/// Pruning under way, a step at a time: for tools that show how far it is and stop between two steps.
///
/// Dropped before the end it leaves the rest to [`Queue::prune`].
#[derive(Debug)]
pub struct Pruning {
    queue: Queue,
    /// The nameless queue that is pruned; none when all that is to go is.
    queue_id: Option<i32>,
    after: Option<Uuid>,
    passes: u32,
    seen: u64,
    deleted: u64,
    is_over: bool,
}

impl Queue {
    /// Begins to delete a queue: its name is gone when this returns, and its jobs go step by step.
    ///
    /// # Errors
    ///
    /// As [`Queue::delete_queue`].
    pub async fn begin_deletion(&self, name: &str) -> Result<Pruning, Error> {
        let queue_id = self.run(BeginQueueDeletion { name: QueueName::new(name)? }).await?;
        self.notice_change();
        self.notify_change(queue_id);
        Ok(Pruning::new(self.clone(), Some(queue_id)))
    }

    /// Begins what [`Queue::prune`] does; nothing is done before the first step.
    pub fn begin_prune(&self) -> Pruning {
        Pruning::new(self.clone(), None)
    }

    /// Deletes a queue, all its jobs and its schedules; returns how many jobs that were.
    ///
    /// It first takes the queue's name away, so that nothing is enqueued, claimed or found any more, then deletes the
    /// jobs in steps. When it is interrupted, [`Queue::prune`] goes on with it. The holder of a job in progress gets
    /// `LeaseLost`. About 20 µs a job, and 1 µs for each job of other queues.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`; `Database` when an open transaction holds on to the queue longer than the lock timeout.
    pub async fn delete_queue(&self, name: &str) -> Result<u64, Error> {
        self.begin_deletion(name).await?.finish().await
    }

    /// Deletes finished and failed jobs past their queue's retention, and what is left of deleted queues; returns how
    /// many jobs.
    ///
    /// It walks all jobs in small steps: about 1 µs a job, 20 µs a deleted one. Two at once share the work.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`; what was deleted by then stays deleted.
    pub async fn prune(&self) -> Result<u64, Error> {
        self.begin_prune().finish().await
    }
}

impl Pruning {
    fn new(queue: Queue, queue_id: Option<i32>) -> Self {
        Pruning { queue, queue_id, after: None, passes: 0, seen: 0, deleted: 0, is_over: false }
    }

    /// Does the next step, at most 5,000 jobs; returns whether there is more to do.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`; what was deleted by then stays deleted, and the step may be tried again.
    pub async fn step(&mut self) -> Result<bool, Error> {
        if self.is_over {
            return Ok(false);
        }
        let pruned = self.queue.run(PruneJobs { after: self.after, page: PAGE, queue_id: self.queue_id }).await?;
        self.seen += pruned.seen;
        self.deleted += pruned.deleted;
        self.after = pruned.upto;
        if self.after.is_none() {
            self.end_pass().await?;
        }
        Ok(!self.is_over)
    }

    /// Drops the queues that have no jobs any more; a queue that was to go and has some is pruned again.
    async fn end_pass(&mut self) -> Result<(), Error> {
        let remaining = self.queue.run(DeleteEmptyQueues { queue_id: self.queue_id }).await?;
        self.passes += 1;
        self.is_over = self.queue_id.is_none() || remaining == 0 || self.passes == MOST_PASSES;
        if !self.is_over {
            self.queue.sleep(Duration::from_millis(10) * self.passes).await;
        }
        Ok(())
    }

    /// Returns how many jobs were looked at so far; those of a second pass count again.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Returns how many jobs were deleted so far.
    pub fn deleted(&self) -> u64 {
        self.deleted
    }

    async fn finish(mut self) -> Result<u64, Error> {
        while self.step().await? {}
        Ok(self.deleted)
    }
}
