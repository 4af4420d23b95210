//! Futures are given up at every moment of their lives: nothing is stranded, lost or doubled.
//!
//! Each kind is given up 2,000 times, after 0.2 to 3 times its usual duration, which is measured first. A proxy holds
//! replies back for some milliseconds, so that timers of a millisecond hit before, during and after each round trip.

use futures_util::future::join_all;
use pm_driver_tokio_postgres::{
    ConnectOptions, EnqueueOptions, JobAck, Queue, SettingsChange, State, StreamOptions, Uuid, connect_with,
};
use pm_tests::{Fixture, Proxy, Seed, TIMEOUT, eventually, next, take};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const TIMES: u64 = 2_000;
const LANES: u64 = 8;
const DISTANCE: Duration = Duration::from_millis(3);

/// What the test's own ledger says.
#[derive(Default)]
struct Ledger {
    /// Jobs whose enqueue said `Ok`.
    told: BTreeSet<Uuid>,
    /// How often each job was handed out.
    handed: BTreeMap<Uuid, u32>,
    /// How many futures were given up.
    given_up: u64,
}

struct Harness {
    fixture: Fixture,
    _proxy: Proxy,
    /// The handle under test, at a distance.
    queue: Queue,
    ledger: Mutex<Ledger>,
}

impl Harness {
    async fn new() -> Arc<Harness> {
        let fixture = Fixture::with(SettingsChange::new().backoff(vec![Duration::ZERO])).await;
        let proxy = Proxy::before(&fixture.database.url()).await;
        let queue = connect_with(proxy.url(), ConnectOptions::default()).await.expect("the proxy lets all through");
        proxy.delay_replies(DISTANCE);
        Arc::new(Harness { fixture, _proxy: proxy, queue, ledger: Mutex::default() })
    }

    fn hand_out(&self, id: Uuid) {
        *self.ledger.lock().unwrap().handed.entry(id).or_default() += 1;
    }

    fn give_up(&self) {
        self.ledger.lock().unwrap().given_up += 1;
    }

    /// Lets a new stream work on what is left, and looks whether the ledger agrees with the tables.
    async fn audit(&self) {
        let mut rest = self.fixture.queue.try_stream_jobs::<u64>("tasks");
        let mut looks = 0;
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
            looks += 1;
            assert!(looks < 300, "stuck: {open:?}");
        }
        let ledger = self.ledger.lock().unwrap();
        let ids = self.fixture.column("select id from pm.job where state = 2");
        let there: BTreeSet<Uuid> = ids.iter().map(|id| id.parse().unwrap()).collect();
        assert_eq!(self.fixture.number("select count(*) from pm.job") as usize, there.len(), "every job has finished");
        assert!(ledger.told.is_subset(&there), "nothing is lost that was told to be in");
        let handed: BTreeSet<Uuid> = ledger.handed.keys().copied().collect();
        assert_eq!(handed, there, "every job was worked on");
        let twice: Vec<_> = ledger.handed.iter().filter(|(_, times)| **times != 1).collect();
        assert!(twice.is_empty(), "not exactly once: {twice:?}");
        assert_eq!(self.fixture.number("select max(retry_count) from pm.job"), 0, "none was blamed");
        assert_eq!(self.fixture.number("select count(*) from pm.attempt"), 0);
        println!("{} of the futures were given up, {} jobs worked on", ledger.given_up, there.len());
        assert!(ledger.given_up > TIMES / 20, "the timeouts are long enough to matter: {}", ledger.given_up);
        assert!(ledger.given_up < TIMES * 2, "and short enough");
    }
}

/// Returns the median of what 40 runs of something take.
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

/// Runs `lane` on every lane with a seed of its own.
async fn on_sets<F: Future<Output = ()> + Send + 'static>(seed: &mut Seed, lane: impl Fn(Seed) -> F) {
    let lanes: Vec<_> = (0..LANES).map(|_| tokio::spawn(lane(seed.split()))).collect();
    for lane in join_all(lanes).await {
        lane.expect("no lane panics");
    }
}

