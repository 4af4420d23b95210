//! Enqueueing inside a transaction that the caller owns.

use crate::producer::key_conflict;
use crate::{EnqueueOptions, Enqueued, Error, ErrorKind, Executor, OnConflict, Queue};
use pm_core::machine::BatchLimits;
use pm_core::op::{
    DeleteJobs, EnqueueKeyed, EnqueueReply, Holder, KeyHolder, Notification, Notify, NotifyIdle, Precondition,
    ReplaceJobs,
};
use pm_core::{Error as CoreError, Failure, NewJob, QueueName};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;

/// The most jobs in one statement.
const AT_ONCE: usize = 1_000;
/// How long to wait before jobs are sent again whose rivals for a key went away, the first time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The same, when it has happened many times.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// So many times jobs are sent again: for about 8 s.
const PAUSES: u32 = 14;

impl Queue {
    /// Puts a job on a queue inside a transaction of the caller's: it is there when the transaction commits.
    ///
    /// The driver makes an [`Executor`] of a transaction. One statement; two when a key is held, or when workers may be
    /// idle: then the transaction also notifies them, which costs about 0.1 ms at the commit. A transaction that is to be
    /// prepared (`PREPARE TRANSACTION`) must not notify: see [`WithoutNotify`](crate::WithoutNotify).
    ///
    /// Under READ COMMITTED, the default, answers are exact. Under REPEATABLE READ and SERIALIZABLE a key that another
    /// transaction took since the snapshot ends in an error of kind `Database` with SQLSTATE 40001: try the whole
    /// transaction again.
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue`]; nothing is sent again. What pm itself refuses leaves the transaction usable and nothing of
    /// the call in it: `QueueNotFound`, `KeyConflict`, `Payload`, and `Invalid` unless its
    /// [source](std::error::Error::source) is a [`Failure`](crate::Failure). After every other error, and when the future
    /// is dropped before its end, roll back: the server has aborted the transaction, or what was done is not known.
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
    /// With [`OnConflict::Refuse`] a key that is held, also by an earlier job of the same call, refuses the whole call.
    /// A refusal that shows only after other jobs went in costs one more statement for each 1,000 of them: they are
    /// deleted again, in the same transaction. That takes the privileges of an operator (`pm db grants --for operator`).
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue_in`]; `Forbidden` when what went in cannot be deleted again.
    pub async fn enqueue_many_in<T: Serialize>(
        &self,
        transaction: &dyn Executor,
        queue: &str,
        jobs: impl IntoIterator<Item = (T, EnqueueOptions)>,
    ) -> Result<Vec<Enqueued>, Error> {
        let queue = QueueName::new(queue)?;
        let jobs = jobs.into_iter().map(|(payload, options)| self.written_job(&queue, &payload, options));
        let jobs = jobs.collect::<Result<Vec<_>, _>>()?;
        refuse_doubles(&jobs)?;
        let mut call = Call {
            queue: self,
            transaction,
            jobs: &jobs,
            enqueued: vec![None; jobs.len()],
            idle_queue: None,
            has_failed: false,
        };
        let done = async {
            call.put_in().await?;
            call.notify().await
        };
        match done.await {
            Ok(()) => Ok(call.enqueued.into_iter().flatten().collect()),
            // The server has aborted the transaction, or its connection is lost.
            Err(error) if call.has_failed => Err(error),
            Err(refusal) => match call.take_back().await {
                Ok(()) => Err(refusal),
                Err(error) => Err(error.after(&refusal)),
            },
        }
    }

    /// Makes idle workers look at their queues at once, in this process and in others.
    ///
    /// For jobs that came in without a notification: by a transaction that was prepared (see
    /// [`WithoutNotify`](crate::WithoutNotify)), or by SQL of the program's own. One statement.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn wake_workers(&self) -> Result<(), Error> {
        let channel = Notification::channel(self.link().catalog.schema());
        self.run(NotifyIdle { channel }).await?;
        self.notice_change();
        Ok(())
    }
}

/// One call of `enqueue_many_in`.
struct Call<'a> {
    queue: &'a Queue,
    transaction: &'a dyn Executor,
    jobs: &'a [NewJob],
    /// What became of each job, once that is known.
    enqueued: Vec<Option<Enqueued>>,
    /// The queue's number, if its workers may be idle.
    idle_queue: Option<i32>,
    /// Whether a statement has failed: the transaction is aborted then, or lost.
    has_failed: bool,
}

