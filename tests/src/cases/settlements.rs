//! Settling in the caller's transaction: what the ack does when that commits, rolls back, or ends with unknown outcome.

use super::Harness;
use crate::unattended;
use futures_util::FutureExt;
use pm_queue::driver::{BoxFuture, Executor, Failure, Rows, Statement, Value};
use pm_queue::{EnqueueOptions, Error, ErrorKind, JobAck, SettingsChange, Settlement, State, StreamOptions, Uuid};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// Returns a claimed job and its ack; a retry comes after an hour.
async fn job(harness: &Harness) -> (Uuid, JobAck) {
    let id = harness.put_with(1, EnqueueOptions::default().backoff(vec![HOUR]).max_retries(3)).await;
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let (_, ack) = harness.take(&mut jobs).await;
    assert_eq!(ack.id(), id);
    (id, ack)
}

/// Waits until a job was soft-failed because its ack was dropped, long before its lease of 20 minutes ends.
async fn expect_dropped(harness: &Harness, id: Uuid, what: &str) {
    harness.eventually(what, async || harness.state(id).await == State::Pending).await;
    assert_eq!(harness.job(id).await.reason.as_deref(), Some("dropped without ack"), "{what}");
}

/// The order of drops does not matter, and the job does not wait for its lease.
pub(super) async fn after_a_rollback_a_drop_of_the_ack_soft_fails_its_job(harness: Harness) {
    let (id, mut ack) = job(&harness).await;
    let mut transaction = harness.begin().await;
    let settlement = ack.commit_in(&*transaction.inside()).await.unwrap();
    transaction.end(false).await;
    drop(settlement);
    drop(ack);
    expect_dropped(&harness, id, "transaction, settlement, ack").await;

    let (id, mut ack) = job(&harness).await;
    let mut transaction = harness.begin().await;
    let settlement = ack.commit_in(&*transaction.inside()).await.unwrap();
    drop(settlement);
    transaction.end(false).await;
    drop(ack);
    expect_dropped(&harness, id, "settlement, transaction, ack").await;

    let (id, mut ack) = job(&harness).await;
    let mut transaction = harness.begin().await;
    drop(ack.hard_fail_in(&*transaction.inside(), "refused").await.unwrap());
    drop(ack);
    transaction.end(false).await;
    expect_dropped(&harness, id, "settlement, ack, transaction").await;

    let (id, mut ack) = job(&harness).await;
    let mut transaction = harness.begin().await;
    drop(ack.commit_in(&*transaction.inside()).await.unwrap());
    transaction.end(false).await;
    ack.hard_fail("the order was refused").await.unwrap();
    assert_eq!(harness.state(id).await, State::Failed, "the ack can be settled with another verdict");
}

/// `?` in a handler is enough: its values are dropped in the right order.
pub(super) async fn an_early_return_from_a_handler_drops_the_ack(harness: Harness) {
    async fn handle(harness: &Harness, mut ack: JobAck) -> Result<(), Error> {
        let mut transaction = harness.begin().await;
        let inside = transaction.inside();
        let settlement = ack.commit_in(&*inside).await?;
        harness.queue.enqueue_in(&*inside, "nowhere", 1u64, EnqueueOptions::default()).await?;
        drop(inside);
        transaction.end(true).await;
        settlement.committed();
        Ok(())
    }
    let (id, ack) = job(&harness).await;
    assert_eq!(handle(&harness, ack).await.unwrap_err().kind(), ErrorKind::QueueNotFound);
    expect_dropped(&harness, id, "an early return").await;
}

/// A commit whose reply is lost: the handler treats it as failed, and the lease number fences off its drop.
pub(super) async fn a_drop_after_a_commit_of_unknown_outcome_changes_nothing(harness: Harness) {
    let (id, mut ack) = job(&harness).await;
    let mut transaction = harness.begin().await;
    let settlement = ack.commit_in(&*transaction.inside()).await.unwrap();
    transaction.end(true).await;
    drop(settlement);
    // A second try of the transaction is refused and rolled back, so its rows are written once.
    let mut again = harness.begin().await;
    let refused = ack.commit_in(&*again.inside()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LeaseLost);
    again.end(false).await;
    assert_eq!(ack.soft_fail("in doubt").await.unwrap_err().kind(), ErrorKind::LeaseLost);
    let settled = harness.job(id).await;
    assert_eq!((settled.state, settled.retry_count, settled.reason), (State::Finished, 0, None));
    assert!(harness.queue.attempts(id).await.unwrap().is_empty());
}

