//! The connection breaks after a statement was sent: the ambiguity is resolved, not hidden.

use futures_util::StreamExt;
use futures_util::future::join_all;
use pm_driver_tokio_postgres::{
    BulkAction, Change, ConnectOptions, EnqueueOptions, ErrorKind, Precondition, Queue, State, connect_with,
};
use pm_tests::{Direct, Fixture, Loss, Proxy, TIMEOUT, eventually, next, take, within};
use std::collections::HashMap;
use std::time::{Duration, Instant};

const CLAIM: &str = "claim_frontier as frontier";
const SETTLE: &str = "ended_attempt as (";
const ENQUEUE: &str = "placed as (";
const ENQUEUE_KEYED: &str = "awaited as materialized (";
const EXTEND: &str = "as remaining_ms";
const DELETE: &str = "using judged";

/// With long leases: no job becomes ready during the test because its lease expired.
async fn fixture_and_proxy() -> (Fixture, Proxy, Queue) {
    let fixture = Fixture::new().await;
    let proxy = Proxy::before(&fixture.database.url()).await;
    let queue =
        connect_with(proxy.url(), ConnectOptions::default()).await.expect("connecting through the proxy succeeds");
    (fixture, proxy, queue)
}

/// Commits `count` jobs; returns how often each was handed out.
async fn work(queue: &Queue, count: usize) -> HashMap<u64, u32> {
    let mut handled: HashMap<u64, u32> = HashMap::new();
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    let mut committed = 0;
    while committed < count {
        let (n, ack) = next(&mut jobs).await.into_parts();
        *handled.entry(n).or_default() += 1;
        ack.commit().await.expect("the lease is valid");
        committed += 1;
    }
    handled
}

async fn lost_claim_is_released(loss: Loss) {
    const JOBS: u64 = 40;
    let (fixture, proxy, queue) = fixture_and_proxy().await;
    fixture.put_many(JOBS).await;
    proxy.trap(CLAIM, loss);

    let start = Instant::now();
    let handled = work(&queue, JOBS as usize).await;
    assert_eq!(proxy.cuts(), 1);
    assert!(start.elapsed() < Duration::from_secs(15), "earlier than the end of the 20 min lease");
    assert_eq!(handled.len(), JOBS as usize);
    assert!(handled.values().all(|times| *times == 1), "each once: {handled:?}");
    assert_eq!(fixture.jobs_in(State::Finished), JOBS as i64);
    assert_eq!(fixture.number("select max(retry_count) from pm.job"), 0, "no retry is counted");
    assert_eq!(fixture.number("select count(*) from pm.attempt"), 0, "and no failed attempt");
}

#[tokio::test]
async fn a_claim_whose_reply_is_lost_releases_its_jobs_within_seconds() {
    lost_claim_is_released(Loss::Reply).await;
}

#[tokio::test]
async fn a_claim_cut_off_when_it_was_sent_releases_its_jobs_within_seconds() {
    lost_claim_is_released(Loss::AtOnce).await;
}

#[tokio::test]
async fn a_big_claim_that_is_lost_leaves_its_jobs_to_others() {
    const JOBS: u64 = 400;
    let (fixture, proxy, _) = fixture_and_proxy().await;
    // Closing waits that long, and a moment, until the server has certainly stopped running the claim.
    let options = ConnectOptions::default().statement_timeout(Duration::from_secs(3));
    let queue = connect_with(proxy.url(), options).await.expect("connecting through the proxy succeeds");
    fixture.put_many(JOBS).await;
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    // The stream has measured that its handlers are quick, and claims many jobs.
    for job in take(&mut jobs, 100).await {
        job.into_parts().1.commit().detach();
    }
    proxy.trap(CLAIM, Loss::Reply);
    let cut = async || {
        if let Some(Ok(job)) = futures_util::FutureExt::now_or_never(jobs.next()).flatten() {
            job.into_parts().1.commit().detach();
        }
        proxy.cuts() == 1
    };
    eventually("a claim is lost", TIMEOUT, cut).await;
    within("the end of close", queue.close()).await;
    assert_eq!(fixture.jobs_in(State::InProgress), 0, "closing waits until a lost claim is released");
    let left = (JOBS as i64 - fixture.jobs_in(State::Finished)) as usize;
    let mut others = fixture.queue.try_stream_jobs::<u64>("tasks");
    for job in take(&mut others, left).await {
        job.into_parts().1.commit().await.unwrap();
    }
    assert_eq!(fixture.jobs_in(State::Finished), JOBS as i64);
    assert_eq!(fixture.number("select max(retry_count) from pm.job"), 0);
}

