//! Settling a job inside a caller's transaction.

use super::ack::{AckState, JobAck};
use super::settling::as_result;
use super::waiters::report_activity;
use crate::Error;
use crate::driver::Executor;
use crate::observe::SettleOutcome;
use crate::sending::State;
use futures_util::future::select;
use pm_core::machine::Worker;
use pm_core::op::{Settle, SettleItem};
use pm_core::{Error as CoreError, Reason, Verdict};
use serde::Serialize;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Duration;

/// How long a settlement waits at most for an extension of its lease that is in flight.
const EXTENSION_WAIT: Duration = Duration::from_secs(1);

impl JobAck {
    /// Finishes the job inside the caller's transaction: the job is finished when the transaction commits.
    ///
    /// The returned [`Settlement`] borrows the ack until the outcome of the transaction is known:
    ///
    /// ```no_run
    /// # use pm_queue::{Error, JobAck};
    /// # use pm_queue::driver::Executor;
    /// # struct Transaction;
    /// # impl Transaction { async fn commit(self) -> Result<(), Error> { Ok(()) } }
    /// # async fn handle(ack: &mut JobAck, inside: &dyn Executor, transaction: Transaction) -> Result<(), Error> {
    /// let settlement = ack.commit_in(inside).await?;
    /// transaction.commit().await?; // on failure the settlement is dropped, and the ack is live again
    /// settlement.committed();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Runs one statement. After it the job's row is locked: no other worker can claim the job before the transaction
    /// ends, however long that takes. Dropping the future before it completes is like dropping the settlement.
    ///
    /// # Isolation
    ///
    /// READ COMMITTED, the default, needs no care. Under REPEATABLE READ and SERIALIZABLE, the call fails with kind
    /// `Database` and SQLSTATE 40001 if the lease was extended after the transaction's snapshot was taken. This call
    /// stops the heartbeat. So settle before the other statements of the transaction, and this cannot happen. A
    /// settlement at the end of a transaction that is older than a third of the lease may fail once; then the lease is
    /// extended at once, and not again for two thirds of its length, so that a second try within that time succeeds.
    ///
    /// # Errors
    ///
    /// `LeaseLost` when another worker has the job, or an operator has ended it, or an earlier transaction of this
    /// handler did commit although its reply was lost. `Unavailable` or `Database` for other failures; the ack is then
    /// live again. After any error, roll back.
    pub async fn commit_in(&mut self, transaction: &dyn Executor) -> Result<Settlement<'_>, Error> {
        self.settle_in(transaction, Verdict::Commit).await
    }

    /// Finishes the job with a result inside the caller's transaction.
    ///
    /// Otherwise as [`JobAck::commit_in`]; see [`JobAck::commit_with`] for what a result is.
    ///
    /// # Errors
    ///
    /// As [`JobAck::commit_in`]; `Payload` when the result cannot be encoded as JSON, and `Invalid` when it is too
    /// large. Then nothing was sent, and the transaction need not be rolled back.
    pub async fn commit_with_in(
        &mut self,
        transaction: &dyn Executor,
        result: impl Serialize,
    ) -> Result<Settlement<'_>, Error> {
        let verdict = Verdict::CommitWith(as_result(&result)?);
        drop(result);
        self.settle_in(transaction, verdict).await
    }

    /// Soft-fails the job inside the caller's transaction. For changes that the handler wants to keep although it
    /// failed.
    ///
    /// Otherwise as [`JobAck::commit_in`]; see [`JobAck::soft_fail`] for what a soft fail is.
    ///
    /// # Errors
    ///
    /// As [`JobAck::commit_in`].
    pub async fn soft_fail_in(
        &mut self,
        transaction: &dyn Executor,
        reason: impl AsRef<str>,
    ) -> Result<Settlement<'_>, Error> {
        let verdict = Verdict::SoftFail(Reason::new(reason.as_ref()));
        self.settle_in(transaction, verdict).await
    }

    /// Soft-fails the job inside the caller's transaction, with this delay before its retry.
    ///
    /// Otherwise as [`JobAck::commit_in`]; see [`JobAck::soft_fail_after`].
    ///
    /// # Errors
    ///
    /// As [`JobAck::commit_in`].
    pub async fn soft_fail_after_in(
        &mut self,
        transaction: &dyn Executor,
        delay: Duration,
        reason: impl AsRef<str>,
    ) -> Result<Settlement<'_>, Error> {
        let verdict = Verdict::RetryAfter(Reason::new(reason.as_ref()), delay);
        self.settle_in(transaction, verdict).await
    }

    /// Puts the job off inside the caller's transaction, for example together with how far the work has come.
    ///
    /// Otherwise as [`JobAck::commit_in`]; see [`JobAck::snooze`].
    ///
    /// # Errors
    ///
    /// As [`JobAck::commit_in`].
    pub async fn snooze_in(&mut self, transaction: &dyn Executor, delay: Duration) -> Result<Settlement<'_>, Error> {
        self.settle_in(transaction, Verdict::Snooze(delay)).await
    }

    /// Hard-fails the job inside the caller's transaction, for example to mark an order as refused and never try
    /// again.
    ///
    /// Otherwise as [`JobAck::commit_in`]; see [`JobAck::hard_fail`] for what a hard fail is.
    ///
    /// # Errors
    ///
    /// As [`JobAck::commit_in`].
    pub async fn hard_fail_in(
        &mut self,
        transaction: &dyn Executor,
        reason: impl AsRef<str>,
    ) -> Result<Settlement<'_>, Error> {
        let verdict = Verdict::HardFail(Reason::new(reason.as_ref()));
        self.settle_in(transaction, verdict).await
    }

    async fn settle_in(&mut self, transaction: &dyn Executor, verdict: Verdict) -> Result<Settlement<'_>, Error> {
        let mut settlement = Settlement::begin(self);
        settlement.wait_for_writes().await;
        let item = settlement.item(verdict).ok_or(CoreError::LeaseLost)?;
        let settle = Settle { items: std::slice::from_ref(&item), passes: false };
        let link = &settlement.ack.link;
        match link.run_in(transaction, settle).await {
            Ok(unsettled) if unsettled.missed.is_empty() => {
                settlement.item = Some(item);
                Ok(settlement)
            }
            Ok(_) => Err(CoreError::LeaseLost.into()),
            Err(trouble) => {
                settlement.extend_for_another_try().await;
                Err(trouble.into())
            }
        }
    }
}