/// Runs statements and never returns their replies.
struct Unanswered<'a>(&'a dyn Executor);

impl Executor for Unanswered<'_> {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        Box::pin(async move {
            drop(self.0.run(statement, params).await);
            std::future::pending().await
        })
    }
}

/// A settlement cancelled before its reply leaves the ack as it was, however the transaction ends.
pub(super) async fn a_settlement_cancelled_halfway_leaves_the_ack_live(harness: Harness) {
    for commits in [false, true] {
        let (id, mut ack) = job(&harness).await;
        let mut transaction = harness.begin().await;
        let inside = transaction.inside();
        assert!(harness.before(SECOND, ack.commit_in(&Unanswered(&*inside))).await.is_none());
        drop(inside);
        transaction.end(commits).await;
        drop(ack);
        match commits {
            true => assert_eq!(harness.state(id).await, State::Finished),
            false => expect_dropped(&harness, id, "cancelled").await,
        }
    }
}

/// A leaked settlement leaves the job leased: dropping the ack sends nothing into an open transaction.
pub(super) async fn a_leaked_settlement_leaves_the_job_to_its_lease(harness: Harness) {
    let (id, mut ack) = job(&harness).await;
    let other = harness.put(2).await;
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let (_, others) = harness.take(&mut jobs).await;
    let mut transaction = harness.begin().await;
    std::mem::forget(ack.commit_in(&*transaction.inside()).await.unwrap());
    let lost = ack.lost();
    drop(ack);
    harness.within("the end of lost()", lost).await;
    transaction.end(false).await;
    others.commit().await.unwrap();
    assert_eq!((harness.state(id).await, harness.state(other).await), (State::InProgress, State::Finished));
}

#[derive(Clone, Copy)]
enum Verdict {
    Commit,
    SoftFail,
    SoftFailAfter,
    HardFail,
    Snooze,
}

async fn settle<'a>(ack: &'a mut JobAck, inside: &dyn Executor, verdict: Verdict) -> Result<Settlement<'a>, Error> {
    match verdict {
        Verdict::Commit => ack.commit_in(inside).await,
        Verdict::SoftFail => ack.soft_fail_in(inside, "later").await,
        Verdict::SoftFailAfter => ack.soft_fail_after_in(inside, HOUR * 2, "busy").await,
        Verdict::HardFail => ack.hard_fail_in(inside, "never").await,
        Verdict::Snooze => ack.snooze_in(inside, HOUR).await,
    }
}

/// Every verdict in a transaction: no effect before the commit, and none after a rollback.
pub(super) async fn verdicts_in_a_transaction_are_applied_when_it_commits(harness: Harness) {
    let hour = || EnqueueOptions::default().backoff(vec![HOUR]);
    let cases = [
        (Verdict::Commit, hour(), (State::Finished, 0, None, false)),
        (Verdict::SoftFail, hour(), (State::Pending, 1, Some("later"), true)),
        (Verdict::SoftFail, hour().max_retries(0), (State::Failed, 1, Some("later"), false)),
        (Verdict::SoftFailAfter, hour(), (State::Pending, 1, Some("busy"), true)),
        (Verdict::HardFail, hour(), (State::Failed, 0, Some("never"), false)),
        (Verdict::Snooze, hour(), (State::Pending, 0, None, true)),
    ];
    for (verdict, options, (state, retries, reason, waits)) in cases {
        let id = harness.put_with(1, options).await;
        let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", unattended());
        let (_, mut ack) = harness.take(&mut jobs).await;
        for commits in [false, true] {
            let mut transaction = harness.begin().await;
            let settlement = settle(&mut ack, &*transaction.inside(), verdict).await.unwrap();
            assert_eq!(harness.state(id).await, State::InProgress, "not before the commit");
            transaction.end(commits).await;
            match commits {
                true => settlement.committed(),
                false => drop(settlement),
            }
            if !commits {
                assert_eq!((harness.state(id).await, harness.job(id).await.retry_count), (State::InProgress, 0));
            }
        }
        let job = harness.job(id).await;
        assert_eq!(
            (job.state, job.retry_count, job.reason.as_deref(), job.run_at.is_some()),
            (state, retries, reason, waits)
        );
        assert_eq!(harness.queue.attempts(id).await.unwrap().len(), usize::from(reason.is_some()));
        assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost, "the ack is used up");
    }
}