async fn lost_settle_is_applied_once(loss: Loss) {
    const JOBS: usize = 20;
    let (fixture, proxy, queue) = fixture_and_proxy().await;
    fixture.put_many(JOBS as u64).await;
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    let acks: Vec<_> = take(&mut jobs, JOBS).await.into_iter().map(|job| job.into_parts()).collect();
    proxy.trap(SETTLE, loss);
    let settlements = acks.into_iter().map(|(n, ack)| match n % 3 {
        0 => ack.commit(),
        1 => ack.soft_fail("try again later"),
        _ => ack.hard_fail("never"),
    });
    for outcome in within("all answers", join_all(settlements)).await {
        outcome.expect("every settlement succeeds");
    }
    assert_eq!(proxy.cuts(), 1);
    let (finished, failed) = (fixture.jobs_in(State::Finished), fixture.jobs_in(State::Failed));
    assert_eq!((finished, failed), (7, 6));
    assert_eq!(fixture.number("select sum(retry_count)::int8 from pm.job"), 7, "each soft failure counts once");
    assert_eq!(fixture.number("select count(*) from pm.attempt"), 13);
}

#[tokio::test]
async fn a_settle_whose_reply_is_lost_succeeds_and_is_applied_once() {
    lost_settle_is_applied_once(Loss::Reply).await;
}

#[tokio::test]
async fn a_settle_cut_off_when_it_was_sent_succeeds_and_is_applied_once() {
    lost_settle_is_applied_once(Loss::AtOnce).await;
}

async fn lost_enqueue_makes_one_job(loss: Loss) {
    let (fixture, proxy, queue) = fixture_and_proxy().await;
    proxy.trap(ENQUEUE, loss);
    let id =
        within("the answer", queue.enqueue("tasks", 1, EnqueueOptions::default())).await.expect("the job is enqueued");
    assert_eq!(proxy.cuts(), 1);
    assert_eq!(fixture.column("select id from pm.job"), [id.to_string()]);

    proxy.trap(ENQUEUE_KEYED, loss);
    let jobs = (0..100).map(|n| (n, EnqueueOptions::default().key(format!("key {}", n % 50))));
    let enqueued = within("the answers", queue.enqueue_many("tasks", jobs)).await.expect("the jobs are enqueued");
    assert_eq!(proxy.cuts(), 2);
    assert_eq!(fixture.number("select count(*) from pm.job"), 51);
    for n in 0..50 {
        assert_eq!(enqueued[n].id(), enqueued[n + 50].id(), "both are the job with the key");
    }
}

#[tokio::test]
async fn an_enqueue_whose_reply_is_lost_makes_one_job() {
    lost_enqueue_makes_one_job(Loss::Reply).await;
}

#[tokio::test]
async fn an_enqueue_cut_off_when_it_was_sent_makes_one_job() {
    lost_enqueue_makes_one_job(Loss::AtOnce).await;
}

#[tokio::test]
async fn an_extension_whose_reply_is_lost_is_sent_again() {
    let (fixture, proxy, queue) = fixture_and_proxy().await;
    fixture.put(1).await;
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    let (_, mut ack) = next(&mut jobs).await.into_parts();
    proxy.trap(EXTEND, Loss::Reply);
    let remaining = within("the answer", ack.refresh_lock()).await.unwrap();
    assert_eq!(proxy.cuts(), 1);
    assert!(remaining > Duration::from_secs(19 * 60), "{remaining:?}");
    ack.commit().await.unwrap();
}

#[tokio::test]
async fn the_outcome_of_a_deletion_whose_reply_is_lost_is_unknown() {
    let (fixture, proxy, queue) = fixture_and_proxy().await;
    let id = fixture.put(1).await;
    proxy.trap(DELETE, Loss::Reply);
    let error = within("the answer", queue.delete_jobs(&[id])).await.unwrap_err();
    assert_eq!((proxy.cuts(), fixture.number("select count(*) from pm.job")), (1, 0));
    assert_eq!((error.kind(), error.is_outcome_unknown()), (ErrorKind::Unavailable, true), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_outcome_for_a_job_that_was_locked_is_unknown_when_the_next_reply_is_lost() {
    let (fixture, proxy, queue) = fixture_and_proxy().await;
    let ids = [fixture.put(1).await, fixture.put(2).await];
    let locked = Direct::to(&fixture.database.url()).await;
    let lock = format!("begin; select from pm.job where id = '{}' for update", ids[1]);
    locked.client.batch_execute(&lock).await.unwrap();
    let deleting =
        tokio::spawn(async move { queue.change_jobs(&BulkAction::Delete, &ids, &Precondition::default()).await });
    let jobs = async || fixture.number("select count(*) from pm.job") == 1;
    eventually("the other is deleted", TIMEOUT, jobs).await;
    proxy.trap(DELETE, Loss::Reply);
    locked.client.batch_execute("rollback").await.unwrap();
    let report = within("the report", deleting).await.unwrap().unwrap();
    assert_eq!(report.changes(), [Change::Changed, Change::Unknown]);
}

#[tokio::test]
async fn a_stream_survives_the_loss_of_all_connections_without_an_error() {
    let (fixture, _proxy, queue) = fixture_and_proxy().await;
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    for n in 0..5 {
        let id = fixture.put(n).await;
        let (got, ack) = next(&mut jobs).await.into_parts();
        assert_eq!((got, ack.id()), (n, id));
        fixture
            .database
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity
                 where datname = current_database() and pid <> pg_backend_pid()",
            )
            .unwrap();
        within("the commit", ack.commit()).await.unwrap();
        assert_eq!(fixture.state(id).await, State::Finished);
    }
}
