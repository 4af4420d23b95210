//! How many statements idle reapers and idle streams send.

use futures_util::StreamExt;
use pm_driver_tokio_postgres::{ConnectOptions, StreamOptions, connect_with};
use pm_tests::{Fixture, Proxy};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reaper_on_an_idle_database_looks_once_and_waits() {
    let fixture = Fixture::new().await;
    let proxy = Proxy::before(&fixture.database.url()).await;
    let queue = connect_with(proxy.url(), ConnectOptions::default()).await.unwrap();
    assert_eq!(queue.reap().await.unwrap(), pm_driver_tokio_postgres::Reaped::default());
    let before = proxy.executions("");
    let run = queue.clone();
    let run = tokio::spawn(async move { run.run_reaper().await });
    tokio::time::sleep(SECOND * 3).await;
    let statements = proxy.executions("") - before;
    run.abort();
    assert_eq!(statements, 4, "a look at each, and after the reap one more for schedules: the next is after a minute");
}

/// The poll of an idle stream is one statement, and nothing else is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_stream_sends_one_statement_a_poll() {
    let fixture = Fixture::new().await;
    let proxy = Proxy::before(&fixture.database.url()).await;
    let queue = connect_with(proxy.url(), ConnectOptions::default()).await.unwrap();
    let options = StreamOptions::default().poll(SECOND, SECOND).idle_poll(SECOND * 30);
    let mut jobs = queue.try_stream_jobs_with::<u64>("tasks", options);
    let mut count = async |during: Duration| {
        let before = proxy.executions("");
        assert!(tokio::time::timeout(during, jobs.next()).await.is_err());
        proxy.executions("") - before
    };
    while !queue.is_listening() {
        count(SECOND / 10).await;
    }
    count(SECOND * 3).await;
    let listening = count(SECOND * 5).await;
    assert!(listening <= 1, "it waits for up to 30 s: {listening}");
    let other = connect_with(proxy.url(), ConnectOptions::default()).await.unwrap();
    let mut jobs =
        other.try_stream_jobs_with::<u64>("tasks", StreamOptions::default().poll(SECOND, SECOND).listen(false));
    let before = proxy.executions("");
    assert!(tokio::time::timeout(SECOND * 5, jobs.next()).await.is_err());
    let polling = proxy.executions("") - before;
    assert!((3..=9).contains(&polling), "one a second, a claim and the preparation: {polling}");
}