/// One job ahead, so that each look at the stream is likely to need a claim.
fn one_ahead() -> StreamOptions {
    StreamOptions::default().prefetch(1).listen(false).poll(Duration::from_millis(2), Duration::from_millis(5))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_claims_given_up_at_any_moment_strand_nothing() {
    let mut seed = Seed::from_environment();
    let harness = Harness::new().await;
    harness.ledger.lock().unwrap().told = harness.fixture.put_many(TIMES).await.into_iter().collect();
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", one_ahead());
    let usual = usual(async || {
        let ack = next(&mut jobs).await.into_parts().1;
        harness.hand_out(ack.id());
        ack.commit().await.unwrap();
    })
    .await;
    drop(jobs);
    println!("a claim and its commit usually take {usual:?}");

    on_sets(&mut seed, |mut seed| {
        let harness = harness.clone();
        async move {
            let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", one_ahead());
            for _ in 0..TIMES / LANES {
                let patience = some_of(usual, &mut seed);
                match tokio::time::timeout(patience, futures_util::StreamExt::next(&mut jobs)).await {
                    Ok(job) => {
                        let ack = job.expect("the stream goes on").expect("the job is good").into_parts().1;
                        harness.hand_out(ack.id());
                        ack.commit().detach();
                    }
                    Err(_) => harness.give_up(),
                }
                if seed.below(4) == 0 {
                    // The whole stream is given up, claim in flight or not.
                    jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", one_ahead());
                }
            }
        }
    })
    .await;
    harness.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_enqueues_given_up_at_any_moment_go_in_once_or_not_at_all() {
    let mut seed = Seed::from_environment();
    let harness = Harness::new().await;
    let put = async |n: u64| harness.queue.enqueue("tasks", n, EnqueueOptions::default()).await.unwrap();
    let usual = usual(async || {
        let id = put(0).await;
        harness.ledger.lock().unwrap().told.insert(id);
    })
    .await;
    println!("an enqueue usually takes {usual:?}");

    on_sets(&mut seed, |mut seed| {
        let harness = harness.clone();
        async move {
            for n in 0..TIMES / LANES {
                let patience = some_of(usual, &mut seed);
                let enqueue = harness.queue.enqueue("tasks", n, EnqueueOptions::default());
                match tokio::time::timeout(patience, enqueue).await {
                    Ok(id) => assert!(harness.ledger.lock().unwrap().told.insert(id.unwrap()), "an id is told once"),
                    Err(_) => harness.give_up(),
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
async fn two_thousand_settles_given_up_at_any_moment_count_once() {
    let mut seed = Seed::from_environment();
    let harness = Harness::new().await;
    harness.ledger.lock().unwrap().told = harness.fixture.put_many(TIMES + 40).await.into_iter().collect();
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", StreamOptions::default().reaper(false));
    let mut held = take(&mut jobs, TIMES as usize + 40).await.into_iter().map(|job| job.into_parts().1);
    drop(jobs);
    let usual = usual(async || {
        let ack = held.next().unwrap();
        harness.hand_out(ack.id());
        ack.commit().await.unwrap();
    })
    .await;
    println!("a commit usually takes {usual:?}");

    let acks: Arc<Mutex<Vec<JobAck>>> = Arc::new(Mutex::new(held.collect()));
    on_sets(&mut seed, |mut seed| {
        let (harness, acks) = (harness.clone(), acks.clone());
        async move {
            loop {
                let Some(ack) = acks.lock().unwrap().pop() else { return };
                harness.hand_out(ack.id());
                match tokio::time::timeout(some_of(usual, &mut seed), ack.commit()).await {
                    Ok(outcome) => outcome.unwrap(),
                    Err(_) => harness.give_up(),
                }
            }
        }
    })
    .await;
    harness.queue.close().await;
    assert_eq!(harness.fixture.jobs_in(State::Finished), TIMES as i64 + 40, "each word counts, awaited or not");
    harness.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_given_up_at_once_leaves_every_job_worked_on_once() {
    let mut seed = Seed::from_environment();
    let harness = Harness::new().await;
    on_sets(&mut seed, |mut seed| {
        let harness = harness.clone();
        async move {
            let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", one_ahead());
            for n in 0..TIMES / LANES {
                let usual = DISTANCE * 2;
                let enqueue = harness.queue.enqueue("tasks", n, EnqueueOptions::default());
                match tokio::time::timeout(some_of(usual, &mut seed), enqueue).await {
                    Ok(id) => assert!(harness.ledger.lock().unwrap().told.insert(id.unwrap())),
                    Err(_) => harness.give_up(),
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
async fn fetches_given_up_at_any_moment_give_their_job_back_unblamed() {
    const FETCHES: u64 = 500;
    let mut seed = Seed::from_environment();
    let harness = Harness::new().await;
    let ids = Arc::new(harness.fixture.put_many(LANES).await);
    harness.ledger.lock().unwrap().told = ids.iter().copied().collect();
    let lane = Arc::new(Mutex::new(0..LANES as usize));
    on_sets(&mut seed, |mut seed| {
        let (harness, id) = (harness.clone(), ids[lane.lock().unwrap().next().unwrap()]);
        async move {
            for _ in 0..FETCHES / LANES {
                let fetch = harness.queue.fetch_job::<u64>(id);
                match tokio::time::timeout(some_of(DISTANCE * 2, &mut seed), fetch).await {
                    Ok(Ok(Some(job))) => job.into_parts().1.release().await.unwrap(),
                    Ok(answer) => assert!(answer.unwrap().is_none(), "the one before it is still on its way back"),
                    Err(_) => harness.ledger.lock().unwrap().given_up += TIMES / FETCHES,
                }
            }
        }
    })
    .await;
    eventually("all are given back", TIMEOUT, async || harness.fixture.jobs_in(State::Pending) == LANES as i64).await;
    harness.audit().await;
}

/// The moment that chance rarely finds: the answer is there and was not looked at yet.
#[tokio::test]
async fn a_fetch_given_up_after_its_answer_gives_the_job_back_unblamed() {
    let fixture = Fixture::new().await;
    let id = fixture.put(1).await;
    let mut fetch = Box::pin(fixture.queue.fetch_job::<u64>(id));
    assert!(futures_util::poll!(&mut fetch).is_pending());
    eventually("the job is taken", TIMEOUT, async || fixture.jobs_in(State::InProgress) == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(fetch);
    eventually("it is given back", TIMEOUT, async || fixture.jobs_in(State::Pending) == 1).await;
    assert_eq!(fixture.number("select retry_count from pm.job"), 0, "nobody worked on it");
}
