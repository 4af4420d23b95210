//! Settling a job inside a transaction that the caller owns.

use crate::ack::{Extending, JobAck, Stance};
use crate::task::State;
use crate::{Error, Executor};
use futures_util::future::select;
use pm_core::machine::Worker;
use pm_core::op::{Settle, SettleItem};
use pm_core::{Error as CoreError, Reason, Verdict};
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Duration;

/// How long a settlement waits at most for an extension of its lease that is under way.
const EXTENSION_WAIT: Duration = Duration::from_secs(1);

impl JobAck {
    /// Finishes the job inside a transaction of the caller's: it counts when the transaction commits.
    ///
    /// The returned [`Settlement`] borrows the ack until you know how the transaction ended:
    ///
    /// ```no_run
    /// # use pm_queue::{Error, Executor, JobAck};
    /// # struct Transaction;
    /// # impl Transaction { async fn commit(self) -> Result<(), Error> { Ok(()) } }
    /// # async fn handle(ack: &mut JobAck, inside: &dyn Executor, transaction: Transaction) -> Result<(), Error> {
    /// let settlement = ack.commit_in(inside).await?;
    /// transaction.commit().await?; // if this fails, the settlement is dropped, and the ack counts again
    /// settlement.committed();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// One statement. Once it has run, the job is locked: no other worker gets it before the transaction ends, however
    /// long that takes. Dropping the future before its end is like dropping the settlement.
    ///
    /// # Isolation
    ///
    /// READ COMMITTED, the default, needs no care. Under REPEATABLE READ and SERIALIZABLE the lease must not have been
    /// extended since the transaction's snapshot, or the error is of kind `Database` with SQLSTATE 40001. Extension rests
    /// from here on; so settle first thing in the transaction, before its other statements, and this cannot happen. A
    /// settlement at the end of a transaction that is older than a third of the lease may fail once: then the lease is
    /// extended at once, and not again for two thirds of its length, so that the second try succeeds within that time.
    ///
    /// # Errors
    ///
    /// `LeaseLost` when another worker has the job, or an operator ended it, or an earlier transaction of this handler
    /// did commit although its reply was lost: roll back. `Unavailable` or `Database`: roll back; the ack counts as before.
    pub async fn commit_in(&mut self, transaction: &dyn Executor) -> Result<Settlement<'_>, Error> {
        self.settle_in(transaction, Verdict::Commit).await
    }

    /// Soft-fails the job inside a transaction of the caller's: for what the handler wants to keep although it failed.
    ///
    /// As [`JobAck::commit_in`] otherwise; see [`JobAck::soft_fail`] for what a soft fail is.
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

    /// Fails the job for good inside a transaction of the caller's: "mark the order as refused, and never try again".
    ///
    /// As [`JobAck::commit_in`] otherwise.
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
        settlement.wait_for_extension().await;
        let item = settlement.item(verdict).ok_or(CoreError::LeaseLost)?;
        let settle = Settle { items: std::slice::from_ref(&item), passes: false };
        let link = settlement.ack.link();
        match link.run_in(transaction, settle).await {
            Ok(unsettled) if unsettled.missed.is_empty() => {
                settlement.item = Some(item);
                Ok(settlement)
            }
            Ok(_) => Err(CoreError::LeaseLost.into()),
            Err(error) => {
                settlement.extend_for_another_try().await;
                Err(error)
            }
        }
    }
}

/// A settlement made in a transaction of the caller's, which counts when that commits.
///
/// While it lives, the job's lease is not extended and its ack can neither be used nor dropped. Call
/// [`Settlement::committed`] once the transaction has committed. Otherwise drop it, which `?` does by itself: the ack is
/// live again, so settle or drop that, and the job is tried again without waiting for its lease. That is right when the
/// transaction was rolled back, and when its commit failed in a way that leaves the outcome unknown, too: the lease
/// number fences a second settlement off if the first one took effect.
///
/// In whatever order transaction, settlement and ack are dropped, none blocks. One that is leaked
/// (`std::mem::forget`) leaves the job to its lease.
#[must_use = "call .committed() when the transaction has committed; when it is dropped the ack is live again"]
pub struct Settlement<'a> {
    ack: &'a mut JobAck,
    /// What the transaction was asked for; none until it has answered.
    item: Option<SettleItem>,
}

impl<'a> Settlement<'a> {
    fn begin(ack: &'a mut JobAck) -> Self {
        let lease = ack.lease();
        ack.worker().tell(|state| state.machine.rest(lease));
        ack.set_stance(Stance::InTransaction);
        Settlement { ack, item: None }
    }

    /// Records that the transaction has committed: the job is settled, and its ack is used up.
    ///
    /// It wakes idle workers if the job is to be tried again at once.
    pub fn committed(mut self) {
        let Some(item) = self.item.take() else { return };
        let (lease, now) = (item.lease, self.ack.link().now());
        self.ack.set_stance(Stance::Settled);
        let wakers = self.ack.worker().tell(|state| {
            state.machine.handle_settled_elsewhere(&item, now);
            state.waiters.losses.remove(&lease).unwrap_or_default()
        });
        wakers.into_iter().for_each(Waker::wake);
    }

    fn item(&self, verdict: Verdict) -> Option<SettleItem> {
        let random = self.ack.random_for(&verdict);
        self.ack.worker().lock().machine.settlement(self.ack.lease(), verdict, random)
    }

    /// Waits until no extension of the lease is under way: it might be newer than the snapshot of the transaction.
    async fn wait_for_extension(&self) {
        let lease = self.ack.lease();
        let is_extending = |state: &State<Worker>| !state.gone && state.machine.is_extending(&lease);
        if !is_extending(&self.ack.worker().lock()) {
            return;
        }
        let is_over = poll_fn(|cx| {
            let mut state = self.ack.worker().lock();
            if !is_extending(&state) {
                return Poll::Ready(());
            }
            state.waiters.no_longer_extending.retain(|(other, _)| *other != lease);
            state.waiters.no_longer_extending.push((lease, cx.waker().clone()));
            Poll::Pending
        });
        // If it takes longer, a stricter isolation than READ COMMITTED may ask for another try.
        drop(select(pin!(is_over), self.ack.link().runtime.sleep(EXTENSION_WAIT)).await);
    }

    /// Extends the lease, so that the caller's next try has all of it.
    async fn extend_for_another_try(&self) {
        let (lease, now) = (self.ack.lease(), self.ack.link().now());
        let worker = self.ack.worker();
        let request_id = worker.tell(|state| {
            let request_id = state.machine.resume_and_extend(lease, now).filter(|_| !state.gone)?;
            state.waiters.extended.expect(request_id);
            Some(request_id)
        });
        if let Some(request_id) = request_id {
            let extended = Extending { worker: worker.clone(), request_id };
            // Whatever comes of it: if it fails, a lease that is too short shows at the next try.
            drop(select(extended, self.ack.link().runtime.sleep(EXTENSION_WAIT)).await);
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
        if self.ack.stance() == Stance::InTransaction {
            let lease = self.ack.lease();
            self.ack.set_stance(Stance::Live);
            self.ack.worker().tell(|state| state.machine.resume(lease));
        }
    }
}
