//! What the façade promises besides the lifecycle: limits in bytes, retry deadlines, health, application names.

use pm_core::op::{Claim, LineCursor, ListJobs};
use pm_driver_tokio_postgres::{Codec, ConnectOptions, EnqueueOptions, ErrorKind, JobFilter, State, connect_with};
use pm_sandbox::{Server, ServerOptions};
use pm_tests::{Direct, Fixture, Loss, Proxy, TIMEOUT, eventually, next, run_in, take, unattended, within};
use serde_bytes::ByteBuf;
use std::time::Duration;
use tokio_postgres::Transaction;

const MIB: usize = 1 << 20;
const ENQUEUE: &str = "placed as (";

/// Enqueues `count` raw payloads of `mib` MiB on `tasks`.
async fn put_large(fixture: &Fixture, count: usize, mib: usize) {
    let options = || EnqueueOptions::default().codec(Codec::Raw);
    let jobs = (0..count).map(|_| (ByteBuf::from(vec![7; mib * MIB]), options()));
    within("all", fixture.queue.enqueue_many("tasks", jobs)).await.expect("the jobs are enqueued");
}

/// A claim is limited in bytes, shared payloads included, and always returns a job.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_stops_at_the_job_that_completes_16_mib() {
    let fixture = Fixture::new().await;
    put_large(&fixture, 20, 2).await;
    let first = fixture.queue.list_jobs(JobFilter::default().limit(1)).await.unwrap()[0].id;
    for _ in 0..20 {
        fixture.queue.copy_job(first, "tasks", EnqueueOptions::default().priority(1)).await.unwrap();
    }
    put_large(&fixture, 1, 40).await;
    let mut direct = Direct::to(&fixture.database.url()).await;
    let queue_id = fixture.number("select id from pm.queue") as i32;
    let line = |priority| LineCursor { queue_id, priority, cursor: 0 };
    let mut sizes = Vec::new();
    for lease in 1.. {
        let claim =
            Claim { lines: vec![line(1), line(0)], limit: 500, lease, worker: "by hand".to_owned(), due_bound: None };
        let jobs = direct.run(claim).await.jobs;
        if jobs.is_empty() {
            break;
        }
        sizes.push(jobs.iter().map(|job| job.payload().len() / MIB).sum::<usize>());
    }
    assert_eq!(sizes, [16, 16, 16, 16, 16, 40], "MiB by claim");
}

/// Jobs enqueued together are sent in statements of up to 16 MiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_enqueued_together_are_sent_in_statements_of_16_mib() {
    let fixture = Fixture::new().await;
    let proxy = Proxy::before(&fixture.database.url()).await;
    let queue = connect_with(proxy.url(), ConnectOptions::default()).await.unwrap();
    let raw = || EnqueueOptions::default().codec(Codec::Raw);
    let jobs: Vec<_> = (0..100).map(|_| (ByteBuf::from(vec![7; MIB / 2]), raw())).collect();
    assert_eq!(within("all", queue.enqueue_many("tasks", jobs)).await.unwrap().len(), 100);
    let largest = proxy.largest_request();
    assert!((2 * MIB..=17 * MIB).contains(&largest), "{largest} bytes in one message, of 50 MiB");
}

/// An enqueue that never gets a reply is sent again for 30 s, makes one job, and returns an unknown outcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enqueue_that_never_gets_a_reply_is_given_up_and_makes_one_job() {
    let fixture = Fixture::new().await;
    let proxy = Proxy::before(&fixture.database.url()).await;
    let queue = connect_with(proxy.url(), ConnectOptions::default()).await.unwrap();
    (0..10_000).for_each(|_| proxy.trap(ENQUEUE, Loss::Reply));
    let timeout = Duration::from_secs(90);
    let outcome = tokio::time::timeout(timeout, queue.enqueue("tasks", 1, EnqueueOptions::default())).await;
    let refused = outcome.expect("the enqueue fails in time").expect_err("no reply confirmed it");
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    assert!(proxy.cuts() > 3, "it was sent again, {} times", proxy.cuts());
    assert_eq!(fixture.number("select count(*) from pm.job"), 1, "however often it was sent");
}

