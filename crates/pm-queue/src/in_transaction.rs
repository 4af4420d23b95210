//! Enqueueing and committing inside a transaction that the caller owns.

use crate::producer::key_conflict;
use crate::{EnqueueOptions, Enqueued, Error, Executor, JobAck, OnConflict, Queue};
use pm_core::machine::BatchLimits;
use pm_core::op::{EnqueueKeyed, EnqueueReply, Holder, KeyHolder, Notice, Notify, ReplaceJobs, Settle, SettleItem};
use pm_core::{Error as CoreError, NewJob, QueueName, State, Verdict};
use serde::Serialize;
use std::collections::BTreeSet;
use uuid::Uuid;

/// The most jobs in one statement.
const AT_ONCE: usize = 1_000;

impl Queue {
    /// Puts a job on a queue inside a transaction of the caller's: it is there when the transaction commits.
    ///
    /// The driver makes an [`Executor`] of a transaction. One statement; two when a key is held, or when a worker may be
    /// asleep: then the transaction also notifies it, which costs about 0.1 ms at the commit.
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue`]; nothing is sent again, and after an error the caller's transaction is aborted.
    pub async fn enqueue_in<T: Serialize>(
        &self,
        transaction: &dyn Executor,
        queue: &str,
        payload: T,
        options: EnqueueOptions,
    ) -> Result<Uuid, Error> {
        let enqueued = self.enqueue_many_in(transaction, queue, [(payload, options)]).await?;
        enqueued.first().map(Enqueued::id).ok_or_else(|| Error::invalid("nothing was enqueued"))
    }

    /// Puts many jobs on a queue inside a transaction of the caller's, 1,000 in a statement: all or none.
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue_in`].
    pub async fn enqueue_many_in<T: Serialize>(
        &self,
        transaction: &dyn Executor,
        queue: &str,
        jobs: impl IntoIterator<Item = (T, EnqueueOptions)>,
    ) -> Result<Vec<Enqueued>, Error> {
        let queue = QueueName::new(queue)?;
        let (mut new_jobs, mut refuses) = (Vec::new(), Vec::new());
        for (payload, options) in jobs {
            refuses.push(options.on_conflict == OnConflict::Refuse);
            new_jobs.push(self.written_job(&queue, &payload, options)?);
        }
        let mut enqueued = Vec::with_capacity(new_jobs.len());
        let limits = BatchLimits::of_items(AT_ONCE);
        let mut rest = &new_jobs[..];
        while !rest.is_empty() {
            let (jobs, later) = rest.split_at(limits.together(rest.iter().map(NewJob::weight)));
            enqueued.extend(self.enqueue_batch_in(transaction, jobs).await?);
            rest = later;
        }
        let refused = enqueued
            .iter()
            .zip(refuses)
            .find(|(enqueued, refuses)| *refuses && matches!(enqueued, Enqueued::Existing(..)));
        match refused {
            Some((enqueued, _)) => Err(key_conflict(*enqueued)),
            None => Ok(enqueued),
        }
    }

    async fn enqueue_batch_in(&self, transaction: &dyn Executor, jobs: &[NewJob]) -> Result<Vec<Enqueued>, Error> {
        let mut enqueued: Vec<_> = jobs.iter().map(|job| Enqueued::Inserted(job.id)).collect();
        let mut rest: Vec<usize> = (0..jobs.len()).collect();
        // A second try only for items whose rival for the key vanished between two statements.
        while !rest.is_empty() {
            let batch: Vec<_> = rest.iter().map(|place| jobs[*place].clone()).collect();
            let EnqueueReply { homeless, present, sleeping, .. } =
                self.link().run_in(transaction, EnqueueKeyed { jobs: &batch, in_transaction: true }).await?;
            if let Some(place) = homeless.first() {
                return Err(CoreError::QueueNotFound(batch[*place].queue.to_string()).into());
            }
            self.notify_in(transaction, &batch, &sleeping).await?;
            let disputed: Vec<_> = present.iter().map(|place| batch[*place].clone()).collect();
            let holders = self.holders_in(transaction, &disputed).await?;
            let mut again = Vec::new();
            for (place, holder) in present.into_iter().map(|place| rest[place]).zip(holders) {
                match holder {
                    Some(Holder { id, replaced: true, .. }) => enqueued[place] = Enqueued::Replaced(id),
                    Some(Holder { id, .. }) if id == jobs[place].id => {}
                    Some(Holder { id, state, .. }) => enqueued[place] = Enqueued::existing(id, state),
                    None => again.push(place),
                }
            }
            rest = again;
        }
        Ok(enqueued)
    }

    /// Returns which jobs stand for items whose ids or keys were there already.
    async fn holders_in(&self, transaction: &dyn Executor, jobs: &[NewJob]) -> Result<Vec<Option<Holder>>, Error> {
        let mut holders = vec![None; jobs.len()];
        let (replacing, keeping): (Vec<_>, Vec<_>) = (0..jobs.len()).partition(|place| jobs[*place].replaces());
        let chosen = |places: &[usize]| places.iter().map(|place| jobs[*place].clone()).collect::<Vec<_>>();
        if !replacing.is_empty() {
            let told = self.link().run_in(transaction, ReplaceJobs { jobs: &chosen(&replacing) }).await?;
            replacing.into_iter().zip(told).for_each(|(place, holder)| holders[place] = holder);
        }
        if !keeping.is_empty() {
            let told = self.link().run_in(transaction, KeyHolder { jobs: &chosen(&keeping) }).await?;
            keeping.into_iter().zip(told).for_each(|(place, holder)| holders[place] = holder);
        }
        Ok(holders)
    }

    /// Tells sleeping workers of other processes of every line that a batch goes to.
    async fn notify_in(
        &self,
        transaction: &dyn Executor,
        batch: &[NewJob],
        sleeping: &[(usize, i32)],
    ) -> Result<(), Error> {
        if sleeping.is_empty() {
            return Ok(());
        }
        let line = |job: &NewJob| job.options.run_at.is_none().then_some(job.options.priority);
        let mut notices = BTreeSet::new();
        for (place, queue_id) in sleeping {
            let there = batch.iter().filter(|job| job.queue == batch[*place].queue && !job.options.paused);
            notices.extend(there.map(|job| Notice { queue_id: *queue_id, priority: line(job) }));
        }
        let channel = Notice::channel(self.link().catalog.schema());
        self.link().run_in(transaction, Notify { channel, notices: notices.into_iter().collect() }).await
    }
}

impl JobAck {
    /// Says that the job is done, inside a transaction of the caller's: it counts when the transaction commits.
    ///
    /// From then on the ack is in the caller's hands: dropping it says nothing. After a rollback, settle it by another
    /// word, or let its lease end. The lease is no longer kept alive.
    ///
    /// # Errors
    ///
    /// `LeaseLost` when someone else has the job: roll back. `Unavailable` or `Database`.
    pub async fn commit_in(&mut self, transaction: &dyn Executor) -> Result<(), Error> {
        let item = SettleItem { lease: self.lease(), verdict: Verdict::Commit, state: State::Finished, delay: None };
        let settle = Settle { items: &[item], passes: false };
        if !self.link().run_in(transaction, settle).await?.missed.is_empty() {
            return Err(CoreError::LeaseLost.into());
        }
        self.hand_over();
        Ok(())
    }
}