/// A settlement in a caller's transaction, which takes effect when the transaction commits.
///
/// While it exists, the job's lease is not extended, and its ack can neither be used nor dropped. Call
/// [`Settlement::committed`] after the transaction has committed. In all other cases drop it, as `?` does: the ack is
/// live again, so settle it or drop it, and the job is retried without waiting for its lease. Drop it also when the
/// commit failed and its outcome is unknown: if it took effect, the lease number fences off a second settlement.
///
/// Transaction, settlement and ack may be dropped in any order without blocking. After a leak (`std::mem::forget`) the
/// job stays in progress until its lease expires.
#[must_use = "call .committed() when the transaction has committed; when it is dropped the ack is live again"]
pub struct Settlement<'a> {
    ack: &'a mut JobAck,
    /// The settlement that the transaction has run; none before its reply.
    item: Option<SettleItem>,
}

impl<'a> Settlement<'a> {
    fn begin(ack: &'a mut JobAck) -> Self {
        let lease = ack.lease;
        ack.worker.update(|state| state.machine.rest(lease));
        ack.state = AckState::InTransaction;
        Settlement { ack, item: None }
    }

    /// Records that the transaction has committed: the job is settled, and its ack is used up.
    ///
    /// Wakes idle workers if the job is to be retried at once.
    pub fn committed(mut self) {
        let Some(item) = self.item.take() else { return };
        let (lease, now) = (item.lease, self.ack.link.now());
        self.ack.state = AckState::Settled;
        let (outcome, wakers) = self.ack.worker.update(|state| {
            let outcome = SettleOutcome::of(&item, state.machine.is_cancelled(&lease));
            state.machine.handle_settled_in_transaction(&item, now);
            state.waiters.observe(|activity| activity.end(&lease, outcome, now));
            (outcome, state.waiters.watchers.remove(&lease).unwrap_or_default())
        });
        wakers.into_iter().for_each(Waker::wake);
        self.ack.span.record_outcome(outcome.name());
        report_activity(&self.ack.worker, &self.ack.link);
    }

    fn item(&self, verdict: Verdict) -> Option<SettleItem> {
        let random = self.ack.random_for(&verdict);
        self.ack.worker.lock().machine.settlement(self.ack.lease, verdict, random)
    }

    /// Waits until no extension of the lease and no progress under it is in flight, which might be newer than the
    /// transaction's snapshot.
    async fn wait_for_writes(&self) {
        let lease = self.ack.lease;
        let is_written = |state: &State<Worker>| !state.has_ended && state.machine.is_being_written(&lease);
        if !is_written(&self.ack.worker.lock()) {
            return;
        }
        let is_over = poll_fn(|cx| {
            let mut state = self.ack.worker.lock();
            if !is_written(&state) {
                return Poll::Ready(());
            }
            state.waiters.no_longer_written.retain(|(other, _)| *other != lease);
            state.waiters.no_longer_written.push((lease, cx.waker().clone()));
            Poll::Pending
        });
        // If it takes longer, an isolation level above READ COMMITTED may need a second try.
        drop(select(pin!(is_over), self.ack.link.runtime.sleep(EXTENSION_WAIT)).await);
    }

    /// Extends the lease to its full length for the caller's next try.
    async fn extend_for_another_try(&self) {
        let (lease, now) = (self.ack.lease, self.ack.link.now());
        let extension = self.ack.worker.request(
            |waiters| &mut waiters.extended,
            |state| state.machine.resume_and_extend(lease, now).filter(|_| !state.has_ended).ok_or(()),
        );
        if let Ok(extended) = extension {
            // The outcome does not matter: if the extension fails, the next try fails too.
            drop(select(extended, self.ack.link.runtime.sleep(EXTENSION_WAIT)).await);
        }
    }
}

impl std::fmt::Debug for Settlement<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settlement").field("ack", &self.ack).finish_non_exhaustive()
    }
}

impl Drop for Settlement<'_> {
    fn drop(&mut self) {
        if self.ack.state == AckState::InTransaction {
            let lease = self.ack.lease;
            self.ack.state = AckState::Live;
            self.ack.worker.update(|state| state.machine.resume(lease));
        }
    }
}