/// Listing failed jobs does not scan the finished ones, and a page does not scan the pages before it.
#[tokio::test]
async fn a_page_of_failed_or_old_jobs_is_found_without_a_scan() {
    let fixture = Fixture::new().await;
    let ids = fixture.put_many(3).await;
    fixture.queue.fail_jobs(&ids, "no").await.unwrap();
    let fill = "insert into pm.job (id, queue_id, priority, codec, payload, state, ended_at)
                select gen_random_uuid(), (select id from pm.queue), 0, 0, '1', 2, now() from generate_series(1, 50000)";
    fixture.database.execute(fill).unwrap();
    let oldest = fixture.column("select id from pm.job order by id limit 1 offset 50")[0].parse().unwrap();
    let mut direct = Direct::to(&fixture.database.url()).await;
    direct.client.batch_execute("vacuum analyze pm.job").await.unwrap();
    direct.client.batch_execute(&ConnectOptions::default().session_script()).await.unwrap();
    let failed = JobFilter::default().state(State::Failed);
    for (filter, expected) in [(failed, 3), (JobFilter::default().after(oldest), 50)] {
        let transaction = direct.client.transaction().await.unwrap();
        let before = pages_read(&transaction).await;
        let listed = run_in(&transaction, ListJobs { filter }).await;
        let pages = pages_read(&transaction).await - before;
        println!("{pages} pages for {} jobs", listed.len());
        assert_eq!(listed.len(), expected);
        assert!(pages < 60 + 8 * expected as i64, "{pages} pages for {expected} jobs");
    }
}

/// Returns how many pages of the jobs and their indexes this session has read.
async fn pages_read(transaction: &Transaction<'_>) -> i64 {
    let read = "select (pg_stat_get_xact_blocks_fetched('pm.job'::regclass)
                + sum(pg_stat_get_xact_blocks_fetched(indexrelid)))::int8 from pg_index where indrelid = 'pm.job'::regclass";
    transaction.query_one(read, &[]).await.expect("the query succeeds").get(0)
}

/// Connection failures are retried without an error of the stream, and shown by `health`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_failures_are_shown_by_health_until_they_end() {
    let mut server = Server::start_with(ServerOptions::default().durable(true)).expect("a private Postgres starts");
    let queue = connect_with(&server.url(), ConnectOptions::default()).await.unwrap();
    queue.create_queue("tasks", false).await.unwrap();
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    queue.enqueue("tasks", 1u64, EnqueueOptions::default()).await.unwrap();
    next(&mut jobs).await.into_parts().1.commit().await.unwrap();
    let healthy = queue.health();
    assert_eq!((healthy.failures, healthy.last_failure), (0, None));
    server.kill();
    eventually("the failure is shown", TIMEOUT, async || queue.health().failures > 0).await;
    let failure = queue.health().last_failure.expect("the failure is shown");
    assert!(!failure.is_empty(), "{failure}");
    server.restart().expect("the server restarts");
    eventually("the failures are cleared", TIMEOUT, async || queue.health().failures == 0).await;
    queue.enqueue("tasks", 2u64, EnqueueOptions::default()).await.unwrap();
    assert_eq!(next(&mut jobs).await.into_parts().0, 2, "the stream yields no error");
}

/// The limit on unacknowledged settlements does not limit the jobs handed out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_hands_out_more_jobs_than_settlements_may_be_unacknowledged() {
    const JOBS: usize = 10_500;
    let fixture = Fixture::new().await;
    fixture.put_many(JOBS as u64).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let taken = take(&mut jobs, JOBS).await;
    for job in taken {
        job.into_parts().1.commit().detach();
    }
    within("all settlements", fixture.queue.close()).await;
    assert_eq!(fixture.jobs_in(State::Finished), JOBS as i64);
}

#[tokio::test]
async fn connections_have_the_application_name() {
    let fixture = Fixture::new().await;
    let named = fixture.another(ConnectOptions::default().application_name("billing")).await;
    named.enqueue("tasks", 1, EnqueueOptions::default()).await.unwrap();
    assert!(fixture.number("select count(*) from pg_stat_activity where application_name = 'billing'") > 0);
}

#[tokio::test]
async fn an_application_name_that_cannot_be_sent_is_refused_at_once() {
    let fixture = Fixture::new().await;
    let url = fixture.database.url();
    let join = if url.contains('?') { '&' } else { '?' };
    let cases = [
        (url.clone(), "a\0b".to_owned()),
        (url.clone(), "x".repeat(100_000)),
        (format!("{url}{join}application_name=a%00b"), "fine".to_owned()),
    ];
    for (url, name) in cases {
        let options = || ConnectOptions::default().application_name(name.clone()).connect_timeout(TIMEOUT);
        let refused = [
            connect_with(&url, options()).await.unwrap_err(),
            pm_driver_sqlx::connect_with(&url, options()).await.unwrap_err(),
            connect_with(&fixture.database.url(), options().listener_url(&url)).await.unwrap_err(),
        ];
        for error in &refused[..2] {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(error.to_string().contains("application_name"), "{error}");
        }
        assert_eq!(refused[2].kind(), ErrorKind::Invalid, "{}", refused[2]);
    }
    let long = "y".repeat(1_000);
    for queue in [
        fixture.another(ConnectOptions::default().application_name(&long)).await,
        pm_driver_sqlx::connect_with(&url, ConnectOptions::default().application_name(&long)).await.unwrap(),
    ] {
        queue.enqueue("tasks", 1, EnqueueOptions::default()).await.unwrap();
        queue.close().await;
    }
}
