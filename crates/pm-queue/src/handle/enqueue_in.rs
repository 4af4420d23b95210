//! Enqueueing inside a caller's transaction.

use super::batches::{MAX_BATCH, pause_after};
use crate::driver::Executor;
use crate::observe::{EnqueueOutcome, Event, Span};
use crate::producer::key_conflict;
use crate::{EnqueueOptions, Enqueued, Error, ErrorKind, OnConflict, Queue};
use pm_core::machine::BatchLimits;
use pm_core::op::{
    DeleteJobs, EnqueueKeyed, EnqueueReply, Holder, KeyHolder, Notification, Notify, Precondition, ReplaceJobs,
};
use pm_core::{Error as CoreError, Failure, NewJob, QueueName};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// How often jobs are sent again whose keys were neither free nor reserved by a known job, for about 8 s in all.
const MAX_PAUSES: u32 = 14;

impl Queue {
    /// Enqueues a job inside the caller's transaction: the job exists when the transaction commits.
    ///
    /// `transaction` is the driver's wrapper of a transaction. Runs one statement, or two if the key is reserved or
    /// workers may be idle. Idle workers are notified when the transaction commits, which adds about 0.1 ms to the
    /// commit. A transaction that will be prepared (`PREPARE TRANSACTION`) must not notify: see
    /// [`WithoutNotify`](crate::driver::WithoutNotify).
    ///
    /// Under READ COMMITTED, the default, outcomes are exact. Under REPEATABLE READ and SERIALIZABLE, a key that
    /// another transaction reserved after the snapshot leads to an error of kind `Database` with SQLSTATE 40001: run
    /// the whole transaction again.
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue`], without its retries. After `QueueNotFound`, `KeyConflict`, `Payload`, and an `Invalid`
    /// whose [source](std::error::Error::source) is not a [`Failure`](crate::Failure), the transaction is usable and
    /// contains no job of this call. After any other error, or if the future is dropped before it completes, roll
    /// back: the server has aborted the transaction, or its state is unknown.
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

    /// Enqueues many jobs inside the caller's transaction, all or none, with up to 1,000 in one statement.
    ///
    /// With [`OnConflict::Refuse`], a key that is reserved, or that an earlier job of the same call has, refuses the
    /// whole call. If jobs were inserted before the conflict was found, they are deleted again in the same
    /// transaction, with one statement per 1,000 jobs. That takes the privileges of an operator
    /// (`pm db grants --for operator`).
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue_in`]; `Forbidden` when the role may not delete inserted jobs.
    pub async fn enqueue_many_in<T: Serialize>(
        &self,
        transaction: &dyn Executor,
        queue: &str,
        jobs: impl IntoIterator<Item = (T, EnqueueOptions)>,
    ) -> Result<Vec<Enqueued>, Error> {
        let queue = QueueName::new(queue)?;
        let span = Span::enqueue(queue.as_str(), &self.link().observing);
        let result = span.run(self.enqueue_all_in(transaction, &queue, jobs)).await;
        span.record_enqueued(result.as_deref());
        result
    }

    async fn enqueue_all_in<T: Serialize>(
        &self,
        transaction: &dyn Executor,
        queue: &QueueName,
        jobs: impl IntoIterator<Item = (T, EnqueueOptions)>,
    ) -> Result<Vec<Enqueued>, Error> {
        let trace = self.link().observing.trace_context();
        let jobs =
            jobs.into_iter().map(|(payload, options)| self.encoded_job(queue, &payload, options, trace.as_ref()));
        let jobs = jobs.collect::<Result<Vec<_>, _>>()?;
        refuse_duplicate_keys(&jobs)?;
        let mut call = Call {
            queue: self,
            transaction,
            jobs: &jobs,
            enqueued: vec![None; jobs.len()],
            idle_queue: None,
            has_failed: false,
        };
        let enqueueing = async {
            call.enqueue().await?;
            call.notify().await
        };
        match enqueueing.await {
            Ok(()) => {
                let enqueued: Vec<_> = call.enqueued.into_iter().flatten().collect();
                self.observe_enqueued(queue, &enqueued);
                Ok(enqueued)
            }
            // The server has aborted the transaction, or the connection is lost.
            Err(error) if call.has_failed => Err(error),
            Err(refusal) => match call.delete_inserted().await {
                Ok(()) => Err(refusal),
                Err(error) => Err(error.after(&refusal)),
            },
        }
    }
}

