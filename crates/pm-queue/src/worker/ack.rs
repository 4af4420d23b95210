//! Acks: what a handler holds of a job, and what dropping it does.

use super::waiters::{Worker, report_activity};
use crate::observe::{SettleOutcome, Span};
use crate::sending::{Link, Outcome, add_waker};
use pm_core::machine::{self, Trouble};
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
    pub(super) worker: Arc<Worker>,
    pub(super) link: Arc<Link>,
    pub(super) lease: Lease,
    attempt: u32,
    pub(super) state: AckState,
    /// Whether the payload could not be decoded: dropping the ack settles the job as unreadable.
    is_unreadable: bool,
    /// The reason with which dropping the ack settles the job, if there is a better one than that it was dropped.
    reason: Option<Reason>,
    pub(crate) span: Span,
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
    pub(crate) fn new(worker: Arc<Worker>, link: Arc<Link>, lease: Lease, attempt: u32, span: Span) -> Self {
        JobAck { worker, link, lease, attempt, state: AckState::Live, is_unreadable: false, reason: None, span }
    }

    /// Marks the job's payload as unreadable, for this reason.
    pub(crate) fn of_unreadable(mut self, reason: Reason) -> Self {
        self.is_unreadable = true;
        self.with_reason(reason)
    }

    /// Sets the reason with which dropping the ack settles the job.
    pub(super) fn with_reason(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
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

    /// Returns whether the job was settled through this ack, by a transaction that has committed.
    pub fn is_settled(&self) -> bool {
        self.state == AckState::Settled
    }

    /// Returns the span of `tracing` of this attempt, `pm.job`: run the handler in it, with
    /// [`Instrument`](tracing::Instrument).
    ///
    /// It has no parent, unless an observer gives it that of the job's trace (`Observer::job_span`). It ends when the
    /// ack is used or dropped and the handler has ended.
    #[cfg(feature = "tracing")]
    pub fn span(&self) -> tracing::Span {
        self.span.to_tracing()
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

    /// Returns a future that completes when the job is to be cancelled, and not otherwise.
    ///
    /// The handler may then clean up and settle the job: a commit finishes it, everything else makes it fail, with the
    /// reason of the cancel. It borrows nothing. See [`Queue::cancel_jobs`](crate::Queue::cancel_jobs) for when it
    /// completes.
    pub fn cancelled(&self) -> Cancelled {
        Cancelled { worker: self.worker.clone(), lease: self.lease }
    }

    /// Returns the random bits for the jitter of a retry.
    pub(crate) fn random_for(&self, verdict: &Verdict) -> u64 {
        if matches!(verdict, Verdict::SoftFail(_)) { self.link.randomness.next_u64() } else { 0 }
    }

    /// Queues a settlement, and returns its outcome. Errors: as `check_running` of the worker's state.
    pub(super) fn queue_settlement(
        &mut self,
        verdict: Verdict,
    ) -> Result<Outcome<machine::Worker, ()>, Option<Trouble>> {
        self.state = AckState::Settled;
        let (lease, now, random) = (self.lease, self.link.now(), self.random_for(&verdict));
        let (mut wakers, mut applied) = (Vec::new(), None);
        let outcome = self.worker.request(
            |waiters| &mut waiters.settled,
            |state| {
                wakers = state.waiters.watchers.remove(&lease).unwrap_or_default();
                if let Err(ended) = state.check_running(now) {
                    let outcome = ended.as_ref().map_or(SettleOutcome::NotStored, SettleOutcome::of_trouble);
                    state.waiters.observe(|activity| activity.end(&lease, outcome, now));
                    return Err(ended);
                }
                let is_observed = state.waiters.activity.is_some();
                let item = is_observed.then(|| state.machine.settlement(lease, verdict.clone(), random)).flatten();
                let is_cancelled = state.machine.is_cancelled(&lease);
                applied = item.map(|item| SettleOutcome::of(&item, is_cancelled));
                let request_id = state.machine.settle(lease, verdict, now, random);
                // Without the lease it is refused.
                let outcome = applied.unwrap_or(SettleOutcome::LeaseLost);
                state.waiters.observe(|activity| activity.settle(&lease, request_id, outcome, now));
                Ok(request_id)
            },
        );
        wakers.into_iter().for_each(std::task::Waker::wake);
        if let Some(applied) = applied {
            self.span.record_outcome(applied.name());
        }
        if outcome.is_err() {
            report_activity(&self.worker, &self.link);
        }
        outcome
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
                    state.waiters.observe(|activity| activity.end(&lease, SettleOutcome::Left, self.link.now()));
                    state.waiters.watchers.remove(&lease).unwrap_or_default()
                });
                wakers.into_iter().for_each(std::task::Waker::wake);
                report_activity(&self.worker, &self.link);
                self.span.record_outcome(SettleOutcome::Left.name());
            }
            AckState::Live => {
                let verdict = match self.reason.take() {
                    Some(reason) if self.is_unreadable => Verdict::Unreadable(reason),
                    Some(reason) => Verdict::SoftFail(reason),
                    None if std::thread::panicking() => Verdict::SoftFail(Reason::new("panicked")),
                    None => Verdict::SoftFail(Reason::new("dropped without ack")),
                };
                drop(self.queue_settlement(verdict));
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
        add_waker(state.waiters.watchers.entry(self.lease).or_default(), cx);
        Poll::Pending
    }
}

/// A future that completes when a job is to be cancelled; see [`JobAck::cancelled`].
#[must_use = "futures do nothing unless awaited"]
pub struct Cancelled {
    worker: Arc<Worker>,
    lease: Lease,
}

impl Future for Cancelled {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.worker.lock();
        if state.machine.is_cancelled(&self.lease) {
            return Poll::Ready(());
        }
        if state.machine.has_lease(&self.lease) {
            add_waker(state.waiters.watchers.entry(self.lease).or_default(), cx);
        }
        Poll::Pending
    }
}
