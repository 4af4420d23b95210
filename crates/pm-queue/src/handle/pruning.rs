//! Pruning in steps: jobs of deleted queues, and ended jobs past their retention.

use crate::{Error, Queue};
use pm_core::QueueName;
use pm_core::op::{BeginQueueDeletion, DeleteEmptyQueues, PruneJobs};
use std::time::Duration;
use uuid::Uuid;

/// How many passes over the jobs of a deleted queue are made, if some were locked.
const MAX_PASSES: u32 = 20;

/// A prune or the deletion of a queue, done step by step: for tools that show progress or stop between two steps.
///
/// If it is dropped before the end, [`Queue::prune`] deletes the rest.
#[derive(Debug)]
pub struct Pruning {
    queue: Queue,
    /// The deleted queue whose jobs are pruned; none for all jobs past their retention and all deleted queues.
    queue_id: Option<i32>,
    after: Option<Uuid>,
    passes: u32,
    seen: u64,
    deleted: u64,
    is_finished: bool,
}

impl Queue {
    /// Begins to delete a queue. When this returns, the queue is gone; [`Pruning::step`] deletes its jobs.
    ///
    /// # Errors
    ///
    /// As [`Queue::delete_queue`].
    pub async fn begin_deletion(&self, name: &str) -> Result<Pruning, Error> {
        let queue_id = self.execute(BeginQueueDeletion { name: QueueName::new(name)? }).await?;
        self.notify_of_change(queue_id);
        Ok(Pruning::new(self.clone(), Some(queue_id)))
    }

    /// Begins a [`Queue::prune`] that is done step by step. Nothing is sent before the first step.
    pub fn begin_prune(&self) -> Pruning {
        Pruning::new(self.clone(), None)
    }

    /// Deletes a queue with all its jobs and schedules; returns how many jobs were deleted.
    ///
    /// First the queue loses its name, so that its jobs can no longer be enqueued, claimed or found; then they are
    /// deleted in steps. After an interruption, [`Queue::prune`] deletes the rest. The worker of a job in progress
    /// gets `LeaseLost`. The cost is about 20 µs per job, and 1 µs for each job of other queues.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`; `Database` when another transaction locks the queue for longer than the lock timeout.
    pub async fn delete_queue(&self, name: &str) -> Result<u64, Error> {
        self.begin_deletion(name).await?.finish().await
    }

    /// Deletes ended jobs past their queue's retention, and the remaining jobs of deleted queues; returns how many.
    ///
    /// Reads all jobs in steps of 5,000: about 1 µs per job, and 20 µs per deleted one. Concurrent calls share the
    /// work.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`; jobs that were deleted before stay deleted.
    pub async fn prune(&self) -> Result<u64, Error> {
        self.begin_prune().finish().await
    }
}

impl Pruning {
    fn new(queue: Queue, queue_id: Option<i32>) -> Self {
        Pruning { queue, queue_id, after: None, passes: 0, seen: 0, deleted: 0, is_finished: false }
    }

    /// Runs the next step, which reads at most 5,000 jobs; returns whether there is more to do.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`; jobs that were deleted before stay deleted, and the step may be tried
    /// again.
    pub async fn step(&mut self) -> Result<bool, Error> {
        if self.is_finished {
            return Ok(false);
        }
        let pruned =
            self.queue.execute(PruneJobs { after: self.after, page: PruneJobs::PAGE, queue_id: self.queue_id }).await?;
        self.seen += pruned.seen;
        self.deleted += pruned.deleted;
        self.after = pruned.upto;
        if self.after.is_none() {
            self.end_pass().await?;
        }
        Ok(!self.is_finished)
    }

    /// Deletes the rows of deleted queues that have no jobs left. Starts another pass if this queue has some.
    async fn end_pass(&mut self) -> Result<(), Error> {
        let remaining = self.queue.execute(DeleteEmptyQueues { queue_id: self.queue_id }).await?;
        self.passes += 1;
        self.is_finished = self.queue_id.is_none() || remaining == 0 || self.passes == MAX_PASSES;
        if !self.is_finished {
            self.queue.link().runtime.sleep(Duration::from_millis(10) * self.passes).await;
        }
        Ok(())
    }

    /// Returns how many jobs have been read so far; those of a second pass count again.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Returns how many jobs have been deleted so far.
    pub fn deleted(&self) -> u64 {
        self.deleted
    }

    async fn finish(mut self) -> Result<u64, Error> {
        while self.step().await? {}
        Ok(self.deleted)
    }
}
