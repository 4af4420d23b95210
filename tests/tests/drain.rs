//! The normal life of many jobs: they are enqueued, handled and ended.

use futures_util::StreamExt;
use pm_driver_tokio_postgres::{EnqueueOptions, SettingsChange, State};
use pm_tests::Fixture;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What handlers do: commit, soft-fail once, always soft-fail, hard-fail, drop.
const BEHAVIOURS: u64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_jobs_of_mixed_verdicts_end_exactly_once() {
    const JOBS: u64 = 20_000;
    let fixture = Fixture::new().await;
    let quick = SettingsChange::new().backoff(vec![Duration::ZERO]).max_retries(1);
    fixture.queue.set_queue_settings("tasks", quick).await.unwrap();
    let enqueued =
        fixture.queue.enqueue_many("tasks", (0..JOBS).map(|n| (n, EnqueueOptions::default()))).await.unwrap();
    assert_eq!(enqueued.len(), JOBS as usize);

    let handled: Mutex<HashMap<u64, u32>> = Mutex::default();
    let ended = AtomicU64::new(0);
    let queue = fixture.queue.clone();
    let jobs = queue.try_stream_jobs::<u64>("tasks");
    jobs.for_each_concurrent(32, async |job| {
        let (n, ack) = job.unwrap().into_parts();
        let attempt = ack.attempt();
        *handled.lock().unwrap().entry(n).or_default() += 1;
        let last = match n % BEHAVIOURS {
            0 => ack.commit().await.map(|()| true),
            1 if attempt == 1 => ack.soft_fail("once").await.map(|()| false),
            1 => ack.commit().await.map(|()| true),
            2 => ack.soft_fail("always").await.map(|()| attempt == 2),
            3 => ack.hard_fail("never").await.map(|()| true),
            _ => {
                drop(ack);
                Ok(attempt == 2)
            }
        };
        if last.unwrap() && ended.fetch_add(1, Ordering::Relaxed) + 1 == JOBS {
            // The last job has been handled: the stream ends when all is settled.
            let queue = queue.clone();
            tokio::spawn(async move { queue.close().await });
        }
    })
    .await;

    for (n, times) in handled.into_inner().unwrap() {
        let expected = if matches!(n % BEHAVIOURS, 0 | 3) { 1 } else { 2 };
        assert_eq!(times, expected, "job {n}");
    }
    fixture.queue.close().await;
    assert_eq!(fixture.jobs_in(State::Finished), 2 * (JOBS / BEHAVIOURS) as i64);
    assert_eq!(fixture.jobs_in(State::Failed), 3 * (JOBS / BEHAVIOURS) as i64);
    assert_eq!(fixture.number("select count(*) from pm.job where seq is not null or lease_expires_at is not null"), 0);
    assert_eq!(fixture.number("select count(*) from pm.attempt"), (1 + 2 + 1 + 2) * (JOBS / BEHAVIOURS) as i64);
}
