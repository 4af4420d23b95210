//! Acks: what a handler holds of a job, and what dropping it does.

use super::waiters::Worker;
use crate::sending::{Link, add_waker};
use pm_core::machine::{RequestId, Trouble};
use pm_core::{Lease, Reason, Verdict};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
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

    /// Gives up the ack without settling, and returns the lease; the job stays in progress.
    ///
    /// The lease is no longer extended: when it expires, the job is reaped. To hand the job over to another process,
    /// pass it the lease; it ends the job with [`Queue::change_jobs`](crate::Queue::change_jobs) and the lease as
    /// precondition.
    pub fn leave(mut self) -> Lease {
        self.state = AckState::Left;
        self.lease
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

    /// Queues a settlement, and returns the request whose outcome tells what became of it.
    ///
    /// # Errors
    ///
    /// As `check_running` of the worker's state.
    pub(super) fn queue_settlement(&mut self, verdict: Verdict) -> Result<RequestId, Option<Trouble>> {
        self.state = AckState::Settled;
        let (lease, now) = (self.lease, self.link.now());
        let random = self.random_for(&verdict);
        let (queued, wakers) = self.worker.update(|state| {
            let wakers = state.waiters.losses.remove(&lease).unwrap_or_default();
            let queued = state.check_running(now).map(|()| {
                let request_id = state.machine.settle(lease, verdict, now, random);
                state.waiters.settled.expect(request_id);
                request_id
            });
            (queued, wakers)
        });
        wakers.into_iter().for_each(std::task::Waker::wake);
        queued
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
                if let Ok(request_id) = self.queue_settlement(verdict) {
                    self.worker.lock().waiters.settled.forget(request_id);
                }
            }
        }
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
