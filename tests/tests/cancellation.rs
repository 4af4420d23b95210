//! Futures are cancelled at any moment: no job is stranded, lost or doubled.
//!
//! Each kind of future is cancelled 2,000 times, after 0.2 to 3 times its usual duration, which is measured first. A
//! proxy delays replies by some milliseconds, so that timers of a millisecond hit before, during and after each round
//! trip.

use futures_util::future::join_all;
use pm_driver_tokio_postgres::{
    ConnectOptions, EnqueueOptions, JobAck, Queue, SettingsChange, State, StreamOptions, Uuid, connect_with,
};
use pm_tests::{Fixture, Proxy, Seed, TIMEOUT, eventually, next, take};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const TIMES: u64 = 2_000;
const TASKS: u64 = 8;
const LATENCY: Duration = Duration::from_millis(3);

/// What the test recorded.
#[derive(Default)]
struct Ledger {
    /// Jobs whose enqueue returned `Ok`.
    confirmed: BTreeSet<Uuid>,
    /// How often each job was handed out.
    handed: BTreeMap<Uuid, u32>,
    /// How many futures were cancelled.
    cancelled: u64,
}

struct Harness {
    fixture: Fixture,
    _proxy: Proxy,
    /// The handle under test, with late replies.
    queue: Queue,
    ledger: Mutex<Ledger>,
}

impl Harness {
    async fn new() -> Arc<Harness> {
        let fixture = Fixture::with(SettingsChange::new().backoff(vec![Duration::ZERO])).await;
        let proxy = Proxy::before(&fixture.database.url()).await;
        let queue =
            connect_with(proxy.url(), ConnectOptions::default()).await.expect("connecting through the proxy succeeds");
        proxy.delay_replies(LATENCY);
        Arc::new(Harness { fixture, _proxy: proxy, queue, ledger: Mutex::default() })
    }

    fn hand_out(&self, id: Uuid) {
        *self.ledger.lock().unwrap().handed.entry(id).or_default() += 1;
    }

    fn record_cancelled(&self) {
        self.ledger.lock().unwrap().cancelled += 1;
    }

    /// Commits the remaining jobs over a new stream, and checks the ledger against the tables.
    async fn audit(&self) {
        let mut rest = self.fixture.queue.try_stream_jobs::<u64>("tasks");
        let mut rounds = 0;
        loop {
            let soon = tokio::time::timeout(Duration::from_millis(200), futures_util::StreamExt::next(&mut rest)).await;
            if let Ok(job) = soon {
                let ack = job.expect("the stream goes on").expect("the job is good").into_parts().1;
                self.hand_out(ack.id());
                ack.commit().detach();
                continue;
            }
            let open = self.fixture.column("select job::text from pm.job where state < 2 limit 5");
            if open.is_empty() {
                break;
            }
            rounds += 1;
            assert!(rounds < 300, "stuck: {open:?}");
        }
        let ledger = self.ledger.lock().unwrap();
        let ids = self.fixture.column("select id from pm.job where state = 2");
        let stored: BTreeSet<Uuid> = ids.iter().map(|id| id.parse().unwrap()).collect();
        assert_eq!(self.fixture.number("select count(*) from pm.job") as usize, stored.len(), "every job has finished");
        assert!(ledger.confirmed.is_subset(&stored), "no confirmed job is lost");
        let handed: BTreeSet<Uuid> = ledger.handed.keys().copied().collect();
        assert_eq!(handed, stored, "every job was handed out");
        let twice: Vec<_> = ledger.handed.iter().filter(|(_, times)| **times != 1).collect();
        assert!(twice.is_empty(), "not exactly once: {twice:?}");
        assert_eq!(self.fixture.number("select max(retry_count) from pm.job"), 0, "no retry was counted");
        assert_eq!(self.fixture.number("select count(*) from pm.attempt"), 0);
        println!("{} futures were cancelled, {} jobs handed out", ledger.cancelled, stored.len());
        assert!(ledger.cancelled > TIMES / 20, "the timeouts are short enough: {}", ledger.cancelled);
        assert!(ledger.cancelled < TIMES * 2, "and long enough");
    }
}