impl Queue {
    /// Reports the outcomes of a call in a caller's transaction to the observer, if there is one.
    fn observe_enqueued(&self, queue: &QueueName, enqueued: &[Enqueued]) {
        let observing = &self.link().observing;
        if !observing.is_on() {
            return;
        }
        let mut counts = BTreeMap::new();
        for one in enqueued {
            *counts.entry(EnqueueOutcome::of_enqueued(one)).or_insert(0) += 1;
        }
        for (outcome, count) in counts {
            observing.observe(&Event::Enqueued { queue: queue.as_str(), outcome, count });
        }
    }
}

/// One call of `enqueue_many_in`.
struct Call<'a> {
    queue: &'a Queue,
    transaction: &'a dyn Executor,
    jobs: &'a [NewJob],
    /// The outcome of each job, as far as it is known.
    enqueued: Vec<Option<Enqueued>>,
    /// The queue's id, if workers may be idle.
    idle_queue: Option<i32>,
    /// Whether a statement has failed: then the transaction is aborted, or the connection lost.
    has_failed: bool,
}

impl Call<'_> {
    /// Enqueues the jobs. Possible refusals come before any job is replaced, because a replacement cannot be undone.
    async fn enqueue(&mut self) -> Result<(), Error> {
        let (mut replacing, mut pauses) = (Vec::new(), 0);
        // Further rounds are only for jobs whose key was released between two statements.
        let mut rest: Vec<usize> = (0..self.jobs.len()).collect();
        while !rest.is_empty() {
            let existing = self.insert(&rest).await?;
            let (replaces, keeps): (Vec<_>, Vec<_>) =
                existing.into_iter().partition(|index| self.jobs[*index].replaces());
            replacing.extend(replaces);
            rest = self.keep(&keeps).await?;
            self.pause_before(&rest, &mut pauses).await?;
        }
        while !replacing.is_empty() {
            let again = self.replace(&replacing).await?;
            self.pause_before(&again, &mut pauses).await?;
            replacing = self.insert(&again).await?;
        }
        Ok(())
    }

    /// Waits before jobs are sent again whose keys are neither free nor reserved by a known job. Usually another
    /// transaction has locked that job.
    async fn pause_before(&mut self, again: &[usize], pauses: &mut u32) -> Result<(), Error> {
        let Some(index) = again.first() else { return Ok(()) };
        if *pauses == MAX_PAUSES {
            let key = self.jobs[*index].options.key.as_deref().unwrap_or_default();
            let message = format!("another transaction has locked the job that has reserved the key {key:?}");
            // Replacements that were made before cannot be undone.
            self.has_failed = true;
            return Err(Failure::reported("55P03", None, message).into());
        }
        let runtime = &self.queue.link().runtime;
        runtime.sleep(pause_after(*pauses)).await;
        *pauses += 1;
        Ok(())
    }

    /// Inserts the jobs at these indices; returns the indices of those whose id or key exists already.
    async fn insert(&mut self, indices: &[usize]) -> Result<Vec<usize>, Error> {
        let mut all_existing = Vec::new();
        for indices in self.batches(indices) {
            let batch = self.batch(indices);
            let enqueue = EnqueueKeyed { jobs: &batch, in_transaction: true };
            let EnqueueReply { unknown_queue, present: existing, idle, .. } = self.run(enqueue).await?;
            indices.iter().for_each(|index| self.enqueued[*index] = Some(Enqueued::Inserted(self.jobs[*index].id)));
            unknown_queue.iter().chain(&existing).for_each(|at| self.enqueued[indices[*at]] = None);
            if let Some(index) = unknown_queue.first() {
                return Err(CoreError::QueueNotFound(batch[*index].queue.to_string()).into());
            }
            self.idle_queue = idle.first().map(|(_, queue_id)| *queue_id).or(self.idle_queue);
            all_existing.extend(existing.into_iter().map(|index| indices[index]));
        }
        Ok(all_existing)
    }

    /// Looks up the existing jobs that have these ids or keys; returns the indices for which there is none any more.
    async fn keep(&mut self, indices: &[usize]) -> Result<Vec<usize>, Error> {
        let mut released = Vec::new();
        for indices in self.batches(indices) {
            let holders = self.run(KeyHolder { jobs: &self.batch(indices) }).await?;
            released.extend(self.record(indices, holders)?);
        }
        Ok(released)
    }

    /// Replaces the jobs that have reserved the keys; returns the indices for which there is none any more.
    async fn replace(&mut self, indices: &[usize]) -> Result<Vec<usize>, Error> {
        let mut released = Vec::new();
        for indices in self.batches(indices) {
            let holders = self.run(ReplaceJobs { jobs: &self.batch(indices) }).await?;
            released.extend(self.record(indices, holders)?);
        }
        Ok(released)
    }

    fn record(&mut self, indices: &[usize], holders: Vec<Option<Holder>>) -> Result<Vec<usize>, Error> {
        let mut released = Vec::new();
        for (index, holder) in indices.iter().zip(holders) {
            let job = &self.jobs[*index];
            match holder.map(|holder| Enqueued::found(&holder, job)) {
                Some(conflict @ Enqueued::Existing(..)) if job.options.on_conflict == OnConflict::Refuse => {
                    return Err(key_conflict(conflict));
                }
                Some(enqueued) => self.enqueued[*index] = Some(enqueued),
                None => released.push(*index),
            }
        }
        Ok(released)
    }

    /// Notifies idle workers of other processes about each line that got a job.
    async fn notify(&mut self) -> Result<(), Error> {
        let Some(queue_id) = self.idle_queue.filter(|_| self.transaction.notifies()) else { return Ok(()) };
        let jobs = self.jobs.iter().zip(&self.enqueued);
        let added = jobs.filter(|(_, enqueued)| !matches!(enqueued, Some(Enqueued::Existing(..))));
        let lines = added.filter_map(|(job, _)| job.ready_line());
        let notifications: BTreeSet<_> = lines.map(|priority| Notification { queue_id, priority }).collect();
        if notifications.is_empty() {
            return Ok(());
        }
        let channel = Notification::channel(self.queue.link().catalog.schema());
        self.run(Notify { channel, notifications: notifications.into_iter().collect() }).await
    }

    /// Deletes the jobs that this call has inserted.
    async fn delete_inserted(&mut self) -> Result<(), Error> {
        let inserted = self.enqueued.iter().filter_map(|enqueued| match enqueued {
            Some(Enqueued::Inserted(id)) => Some(*id),
            _ => None,
        });
        let ids: Vec<_> = inserted.collect();
        for ids in ids.chunks(MAX_BATCH) {
            self.run(DeleteJobs { ids: ids.to_vec(), precondition: Precondition::default() }).await?;
        }
        Ok(())
    }

    async fn run<O: pm_core::Operation>(&mut self, operation: O) -> Result<O::Output, Error> {
        let outcome = self.queue.link().run_in(self.transaction, operation).await;
        self.has_failed |= outcome.is_err();
        Ok(outcome?)
    }

    fn batch(&self, indices: &[usize]) -> Vec<NewJob> {
        indices.iter().map(|index| self.jobs[*index].clone()).collect()
    }

    /// Splits the indices into parts that fit into one statement each.
    fn batches<'p>(&self, mut indices: &'p [usize]) -> Vec<&'p [usize]> {
        let limits = BatchLimits::of_items(MAX_BATCH);
        let mut batches = Vec::new();
        while !indices.is_empty() {
            let fit = limits.together(indices.iter().map(|index| self.jobs[*index].weight()));
            let (batch, rest) = indices.split_at(fit);
            batches.push(batch);
            indices = rest;
        }
        batches
    }
}

/// Refuses a call in which a job with [`OnConflict::Refuse`] has the key of an earlier one.
fn refuse_duplicate_keys(jobs: &[NewJob]) -> Result<(), Error> {
    let mut seen = BTreeMap::new();
    for (index, job) in jobs.iter().enumerate() {
        let Some(key) = job.options.key.as_deref() else { continue };
        match seen.insert(key, index) {
            Some(earlier) if job.options.on_conflict == OnConflict::Refuse => {
                let message = format!("jobs {earlier} and {index} of the call (counted from 0) have the same key");
                return Err(Error::new(ErrorKind::KeyConflict, message));
            }
            _ => {}
        }
    }
    Ok(())
}
