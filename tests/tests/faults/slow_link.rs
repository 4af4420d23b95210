//! A link so slow, or payloads so large, that replies take longer than the usual timeouts.

use futures_util::StreamExt;
use pm_driver_tokio_postgres::{Codec, ConnectOptions, EnqueueOptions, Queue, RawPayload};
use pm_tests::{Fixture, Proxy, eventually};
use std::time::{Duration, Instant};

async fn both_drivers(proxy: &Proxy) -> [(&'static str, Queue); 2] {
    let options = ConnectOptions::default;
    let first = pm_driver_tokio_postgres::connect_with(proxy.url(), options()).await.expect("connecting succeeds");
    let second = pm_driver_sqlx::connect_with(proxy.url(), options()).await.expect("connecting succeeds");
    [("tokio-postgres", first), ("sqlx", second)]
}

/// Up and down the same slow link, with the default timeouts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_300_mb_passes_a_link_of_100_mbit() {
    const BYTES: usize = 300_000_000;
    let fixture = Fixture::new().await;
    let proxy = Proxy::before(&fixture.database.url()).await;
    proxy.throttle(12_500_000);
    for (driver, queue) in both_drivers(&proxy).await {
        let start = Instant::now();
        let payload = RawPayload { codec: Codec::Raw, bytes: vec![7; BYTES].into() };
        let id = queue.enqueue("tasks", payload, EnqueueOptions::default()).await.expect("the job is enqueued");
        let enqueued = start.elapsed();
        let mut jobs = queue.try_stream_jobs::<RawPayload>("tasks");
        let job = tokio::time::timeout(Duration::from_secs(180), jobs.next()).await.expect("it comes in time");
        let (payload, ack) = job.expect("the stream goes on").expect("it is readable").into_parts();
        assert_eq!((ack.id(), ack.attempt(), payload.bytes.len()), (id, 1, BYTES));
        drop(payload);
        ack.commit().await.expect("the lease is valid");
        println!("{driver}: in after {enqueued:?}, done after {:?}", start.elapsed());
        fixture.database.execute("truncate pm.job, pm.payload, pm.attempt").expect("the statement is valid");
    }
}

/// Each reply takes 6 s; one stream claims and settles 500 jobs in that time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_jobs_are_handled_once_each_over_replies_6_s_late() {
    const JOBS: u64 = 100_000;
    const STREAMS: usize = 6;
    let fixture = Fixture::new().await;
    let proxy = Proxy::before(&fixture.database.url()).await;
    let mut queues = Vec::new();
    for _ in 0..STREAMS {
        queues.extend(both_drivers(&proxy).await);
    }
    fixture.put_many(JOBS).await;
    proxy.late_replies(Duration::from_secs(6));
    let start = Instant::now();
    for (_, queue) in &queues {
        let mut jobs = queue.try_stream_jobs::<u64>("tasks");
        tokio::spawn(async move {
            while let Some(job) = jobs.next().await {
                job.expect("the stream yields no error").into_parts().1.commit().detach();
            }
        });
    }
    let open = "select count(*) from (select from pm.job where state < 2 limit 1) open";
    eventually("all are done", Duration::from_secs(600), async || fixture.number(open) == 0).await;
    println!("{JOBS} jobs over {} streams in {:?}", queues.len(), start.elapsed());
    assert_eq!(fixture.number("select max(attempt) from pm.job"), 1, "none was released");
    assert_eq!(fixture.number("select max(retry_count) from pm.job"), 0);
}