/// Returns the median duration of 40 runs.
async fn usual(mut run: impl AsyncFnMut()) -> Duration {
    let mut durations = Vec::new();
    for _ in 0..40 {
        let start = Instant::now();
        run().await;
        durations.push(start.elapsed());
    }
    durations.sort_unstable();
    durations[durations.len() / 2]
}

/// Returns from 0.2 to 3 times `usual`.
fn some_of(usual: Duration, seed: &mut Seed) -> Duration {
    usual * (200 + seed.below(2_800) as u32) / 1_000
}

/// Runs `task` in several tasks at once, each with its own seed.
async fn in_tasks<F: Future<Output = ()> + Send + 'static>(seed: &mut Seed, task: impl Fn(Seed) -> F) {
    let tasks: Vec<_> = (0..TASKS).map(|_| tokio::spawn(task(seed.split()))).collect();
    for task in join_all(tasks).await {
        task.expect("no task panics");
    }
}

/// Prefetches one job, so that most polls of the stream need a claim.
fn one_ahead() -> StreamOptions {
    StreamOptions::default().prefetch(1).listen(false).poll(Duration::from_millis(2), Duration::from_millis(5))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_claims_cancelled_at_any_moment_strand_nothing() {
    let mut seed = Seed::from_environment();
    let harness = Harness::new().await;
    harness.ledger.lock().unwrap().confirmed = harness.fixture.put_many(TIMES).await.into_iter().collect();
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", one_ahead());
    let usual = usual(async || {
        let ack = next(&mut jobs).await.into_parts().1;
        harness.hand_out(ack.id());
        ack.commit().await.unwrap();
    })
    .await;
    drop(jobs);
    println!("a claim and its commit usually take {usual:?}");

    in_tasks(&mut seed, |mut seed| {
        let harness = harness.clone();
        async move {
            let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", one_ahead());
            for _ in 0..TIMES / TASKS {
                let timeout = some_of(usual, &mut seed);
                match tokio::time::timeout(timeout, futures_util::StreamExt::next(&mut jobs)).await {
                    Ok(job) => {
                        let ack = job.expect("the stream goes on").expect("the job is good").into_parts().1;
                        harness.hand_out(ack.id());
                        ack.commit().detach();
                    }
                    Err(_) => harness.record_cancelled(),
                }
                if seed.below(4) == 0 {
                    // The whole stream is dropped, with or without a claim in flight.
                    jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", one_ahead());
                }
            }
        }
    })
    .await;
    harness.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_enqueues_cancelled_at_any_moment_go_in_once_or_not_at_all() {
    let mut seed = Seed::from_environment();
    let harness = Harness::new().await;
    let put = async |n: u64| harness.queue.enqueue("tasks", n, EnqueueOptions::default()).await.unwrap();
    let usual = usual(async || {
        let id = put(0).await;
        harness.ledger.lock().unwrap().confirmed.insert(id);
    })
    .await;
    println!("an enqueue usually takes {usual:?}");

    in_tasks(&mut seed, |mut seed| {
        let harness = harness.clone();
        async move {
            for n in 0..TIMES / TASKS {
                let timeout = some_of(usual, &mut seed);
                let enqueue = harness.queue.enqueue("tasks", n, EnqueueOptions::default());
                match tokio::time::timeout(timeout, enqueue).await {
                    Ok(id) => {
                        assert!(harness.ledger.lock().unwrap().confirmed.insert(id.unwrap()), "an id is returned once")
                    }
                    Err(_) => harness.record_cancelled(),
                }
            }
        }
    })
    .await;
    harness.queue.close().await;
    harness.audit().await;
    let jobs = harness.fixture.number("select count(*) from pm.job");
    assert!(jobs <= 40 + TIMES as i64, "none went in twice: {jobs}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_settles_cancelled_at_any_moment_are_applied_once() {
    let mut seed = Seed::from_environment();
    let harness = Harness::new().await;
    harness.ledger.lock().unwrap().confirmed = harness.fixture.put_many(TIMES + 40).await.into_iter().collect();
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", StreamOptions::default().reaper(false));
    let mut acks = take(&mut jobs, TIMES as usize + 40).await.into_iter().map(|job| job.into_parts().1);
    drop(jobs);
    let usual = usual(async || {
        let ack = acks.next().unwrap();
        harness.hand_out(ack.id());
        ack.commit().await.unwrap();
    })
    .await;
    println!("a commit usually takes {usual:?}");

    let acks: Arc<Mutex<Vec<JobAck>>> = Arc::new(Mutex::new(acks.collect()));
    in_tasks(&mut seed, |mut seed| {
        let (harness, acks) = (harness.clone(), acks.clone());
        async move {
            loop {
                let Some(ack) = acks.lock().unwrap().pop() else { return };
                harness.hand_out(ack.id());
                match tokio::time::timeout(some_of(usual, &mut seed), ack.commit()).await {
                    Ok(outcome) => outcome.unwrap(),
                    Err(_) => harness.record_cancelled(),
                }
            }
        }
    })
    .await;
    harness.queue.close().await;
    assert_eq!(
        harness.fixture.jobs_in(State::Finished),
        TIMES as i64 + 40,
        "each settlement is applied, awaited or not"
    );
    harness.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_everything_at_once_leaves_every_job_handed_out_once() {
    let mut seed = Seed::from_environment();
    let harness = Harness::new().await;
    in_tasks(&mut seed, |mut seed| {
        let harness = harness.clone();
        async move {
            let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", one_ahead());
            for n in 0..TIMES / TASKS {
                let usual = LATENCY * 2;
                let enqueue = harness.queue.enqueue("tasks", n, EnqueueOptions::default());
                match tokio::time::timeout(some_of(usual, &mut seed), enqueue).await {
                    Ok(id) => assert!(harness.ledger.lock().unwrap().confirmed.insert(id.unwrap())),
                    Err(_) => harness.record_cancelled(),
                }
                let claim = futures_util::StreamExt::next(&mut jobs);
                let Ok(job) = tokio::time::timeout(some_of(usual, &mut seed), claim).await else { continue };
                let ack = job.expect("the stream goes on").expect("the job is good").into_parts().1;
                harness.hand_out(ack.id());
                if let Ok(outcome) = tokio::time::timeout(some_of(usual, &mut seed), ack.commit()).await {
                    outcome.unwrap();
                }
                if seed.below(8) == 0 {
                    jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", one_ahead());
                }
            }
        }
    })
    .await;
    harness.queue.close().await;
    harness.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetches_cancelled_at_any_moment_release_their_job_without_a_retry() {
    const FETCHES: u64 = 500;
    let mut seed = Seed::from_environment();
    let harness = Harness::new().await;
    let ids = Arc::new(harness.fixture.put_many(TASKS).await);
    harness.ledger.lock().unwrap().confirmed = ids.iter().copied().collect();
    let next_task = Arc::new(Mutex::new(0..TASKS as usize));
    in_tasks(&mut seed, |mut seed| {
        let (harness, id) = (harness.clone(), ids[next_task.lock().unwrap().next().unwrap()]);
        async move {
            for _ in 0..FETCHES / TASKS {
                let fetch = harness.queue.fetch_job::<u64>(id);
                match tokio::time::timeout(some_of(LATENCY * 2, &mut seed), fetch).await {
                    Ok(Ok(Some(job))) => job.into_parts().1.release().await.unwrap(),
                    Ok(answer) => assert!(answer.unwrap().is_none(), "the previous fetch has not released the job yet"),
                    Err(_) => harness.ledger.lock().unwrap().cancelled += TIMES / FETCHES,
                }
            }
        }
    })
    .await;
    eventually("all are released", TIMEOUT, async || harness.fixture.jobs_in(State::Pending) == TASKS as i64).await;
    harness.audit().await;
}

/// A moment that random timeouts rarely hit: the reply has arrived and was not polled yet.
#[tokio::test]
async fn a_fetch_cancelled_after_its_reply_releases_the_job_without_a_retry() {
    let fixture = Fixture::new().await;
    let id = fixture.put(1).await;
    let mut fetch = Box::pin(fixture.queue.fetch_job::<u64>(id));
    assert!(futures_util::poll!(&mut fetch).is_pending());
    eventually("the job is taken", TIMEOUT, async || fixture.jobs_in(State::InProgress) == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(fetch);
    eventually("it is released", TIMEOUT, async || fixture.jobs_in(State::Pending) == 1).await;
    assert_eq!(fixture.number("select retry_count from pm.job"), 0, "no retry is counted");
}
