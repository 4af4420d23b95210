//! What a handler gets to know and returns.

use crate::Error;
use crate::worker::{JobAck, PendingMetadata, Reporter};
use futures_channel::oneshot;
use futures_util::FutureExt;
use futures_util::future::Shared;
use futures_util::lock::{Mutex, MutexGuard};
use serde::Serialize;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What becomes of a job whose handler has returned without an error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is finished.
    Done,
    /// It is finished with this result, as [`JobAck::commit_with`] does. If the result is larger than 1 MiB, the job
    /// soft-fails with that as its reason.
    DoneWith(serde_json::Value),
    /// It soft-fails for this reason, and is retried after the next delay of its backoff, if retries are left.
    Retry(String),
    /// It soft-fails for this reason, and is retried after this time, if retries are left.
    RetryAfter(Duration, String),
    /// It is put off for this time, with neither an attempt nor a retry counted.
    Snooze(Duration),
    /// It is put back for another worker, as [`JobAck::release`] does.
    Release,
    /// It has failed for this reason, and is not retried.
    Fail(String),
}

/// Returning `()` is `Done`.
impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Outcome::Done
    }
}

/// Why a handler is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// It has taken longer than its timeout.
    TimedOut,
    /// Its lease can no longer be trusted: another worker may have the job.
    LeaseLost,
    /// The job was cancelled; see [`Queue::cancel_jobs`](crate::Queue::cancel_jobs).
    Cancelled,
    /// The runner was stopped, and the time for its handlers to end is over.
    ShuttingDown,
}

/// What a handler of [`Queue::run`](crate::Queue::run) knows of its job, and its ack. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct JobContext {
    pub(super) job: Arc<RunningJob>,
}

#[derive(Debug)]
pub(super) struct RunningJob {
    pub(super) metadata: PendingMetadata,
    /// None after the runner has taken it back to settle the job.
    pub(super) ack: Mutex<Option<JobAck>>,
    pub(super) reporter: Reporter,
    pub(super) stopped: Shared<oneshot::Receiver<StopReason>>,
    /// Whether the handler has ended: the runner settles the job.
    pub(super) has_ended: AtomicBool,
}

impl JobContext {
    /// Returns the job's metadata: id, queue, attempt, retries, key and so on.
    pub fn metadata(&self) -> &PendingMetadata {
        &self.job.metadata
    }

    /// Returns whether the job has failed if this attempt soft-fails.
    pub fn is_last_attempt(&self) -> bool {
        self.job.metadata.is_last_attempt()
    }

    /// Reports how far the job has come, as [`JobAck::set_progress`] does.
    ///
    /// ```
    /// # use pm_queue::{Error, JobContext};
    /// # fn handle(job: &JobContext) -> Result<(), Error> {
    /// job.set_progress(serde_json::json!({ "page": 3, "of": 20 }))
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`JobAck::set_progress`].
    pub fn set_progress(&self, progress: impl Serialize) -> Result<(), Error> {
        self.job.reporter.set(&progress)
    }

    /// Waits until the handler is asked to stop, and returns why.
    ///
    /// A handler with something to clean up races its work against this. It then has the
    /// [grace](crate::RunOptions::grace) to return; one that does not watch this is dropped after the grace.
    pub async fn stopped(&self) -> StopReason {
        // It is canceled if the runner is gone.
        self.job.stopped.clone().await.unwrap_or(StopReason::ShuttingDown)
    }

    /// Returns why the handler is asked to stop, if it is.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.job.stopped.clone().now_or_never().and_then(Result::ok)
    }

    /// Returns the job's ack, to settle the job in a transaction of the handler's or to extend its lease.
    ///
    /// A job that was settled through it is left as it is, whatever the handler returns. Drop the guard before
    /// returning from the handler.
    ///
    /// ```no_run
    /// # use pm_queue::{Error, JobContext, Outcome};
    /// # use pm_queue::driver::Executor;
    /// # struct Transaction;
    /// # impl Transaction { async fn commit(self) -> Result<(), Error> { Ok(()) } }
    /// # async fn handle(job: JobContext, inside: &dyn Executor, transaction: Transaction) -> Result<Outcome, Error> {
    /// let mut ack = job.ack().await?;
    /// let settlement = ack.commit_in(inside).await?;
    /// transaction.commit().await?;
    /// settlement.committed();
    /// # Ok(Outcome::Done)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `LeaseLost` after the handler has returned, in a task that outlives it.
    pub async fn ack(&self) -> Result<AckGuard<'_>, Error> {
        let ack = self.job.ack.lock().await;
        if ack.is_none() || self.job.has_ended.load(Ordering::Relaxed) {
            return Err(pm_core::Error::LeaseLost.into());
        }
        Ok(AckGuard(ack))
    }
}

/// The ack of a running job; see [`JobContext::ack`].
#[derive(Debug)]
pub struct AckGuard<'a>(MutexGuard<'a, Option<JobAck>>);

impl Deref for AckGuard<'_> {
    type Target = JobAck;

    fn deref(&self) -> &JobAck {
        self.0.as_ref().expect("checked when the guard was made")
    }
}

impl DerefMut for AckGuard<'_> {
    fn deref_mut(&mut self) -> &mut JobAck {
        self.0.as_mut().expect("checked when the guard was made")
    }
}
