//! Settling a job through its ack, and extending its lease.

use super::ack::JobAck;
use super::waiters::Worker;
use crate::Error;
use pm_core::machine::{RequestId, Trouble};
use pm_core::{Reason, Verdict};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

impl JobAck {
    /// Finishes the job: the work is done.
    ///
    /// The future resolves to `Ok` when the settlement is durable. Settlements queued while a statement is in flight
    /// share the next one, so each costs only a part of a statement.
    ///
    /// # Errors
    ///
    /// `LeaseLost` when another worker or an operator has taken the job; `Unavailable` when the database could not be
    /// reached until 30 s after the lease's end, or the runtime that served the queue has ended.
    pub fn commit(self) -> Settling {
        self.settle(Verdict::Commit)
    }

    /// Soft-fails the job: it is retried after the next delay of its backoff, or has failed if no retry is left.
    ///
    /// The reason is stored with the job: the first 8 KiB, with NUL and the characters that the database's encoding
    /// cannot store replaced.
    ///
    /// # Errors
    ///
    /// As [`JobAck::commit`].
    pub fn soft_fail(self, reason: impl AsRef<str>) -> Settling {
        self.settle(Verdict::SoftFail(Reason::new(reason.as_ref())))
    }

    /// Hard-fails the job: it has failed, and is not retried. The reason is stored as for a soft fail.
    ///
    /// # Errors
    ///
    /// As [`JobAck::commit`].
    pub fn hard_fail(self, reason: impl AsRef<str>) -> Settling {
        self.settle(Verdict::HardFail(Reason::new(reason.as_ref())))
    }

    /// Releases the job without counting an attempt: it keeps its position and its retry count.
    ///
    /// A release leaves no record in the job's history. So if its reply is lost and another worker has claimed the job
    /// since, the result is `LeaseLost` although the release was applied.
    ///
    /// # Errors
    ///
    /// As [`JobAck::commit`].
    pub fn release(self) -> Settling {
        self.settle(Verdict::Release)
    }

    /// Puts the job back for another worker, because this one cannot decode its payload.
    ///
    /// For workers that decode payloads themselves; a stream does this for its payload type. No retry is counted. The
    /// job becomes ready again after 1, 5 and 25 minutes, then every 25 minutes, and fails with this reason if no
    /// worker could decode it for 24 hours.
    ///
    /// # Errors
    ///
    /// As [`JobAck::commit`].
    pub fn unreadable(self, reason: impl AsRef<str>) -> Settling {
        self.settle(Verdict::Unreadable(Reason::new(reason.as_ref())))
    }

    /// Extends the lease to its full length from now and returns the time that remains.
    ///
    /// The heartbeat does this automatically for up to an hour; see
    /// [`StreamOptions::heartbeat`](crate::StreamOptions::heartbeat).
    ///
    /// # Errors
    ///
    /// `LeaseLost` when another worker or an operator has taken the job; `Unavailable` when the database could not be
    /// reached before the lease's end.
    pub async fn refresh_lock(&mut self) -> Result<Duration, Error> {
        let (lease, now) = (self.lease(), self.link().now());
        let queued = self.worker().update(|state| {
            state.check_running(now)?;
            let request_id = state.machine.extend(lease);
            state.waiters.extended.expect(request_id);
            Ok(request_id)
        });
        Extending { worker: self.worker().clone(), request_id: queued.map_err(error)? }.await
    }

    fn settle(mut self, verdict: Verdict) -> Settling {
        let answer = Some(self.queue_settlement(verdict));
        Settling { worker: self.worker().clone(), answer }
    }
}

/// The outcome of a settlement, as a future. Dropping it does not cancel the settlement.
#[must_use = "the settlement is queued but not confirmed: `.await` it, or call `.detach()`"]
pub struct Settling {
    worker: Arc<Worker>,
    answer: Option<Result<RequestId, Option<Trouble>>>,
}

impl Settling {
    /// Drops the future without waiting for the outcome; the settlement is sent all the same.
    ///
    /// A stream yields no further job while 10,000 settlements are not applied, and
    /// [`Queue::close`](crate::Queue::close) waits for all of them.
    pub fn detach(self) {}
}

impl Future for Settling {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.answer.take() {
            Some(Ok(request_id)) => {
                let answer = self.worker.lock().waiters.settled.poll(request_id, cx);
                if answer.is_pending() {
                    self.answer = Some(Ok(request_id));
                }
                answer.map_err(error)
            }
            Some(Err(trouble)) => Poll::Ready(Err(error(trouble))),
            None => Poll::Pending,
        }
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        if let Some(Ok(request_id)) = self.answer {
            self.worker.lock().waiters.settled.forget(request_id);
        }
    }
}

/// The outcome of an extension, as a future: the time that remains of the lease.
pub(crate) struct Extending {
    pub(crate) worker: Arc<Worker>,
    pub(crate) request_id: RequestId,
}

impl Future for Extending {
    type Output = Result<Duration, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.worker.lock().waiters.extended.poll(self.request_id, cx).map_err(error)
    }
}

impl Drop for Extending {
    fn drop(&mut self) {
        self.worker.lock().waiters.extended.forget(self.request_id);
    }
}

/// Returns the error for a request's trouble, or for the end of the task without an outcome.
fn error(trouble: Option<Trouble>) -> Error {
    trouble.map_or_else(Error::no_task, Error::from)
}
