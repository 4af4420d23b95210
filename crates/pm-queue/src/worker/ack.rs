//! Acks: settling a job and extending its lease.

use crate::Error;
use crate::sending::{Link, add_waker};
use crate::worker::Worker;
use pm_core::machine::RequestId;
use pm_core::{Lease, Reason, Verdict};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use uuid::Uuid;

/// The handle by which a worker settles a job: commit, soft fail, hard fail or release.
///
/// Calling one of these methods queues the settlement at once; the worker's task sends it together with others.
/// Dropping the returned future does not cancel it. Dropping the ack without settling soft-fails the job, with the
/// reason `dropped without ack`, or `panicked` while unwinding. That works on any thread, inside or outside a runtime,
/// and does not block. With [`catch_panic`](crate::catch_panic) the reason contains the panic's message.
#[must_use = "dropping an ack soft-fails its job"]
pub struct JobAck {
    worker: Arc<Worker>,
    link: Arc<Link>,
    lease: Lease,
    attempt: u32,
    state: AckState,
    /// Why the payload could not be decoded; dropping the ack then settles the job as unreadable.
    unreadable: Option<Reason>,
}

/// Decides what dropping an ack does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckState {
    /// Dropping the ack soft-fails the job, or settles it as unreadable.
    Live,
    /// A caller's transaction, which may still be open, settles the job: dropping the ack leaves the lease to expire.
    InTransaction,
    /// [`JobAck::leave`] was called: the lease is left to expire.
    Left,
    /// The settlement is queued or applied.
    Settled,
}

impl JobAck {
    pub(crate) fn new(worker: Arc<Worker>, link: Arc<Link>, lease: Lease, attempt: u32) -> Self {
        JobAck { worker, link, lease, attempt, state: AckState::Live, unreadable: None }
    }

    /// Marks the job's payload as unreadable, for this reason.
    pub(crate) fn of_unreadable(mut self, reason: Reason) -> Self {
        self.unreadable = Some(reason);
        self
    }

    /// Returns the job's id.
    pub fn id(&self) -> Uuid {
        self.lease.job
    }

    /// Returns the number of attempts, this one included. The first attempt is 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns the lease: the job's id and the lease number, which is the fencing token of its settlement.
    pub fn lease(&self) -> Lease {
        self.lease
    }

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

    /// Gives up the ack without settling, and returns the lease; the job stays in progress.
    ///
    /// The lease is no longer extended: when it expires, the job is reaped. To hand the job over to another process,
    /// pass it the lease; it ends the job with [`Queue::change_jobs`](crate::Queue::change_jobs) and the lease as
    /// precondition.
    pub fn leave(mut self) -> Lease {
        self.state = AckState::Left;
        self.lease
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
        let (lease, now) = (self.lease, self.link.now());
        let request_id = self.worker.update(|state| {
            if let Some(error) = state.closed(now) {
                return Err(error);
            }
            let request_id = state.machine.extend(lease);
            state.waiters.extended.expect(request_id);
            Ok(request_id)
        })?;
        Extending { worker: self.worker.clone(), request_id }.await
    }

    /// Returns a future that completes when the lease can no longer be trusted. Stop working then: another worker may
    /// have the job.
    ///
    /// It also completes once the ack was used or dropped. It borrows nothing. After the machine was suspended it
    /// completes within 5 s, because the runtime's timers may stop during a suspend.
    pub fn lost(&self) -> Lost {
        Lost { worker: self.worker.clone(), link: self.link.clone(), lease: self.lease }
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    pub(crate) fn state(&self) -> AckState {
        self.state
    }

    pub(crate) fn set_state(&mut self, state: AckState) {
        self.state = state;
    }

    /// Returns the random bits for the jitter of a retry.
    pub(crate) fn random_for(&self, verdict: &Verdict) -> u64 {
        if matches!(verdict, Verdict::SoftFail(_)) { self.link.randomness.next_u64() } else { 0 }
    }

    pub(crate) fn settle(mut self, verdict: Verdict) -> Settling {
        self.queue_settlement(verdict)
    }

    fn queue_settlement(&mut self, verdict: Verdict) -> Settling {
        self.state = AckState::Settled;
        let (lease, now) = (self.lease, self.link.now());
        let random = self.random_for(&verdict);
        let (answer, wakers) = self.worker.update(|state| {
            let wakers = state.waiters.losses.remove(&lease).unwrap_or_default();
            if let Some(error) = state.closed(now) {
                return (Err(error), wakers);
            }
            let request_id = state.machine.settle(lease, verdict, now, random);
            state.waiters.settled.expect(request_id);
            (Ok(request_id), wakers)
        });
        wakers.into_iter().for_each(std::task::Waker::wake);
        Settling { worker: self.worker.clone(), answer: Some(answer) }
    }
}

impl std::fmt::Debug for JobAck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobAck").field("lease", &self.lease).field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

impl Drop for JobAck {
    fn drop(&mut self) {
        match self.state {
            AckState::Settled => {}
            AckState::InTransaction | AckState::Left => {
                let lease = self.lease;
                let wakers = self.worker.update(|state| {
                    state.machine.forget(&lease);
                    state.waiters.losses.remove(&lease).unwrap_or_default()
                });
                wakers.into_iter().for_each(std::task::Waker::wake);
            }
            AckState::Live => {
                let verdict = match self.unreadable.take() {
                    Some(reason) => Verdict::Unreadable(reason),
                    None if std::thread::panicking() => Verdict::SoftFail(Reason::new("panicked")),
                    None => Verdict::SoftFail(Reason::new("dropped without ack")),
                };
                drop(self.queue_settlement(verdict));
            }
        }
    }
}

/// The outcome of a settlement, as a future. Dropping it does not cancel the settlement.
#[must_use = "the settlement is queued but not confirmed: `.await` it, or call `.detach()`"]
pub struct Settling {
    worker: Arc<Worker>,
    answer: Option<Result<RequestId, Error>>,
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
                answer
            }
            Some(Err(error)) => Poll::Ready(Err(error)),
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
        self.worker.lock().waiters.extended.poll(self.request_id, cx)
    }
}

impl Drop for Extending {
    fn drop(&mut self) {
        self.worker.lock().waiters.extended.forget(self.request_id);
    }
}

/// A future that completes when a lease can no longer be trusted; see [`JobAck::lost`].
#[must_use = "futures do nothing unless awaited"]
pub struct Lost {
    worker: Arc<Worker>,
    link: Arc<Link>,
    lease: Lease,
}

impl Future for Lost {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.worker.lock();
        if state.has_ended || !state.machine.is_trusted(&self.lease, self.link.now()) {
            return Poll::Ready(());
        }
        add_waker(state.waiters.losses.entry(self.lease).or_default(), cx);
        Poll::Pending
    }
}
