//! Settling a job through its ack, and extending its lease.

use super::ack::JobAck;
use crate::sending::Outcome;
use crate::{Error, ErrorKind};
use pm_core::machine::{self, Trouble};
use pm_core::{JsonText, Reason, Verdict};
use serde::Serialize;
use std::pin::Pin;
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

    /// Finishes the job with a result: any serializable value, stored as JSON with the job.
    ///
    /// [`Queue::result`](crate::Queue::result) reads it, until the job is restarted, pruned or deleted. It may be up to
    /// 1 MiB, with each character beyond ASCII counted as its escape (`\u00e9`). A statement with results costs about a
    /// fifth more than one of plain commits.
    ///
    /// # Errors
    ///
    /// As [`JobAck::commit`]. `Payload` when the result cannot be encoded as JSON, and `Invalid` when it is too large:
    /// then nothing was sent, and [`Error::take_ack`] returns the ack, which is live. If it is not taken, the job
    /// soft-fails with that error as its reason.
    pub fn commit_with(self, result: impl Serialize) -> Settling {
        match as_result(&result) {
            Ok(result) => self.settle(Verdict::CommitWith(result)),
            Err(error) => {
                let reason = Reason::new(error.message());
                let ack = self.with_reason(reason);
                Settling(Err(Some(error.with_ack(ack))))
            }
        }
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

    /// Soft-fails the job, which is retried after this delay instead of the next one of its backoff: for a service that
    /// says when to come back, as with the header `Retry-After`.
    ///
    /// It counts as a retry. The delay has no jitter, and is at most ten years; with zero the job is ready at once. The
    /// reason is stored as for a soft fail.
    ///
    /// # Errors
    ///
    /// As [`JobAck::commit`].
    pub fn soft_fail_after(self, delay: Duration, reason: impl AsRef<str>) -> Settling {
        self.settle(Verdict::RetryAfter(Reason::new(reason.as_ref()), delay))
    }

    /// Puts the job off: it is due again after this delay, with neither a retry nor an attempt counted, however often.
    ///
    /// For work that cannot be done yet, such as asking for the state of something slow. It is due exactly then, at
    /// most ten years from now; with zero it goes to the end of its line. [`snoozes`](crate::PendingMetadata::snoozes)
    /// counts how often. A job that was put off has started: enqueues do not replace it.
    ///
    /// A snooze leaves no record in the job's history. So if its reply is lost and another worker has claimed the job
    /// since, the result is `LeaseLost` although the snooze was applied.
    ///
    /// # Errors
    ///
    /// As [`JobAck::commit`].
    pub fn snooze(self, delay: Duration) -> Settling {
        self.settle(Verdict::Snooze(delay))
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

    /// Extends the lease to its full length from now and returns the time that remains. The lease of a job with a
    /// timeout ends 30 s after that at the latest, so less than the full length may remain.
    ///
    /// The heartbeat does this automatically for up to an hour; see
    /// [`StreamOptions::heartbeat`](crate::StreamOptions::heartbeat).
    ///
    /// # Errors
    ///
    /// `LeaseLost` when another worker or an operator has taken the job; `Unavailable` when the database could not be
    /// reached before the lease's end.
    pub async fn refresh_lock(&mut self) -> Result<Duration, Error> {
        let (lease, now) = (self.lease, self.link.now());
        let extension = self.worker.request(
            |waiters| &mut waiters.extended,
            |state| {
                state.check_running(now)?;
                Ok(state.machine.extend(lease))
            },
        );
        extension.map_err(error)?.await.map_err(error)
    }

    fn settle(mut self, verdict: Verdict) -> Settling {
        Settling(self.queue_settlement(verdict).map_err(|trouble| Some(error(trouble))))
    }
}

/// The outcome of a settlement, as a future. Dropping it does not cancel the settlement.
#[must_use = "the settlement is queued but not confirmed: `.await` it, or call `.detach()`"]
pub struct Settling(Result<Outcome<machine::Worker, ()>, Option<Error>>);

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
        match &mut self.0 {
            Ok(outcome) => Pin::new(outcome).poll(cx).map_err(error),
            Err(error) => Poll::Ready(Err(error.take().unwrap_or_else(Error::no_task))),
        }
    }
}

/// Returns a value as the result of a job. Errors: `Payload` and `Invalid`, as [`JobAck::commit_with`].
pub(super) fn as_result(value: &impl Serialize) -> Result<JsonText, Error> {
    Ok(JsonText::result(as_json("result", value)?)?)
}

/// Returns a value as JSON. Errors: `Payload`, which says what could not be encoded.
pub(super) fn as_json(what: &str, value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| {
        Error::new(ErrorKind::Payload, format!("the {what} cannot be encoded as JSON: {error}")).with_source(error)
    })
}

/// Returns the error for a request's trouble, or for the end of the task without an outcome.
fn error(trouble: Option<Trouble>) -> Error {
    trouble.map_or_else(Error::no_task, Error::from)
}