/// After a soft fail without delay, the stream finds the job as soon as the transaction has committed.
pub(super) async fn a_retry_from_a_transaction_is_found_at_once(harness: Harness) {
    let id = harness.put_with(1, EnqueueOptions::default().backoff(vec![Duration::ZERO]).jitter_percent(0)).await;
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", StreamOptions::default().poll(HOUR, HOUR));
    let (_, mut ack) = harness.take(&mut jobs).await;
    let mut transaction = harness.begin().await;
    let settlement = ack.soft_fail_in(&*transaction.inside(), "again").await.unwrap();
    transaction.end(true).await;
    settlement.committed();
    let (_, again) = harness.take(&mut jobs).await;
    assert_eq!((again.id(), again.attempt()), (id, 2));
    again.commit().await.unwrap();
}

/// Under REPEATABLE READ, a lease that was extended after the snapshot fails one try, not every one.
pub(super) async fn a_transaction_older_than_an_extension_succeeds_the_second_time(harness: Harness) {
    harness.queue.set_queue_settings("tasks", SettingsChange::new().lease(SECOND * 3)).await.unwrap();
    let snapshot = "set transaction isolation level repeatable read; select from pm.job";
    let id = harness.put(1).await;
    let mut jobs = harness.queue.try_stream_jobs::<u64>("tasks");
    let (_, mut ack) = harness.take(&mut jobs).await;
    let until = harness.job(id).await.lease_expires_at;
    let mut transaction = harness.begin().await;
    transaction.execute(snapshot).await;
    let extended = async || harness.job(id).await.lease_expires_at > until;
    harness.eventually("the lease is extended", extended).await;
    let refused = ack.commit_in(&*transaction.inside()).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Database && refused.to_string().contains("40001"), "{refused}");
    transaction.end(false).await;

    let mut transaction = harness.begin().await;
    transaction.execute(snapshot).await;
    let settlement = ack.commit_in(&*transaction.inside()).await.unwrap();
    transaction.end(true).await;
    settlement.committed();
    assert_eq!((harness.state(id).await, harness.job(id).await.attempt), (State::Finished, 1));
}

/// A transaction that starts by settling may take longer than the lease: no other worker gets the job until it ends.
pub(super) async fn a_transaction_that_settles_first_may_outlast_the_lease(harness: Harness) {
    harness.queue.set_queue_settings("tasks", SettingsChange::new().lease(SECOND)).await.unwrap();
    let id = harness.put(1).await;
    let mut jobs = harness.queue.try_stream_jobs::<u64>("tasks");
    let (_, mut ack) = harness.take(&mut jobs).await;
    let mut transaction = harness.begin().await;
    transaction.execute("set transaction isolation level serializable").await;
    let settlement = ack.commit_in(&*transaction.inside()).await.unwrap();
    let ended = "select count(*) from pm.job where lease_expires_at < now()";
    harness.eventually("the lease has ended", async || harness.number(ended) == 1).await;
    assert_eq!(harness.queue.reap().await.unwrap().reaped, 0, "the open transaction has it locked");
    assert!(harness.next_job_is_absent(&mut jobs), "no other handler gets it");
    transaction.end(true).await;
    settlement.committed();
    assert_eq!((harness.state(id).await, harness.job(id).await.attempt), (State::Finished, 1));
}

impl Harness {
    fn next_job_is_absent(&self, jobs: &mut pm_queue::JobStream<u64>) -> bool {
        futures_util::StreamExt::next(jobs).now_or_never().is_none()
    }
}