impl Call<'_> {
    /// Puts the jobs in. What may be refused is decided before anything is replaced, which cannot be taken back.
    async fn put_in(&mut self) -> Result<(), Error> {
        let (mut replacing, mut pauses) = (Vec::new(), 0);
        // A second round only for jobs whose rival for the key went away between two statements.
        let mut rest: Vec<usize> = (0..self.jobs.len()).collect();
        while !rest.is_empty() {
            let present = self.insert(&rest).await?;
            let (replaces, keeps): (Vec<_>, Vec<_>) =
                present.into_iter().partition(|place| self.jobs[*place].replaces());
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

    /// Waits before jobs are sent again whose keys are neither free nor held by a job that can be named: as a rule
    /// another transaction has locked that job.
    async fn pause_before(&mut self, again: &[usize], pauses: &mut u32) -> Result<(), Error> {
        let Some(place) = again.first() else { return Ok(()) };
        if *pauses == PAUSES {
            let key = self.jobs[*place].options.key.as_deref().unwrap_or_default();
            let message = format!("another transaction has locked the job that holds the key {key:?}");
            // What was replaced by then cannot be taken back.
            self.has_failed = true;
            return Err(Failure::reported("55P03", None, message).into());
        }
        let runtime = &self.queue.link().runtime;
        runtime.sleep((FIRST_PAUSE * 2u32.pow(*pauses)).min(LONGEST_PAUSE)).await;
        *pauses += 1;
        Ok(())
    }

    /// Sends the jobs at these places; returns the places of those whose ids or keys are there already.
    async fn insert(&mut self, places: &[usize]) -> Result<Vec<usize>, Error> {
        let mut all_present = Vec::new();
        for places in self.batches(places) {
            let batch = self.batch(places);
            let enqueue = EnqueueKeyed { jobs: &batch, in_transaction: true };
            let EnqueueReply { unknown_queue, present, idle, .. } = self.run(enqueue).await?;
            places.iter().for_each(|place| self.enqueued[*place] = Some(Enqueued::Inserted(self.jobs[*place].id)));
            unknown_queue.iter().chain(&present).for_each(|at| self.enqueued[places[*at]] = None);
            if let Some(place) = unknown_queue.first() {
                return Err(CoreError::QueueNotFound(batch[*place].queue.to_string()).into());
            }
            self.idle_queue = idle.first().map(|(_, queue_id)| *queue_id).or(self.idle_queue);
            all_present.extend(present.into_iter().map(|place| places[place]));
        }
        Ok(all_present)
    }

    /// Asks which jobs stand for those that are there already; returns the places of those whose rivals went away.
    async fn keep(&mut self, places: &[usize]) -> Result<Vec<usize>, Error> {
        let mut gone = Vec::new();
        for places in self.batches(places) {
            let holders = self.run(KeyHolder { jobs: &self.batch(places) }).await?;
            gone.extend(self.record(places, holders)?);
        }
        Ok(gone)
    }

    /// Makes the holders what the jobs at these places say; returns the places of those whose rivals went away.
    async fn replace(&mut self, places: &[usize]) -> Result<Vec<usize>, Error> {
        let mut gone = Vec::new();
        for places in self.batches(places) {
            let holders = self.run(ReplaceJobs { jobs: &self.batch(places) }).await?;
            gone.extend(self.record(places, holders)?);
        }
        Ok(gone)
    }

    fn record(&mut self, places: &[usize], holders: Vec<Option<Holder>>) -> Result<Vec<usize>, Error> {
        let mut gone = Vec::new();
        for (place, holder) in places.iter().zip(holders) {
            let job = &self.jobs[*place];
            let enqueued = match holder {
                Some(Holder { id, replaced: true, .. }) => Enqueued::Replaced(id),
                Some(Holder { id, .. }) if id == job.id => Enqueued::Inserted(id),
                Some(Holder { id, state, .. }) if job.options.on_conflict == OnConflict::Refuse => {
                    return Err(key_conflict(Enqueued::existing(id, state)));
                }
                Some(Holder { id, state, .. }) => Enqueued::existing(id, state),
                None => {
                    gone.push(*place);
                    continue;
                }
            };
            self.enqueued[*place] = Some(enqueued);
        }
        Ok(gone)
    }

    /// Notifies idle workers of other processes of every line that got a job.
    async fn notify(&mut self) -> Result<(), Error> {
        let Some(queue_id) = self.idle_queue.filter(|_| self.transaction.notifies()) else { return Ok(()) };
        let added = self
            .jobs
            .iter()
            .zip(&self.enqueued)
            .filter(|(job, enqueued)| !job.options.paused && !matches!(enqueued, Some(Enqueued::Existing(..))));
        let notifications: BTreeSet<_> =
            added.map(|(job, _)| Notification { queue_id, priority: job.ready_line() }).collect();
        if notifications.is_empty() {
            return Ok(());
        }
        let channel = Notification::channel(self.queue.link().catalog.schema());
        self.run(Notify { channel, notifications: notifications.into_iter().collect() }).await
    }

    /// Deletes what has gone in.
    async fn take_back(&mut self) -> Result<(), Error> {
        let inserted = self.enqueued.iter().filter_map(|enqueued| match enqueued {
            Some(Enqueued::Inserted(id)) => Some(*id),
            _ => None,
        });
        let ids: Vec<_> = inserted.collect();
        for ids in ids.chunks(AT_ONCE) {
            self.run(DeleteJobs { ids: ids.to_vec(), precondition: Precondition::default() }).await?;
        }
        Ok(())
    }

    async fn run<O: pm_core::Operation>(&mut self, operation: O) -> Result<O::Output, Error> {
        let outcome = self.queue.link().run_in(self.transaction, operation).await;
        self.has_failed |= outcome.is_err();
        outcome
    }

    fn batch(&self, places: &[usize]) -> Vec<NewJob> {
        places.iter().map(|place| self.jobs[*place].clone()).collect()
    }

    /// Returns the places in parts that fit in one statement.
    fn batches<'p>(&self, mut places: &'p [usize]) -> Vec<&'p [usize]> {
        let limits = BatchLimits::of_items(AT_ONCE);
        let mut batches = Vec::new();
        while !places.is_empty() {
            let fit = limits.together(places.iter().map(|place| self.jobs[*place].weight()));
            let (batch, rest) = places.split_at(fit);
            batches.push(batch);
            places = rest;
        }
        batches
    }
}

/// Refuses a call in which a job that is to be refused has the key of an earlier one: whatever the database holds.
fn refuse_doubles(jobs: &[NewJob]) -> Result<(), Error> {
    let mut seen = BTreeMap::new();
    for (place, job) in jobs.iter().enumerate() {
        let Some(key) = job.options.key.as_deref() else { continue };
        match seen.insert(key, place) {
            Some(earlier) if job.options.on_conflict == OnConflict::Refuse => {
                let message = format!("job {place} of the call (from 0) has the key of job {earlier} of the same call");
                return Err(Error::new(ErrorKind::KeyConflict, message));
            }
            _ => {}
        }
    }
    Ok(())
}
