//! Reaping: the reaper finds every job in progress, looks at few others, and does not loop on locked jobs.

use pm_core::op::{Claim, FetchJob, LineCursor, MoveJobs, Precondition, Reap};
use pm_core::{Lease, QueueName};
use pm_driver_tokio_postgres::{Change, ConnectOptions, EnqueueOptions, RunAt, State, connect_with};
use pm_tests::{Direct, Fixture, Proxy, TIMEOUT, eventually, next, unattended};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

async fn direct(fixture: &Fixture) -> Direct {
    Direct::to(&fixture.database.url()).await
}

/// Jobs in progress that the reaper would not find.
const OUT_OF_REACH: &str = "select count(*) from pm.job j left join pm.claim_frontier f using (queue_id, priority)
                            where j.state = 1 and (j.seq is null or f.seq is null or j.seq > f.seq)";

/// How many jobs the reaper looks at.
const WITHIN_REACH: &str = "select count(*) from pm.job j join pm.claim_frontier f using (queue_id, priority)
                            where j.seq <= f.seq";

/// A fetch gives the job a position at the front of its line. Otherwise the reaper would miss a job that was due and
/// had no position yet, and would scan the backlog up to a job at its end.
#[tokio::test]
async fn a_fetched_job_is_found_by_the_reaper_which_does_not_scan_the_backlog() {
    const BACKLOG: u64 = 20_000;
    let fixture = Fixture::new().await;
    let due = fixture.put_with(0, EnqueueOptions::default().run_at(RunAt::In(SECOND / 20))).await;
    let last = *fixture.put_many(BACKLOG).await.last().unwrap();
    let is_due = async || fixture.number("select count(*) from pm.job where run_at < now()") == 1;
    eventually("it is due, and was not promoted", TIMEOUT, is_due).await;

    let mut direct = direct(&fixture).await;
    for id in [due, last] {
        let fetched = direct.run(FetchJob { lease: Lease { job: id, number: 5 }, worker: "by hand".to_owned() }).await;
        let (taken, ..) = fetched.expect("it is ready");
        assert_eq!(taken.job.lease.job, id);
    }
    assert_eq!(fixture.number(OUT_OF_REACH), 0);
    let looked_at = fixture.number(WITHIN_REACH);
    assert!((2..=3).contains(&looked_at), "the reaper looks at these two and the first of the line: {looked_at}");
    fixture.database.execute("update pm.job set lease_expires_at = now() where state = 1").unwrap();
    assert_eq!(direct.run(Reap { limit: 500, seed: 1 }).await.reaped, 2);
}

/// The same for a job in progress that is moved to a queue with a backlog.
#[tokio::test]
async fn a_job_moved_in_progress_is_found_by_the_reaper_which_does_not_scan_the_backlog() {
    const BACKLOG: u64 = 20_000;
    let fixture = Fixture::new().await;
    fixture.queue.create_queue("here", false).await.unwrap();
    fixture.put_many(BACKLOG).await;
    let late = fixture.queue.enqueue("here", 1u64, EnqueueOptions::default()).await.unwrap();
    let mut direct = direct(&fixture).await;
    let queue_id = fixture.number("select id from pm.queue where name = 'here'") as i32;
    let lines = vec![LineCursor { queue_id, priority: 0, cursor: 0 }];
    let claim = Claim { lines, limit: 1, lease: 5, worker: "by hand".to_owned(), due_bound: None };
    assert_eq!(direct.run(claim).await.jobs.len(), 1);
    let moved = direct
        .run(MoveJobs {
            ids: vec![late],
            queue: QueueName::new("tasks").unwrap(),
            precondition: Precondition::default(),
        })
        .await;
    assert_eq!(moved.changes, [Change::Changed]);
    assert_eq!(fixture.number(OUT_OF_REACH), 0);
    let looked_at = fixture.number(WITHIN_REACH);
    assert!((1..=2).contains(&looked_at), "the reaper looks at it and the first of the line: {looked_at}");
    fixture.database.execute("update pm.job set lease_expires_at = now() where state = 1").unwrap();
    assert_eq!(direct.run(Reap { limit: 500, seed: 1 }).await.reaped, 1);
    assert_eq!(fixture.job(late).await.state, State::Pending);
}

/// While an expired job is locked by another session, the time until the next expiry is reported as zero; reapers still
/// wait 100 ms.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reap_with_a_locked_job_returns_zero_and_is_not_repeated_at_once() {
    let fixture = Fixture::new().await;
    let proxy = Proxy::before(&fixture.database.url()).await;
    let reaper = connect_with(proxy.url(), ConnectOptions::default()).await.unwrap();
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let job = next(&mut jobs).await;
    drop(jobs);
    fixture.database.execute("update pm.job set lease_expires_at = now() - interval '5 s'").unwrap();
    let mut session = direct(&fixture).await;
    let transaction = session.client.transaction().await.unwrap();
    transaction.batch_execute("select from pm.job for update").await.unwrap();

    let reaped = direct(&fixture).await.run(Reap { limit: 500, seed: 1 }).await;
    assert_eq!((reaped.reaped, reaped.next_expiry), (0, Some(Duration::ZERO)));
    let before = proxy.executions("'lease expired'");
    let run = reaper.clone();
    let run = tokio::spawn(async move { run.run_reaper().await });
    let mut others = reaper.try_stream_jobs::<u64>("tasks");
    assert!(tokio::time::timeout(SECOND * 3, next(&mut others)).await.is_err());
    let reaps = proxy.executions("'lease expired'") - before;
    println!("{reaps} reaps in 3 s by a reaper and a stream");
    assert!((2..=70).contains(&reaps), "10 a second each at most: {reaps}");

    transaction.rollback().await.unwrap();
    assert_eq!(next(&mut others).await.metadata().attempt, 2, "it is reaped when the lock is released");
    run.abort();
    drop(job);
}
