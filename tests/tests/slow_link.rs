//! A link that is slow: late replies, and payloads that take longer than a lease or a timeout. Both drivers.

use futures_util::StreamExt;
use pm_driver_tokio_postgres::{
    Codec, ConnectOptions, EnqueueOptions, ErrorKind, JobStream, Queue, RawPayload, SettingsChange, State,
};
use pm_tests::{Fixture, Proxy, TIMEOUT, eventually, next};
use std::time::Duration;

#[derive(Debug, Clone, Copy)]
enum Driver {
    TokioPostgres,
    Sqlx,
}

async fn connect(driver: Driver, proxy: &Proxy, options: ConnectOptions) -> Queue {
    let connected = match driver {
        Driver::TokioPostgres => pm_driver_tokio_postgres::connect_with(proxy.url(), options).await,
        Driver::Sqlx => pm_driver_sqlx::connect_with(proxy.url(), options).await,
    };
    connected.expect("connecting through the proxy succeeds")
}

async fn fixture_and_proxy(lease: Duration) -> (Fixture, Proxy) {
    let fixture = Fixture::with(SettingsChange::new().lease(lease)).await;
    let proxy = Proxy::before(&fixture.database.url()).await;
    (fixture, proxy)
}

fn payload(bytes: usize) -> RawPayload {
    RawPayload { codec: Codec::Raw, bytes: vec![7; bytes].into() }
}

/// Commits one job, so that connections are open and statements prepared.
async fn warm_up(fixture: &Fixture, jobs: &mut JobStream<RawPayload>) {
    fixture.queue.enqueue("tasks", payload(1), EnqueueOptions::default()).await.unwrap();
    next(jobs).await.into_parts().1.commit().await.unwrap();
}

/// Replies come later than a job may wait for a handler.
async fn late_replies(driver: Driver, lease: Duration, latency: Duration) {
    let (fixture, proxy) = fixture_and_proxy(lease).await;
    let options = ConnectOptions::default().connect_timeout(TIMEOUT * 2).statement_timeout(TIMEOUT * 2);
    let queue = connect(driver, &proxy, options).await;
    let mut jobs = queue.try_stream_jobs::<RawPayload>("tasks");
    warm_up(&fixture, &mut jobs).await;
    proxy.late_replies(latency);
    let id = fixture.queue.enqueue("tasks", payload(1), EnqueueOptions::default()).await.unwrap();
    let came = tokio::time::timeout(TIMEOUT * 3, jobs.next()).await.expect("it comes in time");
    let (_, ack) = came.expect("the stream goes on").unwrap().into_parts();
    assert_eq!((ack.id(), ack.attempt()), (id, 1), "it was not released and claimed again");
    ack.commit().await.expect("the lease is valid");
    let job = fixture.job(id).await;
    assert_eq!((job.state, job.retry_count), (State::Finished, 0));
}

#[tokio::test]
async fn a_job_whose_reply_is_late_is_handled_at_the_first_attempt() {
    // A quarter of the lease.
    late_replies(Driver::TokioPostgres, Duration::from_secs(8), Duration::from_millis(2_100)).await;
}

#[tokio::test]
async fn a_job_whose_reply_is_late_is_handled_at_the_first_attempt_over_sqlx() {
    // 5 s; a new connection needs five replies to deliver the job.
    late_replies(Driver::Sqlx, Duration::from_secs(60), Duration::from_millis(5_100)).await;
}

/// A payload whose transfer takes half its lease.
async fn long_transfer(driver: Driver) {
    let (fixture, proxy) = fixture_and_proxy(Duration::from_secs(8)).await;
    let queue = connect(driver, &proxy, ConnectOptions::default()).await;
    let mut jobs = queue.try_stream_jobs::<RawPayload>("tasks");
    warm_up(&fixture, &mut jobs).await;
    proxy.throttle(500_000);
    let id = fixture.queue.enqueue("tasks", payload(2_000_000), EnqueueOptions::default()).await.unwrap();
    let (got, ack) = next(&mut jobs).await.into_parts();
    assert_eq!((ack.id(), ack.attempt(), got.bytes.len()), (id, 1, 2_000_000));
    ack.commit().await.expect("the lease is valid");
}

#[tokio::test]
async fn a_job_that_takes_half_its_lease_to_arrive_is_handled_at_the_first_attempt() {
    long_transfer(Driver::TokioPostgres).await;
}

#[tokio::test]
async fn a_job_that_takes_half_its_lease_to_arrive_is_handled_at_the_first_attempt_over_sqlx() {
    long_transfer(Driver::Sqlx).await;
}

/// A payload whose transfer takes longer than the statement timeout: an error reports that, and a longer timeout fixes
/// it.
async fn short_timeout(driver: Driver) {
    let (fixture, proxy) = fixture_and_proxy(Duration::from_secs(600)).await;
    let options = ConnectOptions::default().statement_timeout(Duration::from_millis(300));
    let queue = connect(driver, &proxy, options).await;
    let mut jobs = queue.try_stream_jobs::<RawPayload>("tasks");
    warm_up(&fixture, &mut jobs).await;
    proxy.throttle(200_000);
    let id = fixture.queue.enqueue("tasks", payload(500_000), EnqueueOptions::default()).await.unwrap();
    let item = tokio::time::timeout(TIMEOUT * 3, jobs.next()).await.expect("the error comes in time");
    let error = item.expect("the stream goes on").expect_err("the job cannot be transferred");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("statement timeout of 300ms"), "{error}");
    drop(jobs);
    let queue = connect(driver, &proxy, ConnectOptions::default()).await;
    let mut jobs = queue.try_stream_jobs::<RawPayload>("tasks");
    let (_, ack) = next(&mut jobs).await.into_parts();
    assert_eq!(ack.id(), id);
    ack.commit().await.expect("the lease is valid");
}

#[tokio::test]
async fn a_statement_timeout_too_short_for_a_payload_is_reported() {
    short_timeout(Driver::TokioPostgres).await;
}

#[tokio::test]
async fn a_statement_timeout_too_short_for_a_payload_is_reported_over_sqlx() {
    short_timeout(Driver::Sqlx).await;
}

/// A payload whose upload takes longer than the statement timeout plus 5 s.
async fn long_upload(driver: Driver) {
    let (fixture, proxy) = fixture_and_proxy(Duration::from_secs(600)).await;
    let options = ConnectOptions::default().statement_timeout(Duration::from_millis(500));
    let queue = connect(driver, &proxy, options).await;
    queue.enqueue("tasks", payload(1), EnqueueOptions::default()).await.unwrap();
    proxy.throttle(200_000);
    let id = queue.enqueue("tasks", payload(1_500_000), EnqueueOptions::default()).await.expect("the job is enqueued");
    assert_eq!(fixture.number("select count(*) from pm.job"), 2, "once");
    assert_eq!(fixture.job(id).await.payload_bytes, 1_500_000);
    queue.close().await;
    let connections = "select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()";
    eventually("no statement is active", TIMEOUT, async || fixture.number(connections) == 0).await;
}

#[tokio::test]
async fn an_enqueue_that_takes_longer_than_the_timeouts_to_send_goes_in() {
    long_upload(Driver::TokioPostgres).await;
}

#[tokio::test]
async fn an_enqueue_that_takes_longer_than_the_timeouts_to_send_goes_in_over_sqlx() {
    long_upload(Driver::Sqlx).await;
}
