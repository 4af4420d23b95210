//! The events that an observer gets, in virtual time.

#![allow(clippy::unwrap_used)]

use futures_channel::oneshot;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use pm_driver_memory::driver::{BoxFuture, Driver, Executor, Failure, Listener, Rows, Statement, Value};
use pm_driver_memory::metrics::Metrics;
use pm_driver_memory::observe::{Event, Observer};
use pm_driver_memory::runtime::{Randomness, Tokio};
use pm_driver_memory::{
    ConnectOptions, Database, EnqueueOptions, JobAck, JobStream, PendingJob, Queue, RetryPolicy, SettingsChange,
    Settling, StreamOptions, Uuid, VirtualTime,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A database that a test can make unreachable.
struct Flaky {
    database: Database,
    is_down: AtomicBool,
    /// Dropping it ends the listener's connection.
    listener: Mutex<Option<oneshot::Sender<()>>>,
}

/// A listener whose connection a test can end.
struct FlakyListener {
    listener: Box<dyn Listener>,
    end: oneshot::Receiver<()>,
}

impl Listener for FlakyListener {
    fn next(&mut self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(async {
            match select(self.listener.next(), &mut self.end).await {
                Either::Left((payload, _)) => payload,
                Either::Right(_) => Err(Failure::no_reply("the connection is lost")),
            }
        })
    }
}

impl Flaky {
    fn check(&self) -> Result<(), Failure> {
        if self.is_down.load(Ordering::SeqCst) { Err(Failure::not_sent("connection refused")) } else { Ok(()) }
    }
}

impl Executor for Flaky {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        Box::pin(async move { self.check().and_then(|()| self.database.answer(statement, params)) })
    }
}

impl Driver for Flaky {
    fn run_script<'a>(&'a self, _script: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { self.check() })
    }

    fn listen<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Option<Box<dyn Listener>>, Failure>> {
        Box::pin(async {
            let listener = self.database.listen(channel).await?.expect("the database can listen");
            let (sender, end) = oneshot::channel();
            *self.listener.lock().unwrap() = Some(sender);
            Ok(Some(Box::new(FlakyListener { listener, end }) as Box<dyn Listener>))
        })
    }
}

/// Numbers in a row, spread over all bits.
struct Sequence(AtomicU64);

impl Randomness for Sequence {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Keeps the events as texts, with short names for the jobs and without statements.
#[derive(Default)]
struct Log {
    events: Mutex<Vec<String>>,
    jobs: Mutex<Vec<Uuid>>,
    statements: Mutex<Vec<(&'static str, Duration, bool)>>,
}

impl Log {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }

    fn name(&self, job: Uuid) -> String {
        let mut jobs = self.jobs.lock().unwrap();
        let index = jobs.iter().position(|known| *known == job).unwrap_or_else(|| {
            jobs.push(job);
            jobs.len() - 1
        });
        format!("job {index}")
    }
}

impl Observer for Log {
    fn observe(&self, event: &Event<'_>) {
        let text = match event {
            Event::Statement { name, took, ok, .. } => {
                return self.statements.lock().unwrap().push((name, *took, *ok));
            }
            Event::Enqueued { queue, outcome, count, .. } => format!("{queue}: {count} {}", outcome.name()),
            Event::Claimed { queue, jobs, waited, took, .. } => {
                format!("{queue}: claimed {jobs} in {took:?}, waited {waited:?}")
            }
            Event::Started { queue, job, attempt, .. } => {
                format!("{queue}: {} started, attempt {attempt}", self.name(*job))
            }
            Event::Settled { queue, job, attempt, outcome, ran, .. } => {
                format!("{queue}: {} {}, attempt {attempt}, ran {ran:?}", self.name(*job), outcome.name())
            }
            Event::LeaseLost { queue, job, attempt, .. } => {
                format!("{queue}: {} lost its lease, attempt {attempt}", self.name(*job))
            }
            Event::PayloadRefused { queue, job, attempt, .. } => {
                format!("{queue}: {} refused, attempt {attempt}", self.name(*job))
            }
            Event::Reaped { count, .. } => format!("reaped {count}"),
            Event::OutageBegan { why, .. } => format!("outage began: {why}"),
            Event::OutageHealed { lasted, .. } => format!("outage healed after {lasted:?}"),
            Event::ListenerConnected { .. } => "listener connected".to_owned(),
            Event::ListenerLost { .. } => "listener lost".to_owned(),
            _ => "something else".to_owned(),
        };
        self.events.lock().unwrap().push(text);
    }
}

struct World {
    time: VirtualTime,
    driver: Arc<Flaky>,
    log: Arc<Log>,
    queue: Queue,
}

impl World {
    /// Returns a database with the queue `mails`: leases of 60 s, and retries after 10 s.
    async fn new() -> World {
        let time = VirtualTime::new();
        let database = Database::with_clock(time.clone());
        let driver = Arc::new(Flaky { database, is_down: AtomicBool::new(false), listener: Mutex::default() });
        let log = Arc::new(Log::default());
        let options = ConnectOptions::default().check_schema(false).observer(log.clone());
        let (runtime, randomness) = (Arc::new(time.on(Tokio::current())), Arc::new(Sequence(AtomicU64::new(1))));
        let queue = Queue::open_with(driver.clone(), runtime, randomness, &options).await.unwrap();
        queue.create_queue("mails", false).await.unwrap();
        queue.set_queue_settings("mails", SettingsChange::new().lease(60 * SECOND)).await.unwrap();
        World { time, driver, log, queue }
    }

    fn stream(&self) -> JobStream<String> {
        let options = StreamOptions::default().listen(false).reaper(false).poll(MS, MS);
        self.queue.try_stream_jobs_with("mails", options)
    }

    async fn next(&self, jobs: &mut JobStream<String>) -> PendingJob<String> {
        self.time.pass(MS, jobs.next()).await.unwrap().unwrap()
    }

    /// Lets time pass until the log has an event that begins like this, and returns the events.
    async fn until(&self, beginning: &str) -> Vec<String> {
        for _ in 0..1_000_000 {
            if self.log.events.lock().unwrap().iter().any(|event| event.contains(beginning)) {
                return self.log.take();
            }
            self.time.pass(MS, tokio::task::yield_now()).await;
        }
        panic!("no event {beginning:?} in {:?}", self.log.take());
    }
}

fn with_retry() -> EnqueueOptions {
    let mut options = EnqueueOptions::default();
    options.retry = RetryPolicy { max_retries: Some(1), backoff: Some(vec![10 * SECOND]), jitter_percent: Some(0) };
    options
}

#[tokio::test]
async fn a_retried_job_gives_an_exact_sequence_of_events() {
    let world = World::new().await;
    world.queue.enqueue("mails", "hello", with_retry()).await.unwrap();
    world.time.advance(2 * SECOND);
    let mut jobs = world.stream();
    let job = world.next(&mut jobs).await;
    world.time.advance(3 * SECOND);
    job.into_parts().1.soft_fail("no route").await.unwrap();
    let job = world.next(&mut jobs).await;
    world.time.advance(5 * SECOND);
    job.into_parts().1.commit().await.unwrap();
    let expected = [
        "mails: 1 inserted",
        "mails: claimed 1 in 0ns, waited [2.001s]",
        "mails: job 0 started, attempt 1",
        "mails: job 0 soft_failed, attempt 1, ran 3s",
        "mails: claimed 1 in 0ns, waited []",
        "mails: job 0 started, attempt 2",
        "mails: job 0 finished, attempt 2, ran 5s",
    ];
    assert_eq!(world.log.take(), expected);
}

#[tokio::test]
async fn every_way_to_settle_has_its_outcome() {
    let world = World::new().await;
    let key = EnqueueOptions::default().key("same");
    for options in [with_retry(), with_retry(), with_retry(), with_retry(), key.clone(), key] {
        world.queue.enqueue("mails", "hello", options).await.unwrap();
    }
    world.queue.enqueue("none", "hello", EnqueueOptions::default()).await.unwrap_err();
    assert_eq!(
        world.log.take(),
        ["mails: 1 inserted"; 5].into_iter().chain(["mails: 1 existing", "none: 1 failed"]).collect::<Vec<_>>()
    );

    let mut jobs = world.stream();
    let mut acks = Vec::new();
    for _ in 0..5 {
        // No time passes while they start.
        acks.push(world.time.pass(Duration::ZERO, jobs.next()).await.unwrap().unwrap().into_parts().1);
    }
    world.log.take();
    acks.remove(0).hard_fail("no such address").await.unwrap();
    acks.remove(0).release().await.unwrap();
    acks.remove(0).unreadable("not mine").await.unwrap();
    acks.remove(0).leave();
    let mut ack = acks.remove(0);
    let transaction = world.driver.database.begin();
    let settlement = ack.commit_in(&transaction).await.unwrap();
    transaction.commit().unwrap();
    settlement.committed();
    let expected = [
        "mails: job 0 failed, attempt 1, ran 0ns",
        "mails: job 1 released, attempt 1, ran 0ns",
        "mails: job 2 unreadable, attempt 1, ran 0ns",
        "mails: job 3 left, attempt 1, ran 0ns",
        "mails: job 4 finished, attempt 1, ran 0ns",
    ];
    let settled: Vec<_> = world.log.take().into_iter().filter(|event| event.contains("ran")).collect();
    assert_eq!(settled, expected);
}

#[tokio::test]
async fn the_last_soft_fail_is_a_failure() {
    let world = World::new().await;
    world.queue.enqueue("mails", "hello", with_retry()).await.unwrap();
    let mut jobs = world.stream();
    for outcome in ["soft_failed", "failed"] {
        world.next(&mut jobs).await.into_parts().1.soft_fail("no route").await.unwrap();
        assert!(world.log.take().last().unwrap().contains(&format!("job 0 {outcome}")));
    }
}

#[tokio::test]
async fn a_lease_that_an_operator_takes_away_is_lost() {
    let world = World::new().await;
    let id = world.queue.enqueue("mails", "hello", EnqueueOptions::default()).await.unwrap();
    let mut jobs = world.stream();
    let job = world.next(&mut jobs).await;
    world.queue.finish_jobs(&[id]).await.unwrap();
    world.log.take();
    assert_eq!(world.until("lost").await, ["mails: job 0 lost its lease, attempt 1"]);
    job.into_parts().1.commit().await.unwrap_err();
    let settled = world.log.take();
    assert!(settled[0].starts_with("mails: job 0 lease_lost, attempt 1, ran "), "{settled:?}");
    assert_eq!(settled.len(), 1);
}

/// A cancelled job has failed, but failures are what alerts count.
#[tokio::test]
async fn a_job_that_was_cancelled_while_it_ran_has_an_outcome_of_its_own() {
    let world = World::new().await;
    let ends: [fn(JobAck) -> Settling; 3] =
        [|ack| ack.soft_fail("stopped"), |ack| ack.hard_fail("stopped"), JobAck::release];
    for (n, end) in ends.into_iter().enumerate() {
        let id = world.queue.enqueue("mails", "hello", with_retry()).await.unwrap();
        let mut jobs = world.stream();
        let job = world.next(&mut jobs).await;
        world.queue.cancel_jobs(&[id], "no longer wanted").await.unwrap();
        let ack = job.into_parts().1;
        world.time.pass(SECOND, ack.cancelled()).await;
        world.log.take();
        end(ack).await.unwrap();
        let settled = world.log.take();
        assert!(settled[0].starts_with(&format!("mails: job {n} cancelled, attempt 1")), "{settled:?}");
    }
}

/// A job that is put off again and again does not wait longer and longer.
#[tokio::test]
async fn only_the_first_claim_of_a_job_that_was_put_off_has_a_waiting_time() {
    let world = World::new().await;
    world.queue.enqueue("mails", "hello", EnqueueOptions::default()).await.unwrap();
    let mut jobs = world.stream();
    for is_first in [true, false, false] {
        let job = world.next(&mut jobs).await;
        let log = world.log.take();
        assert_eq!(log.iter().any(|event| event.contains("waited []")), !is_first, "{log:?}");
        job.into_parts().1.snooze(60 * SECOND).await.unwrap();
        world.time.advance(61 * SECOND);
    }
}

#[tokio::test]
async fn expired_leases_are_reaped() {
    let world = World::new().await;
    world.queue.enqueue("mails", "hello", EnqueueOptions::default()).await.unwrap();
    let mut jobs = world.stream();
    world.next(&mut jobs).await.into_parts().1.leave();
    world.time.advance(61 * SECOND);
    world.log.take();
    assert_eq!(world.queue.reap().await.unwrap().reaped, 1);
    assert_eq!(world.log.take()[0], "reaped 1");
}

#[tokio::test]
async fn a_stream_that_reaps_reports_it() {
    let world = World::new().await;
    world.queue.enqueue("mails", "hello", EnqueueOptions::default()).await.unwrap();
    world.next(&mut world.stream()).await.into_parts().1.leave();
    world.log.take();
    let mut others = world.queue.try_stream_jobs_with::<String>("mails", StreamOptions::default().listen(false));
    drop(world.time.pass(10 * MS, others.next()).await);
    let events = world.log.take();
    assert!(events.contains(&"reaped 1".to_owned()), "{events:?}");
}

#[tokio::test]
async fn an_outage_begins_after_two_failures_and_heals() {
    let world = World::new().await;
    let mut jobs = world.stream();
    let waiting = tokio::spawn(async move { jobs.next().await.is_some() });
    world.time.pass(MS, tokio::task::yield_now()).await;
    world.log.take();
    world.driver.is_down.store(true, Ordering::SeqCst);
    assert_eq!(world.until("outage").await, ["outage began: connection refused"]);
    let failed = world.log.statements.lock().unwrap().iter().filter(|(_, _, ok)| !ok).count();
    assert_eq!(failed, 2);
    world.time.advance(SECOND);
    world.driver.is_down.store(false, Ordering::SeqCst);
    let healed = world.until("healed").await;
    assert!(healed[0].starts_with("outage healed after 1."), "{healed:?}");
    assert_eq!(healed.len(), 1);
    waiting.abort();
}

#[tokio::test]
async fn a_payload_that_cannot_be_decoded_is_refused_and_settled() {
    let world = World::new().await;
    world.queue.enqueue("mails", 7, EnqueueOptions::default()).await.unwrap();
    let mut jobs = world.stream();
    world.time.pass(MS, jobs.next()).await.unwrap().unwrap_err();
    world.log.take();
    assert_eq!(world.until("unreadable").await, ["mails: job 0 unreadable, attempt 1, ran 0ns"]);
}

#[tokio::test]
async fn a_listener_reports_that_it_is_connected_or_lost() {
    let world = World::new().await;
    let mut jobs = world.queue.try_stream_jobs::<String>("mails");
    world.queue.enqueue("mails", "hello", EnqueueOptions::default()).await.unwrap();
    world.next(&mut jobs).await.into_parts().1.commit().await.unwrap();
    assert!(world.log.take().contains(&"listener connected".to_owned()));
    drop(world.driver.listener.lock().unwrap().take());
    assert_eq!(world.until("listener").await, ["listener lost"]);
    assert_eq!(world.until("listener").await, ["listener connected"]);
}

#[tokio::test]
async fn a_job_fetched_by_id_is_claimed_and_started() {
    let world = World::new().await;
    let id = world.queue.enqueue("mails", "hello", EnqueueOptions::default()).await.unwrap();
    world.log.take();
    world.queue.fetch_job::<String>(id).await.unwrap().unwrap().into_parts().1.commit().await.unwrap();
    let expected = [
        "mails: claimed 1 in 0ns, waited []",
        "mails: job 0 started, attempt 1",
        "mails: job 0 finished, attempt 1, ran 0ns",
    ];
    assert_eq!(world.log.take(), expected);
    let statements: Vec<_> = world.log.statements.lock().unwrap().iter().map(|(name, _, _)| *name).collect();
    assert!(statements.ends_with(&["fetch_job", "settle_commits"]), "{statements:?}");
}

/// An observer that panics harms no job, and hides no event from the next one.
#[tokio::test]
async fn a_panicking_observer_is_harmless() {
    struct Panics;
    impl Observer for Panics {
        fn observe(&self, _event: &Event<'_>) {
            panic!("a bug of the observer")
        }
    }
    let metrics = Arc::new(Metrics::new());
    let options = ConnectOptions::default().check_schema(false).observer(Arc::new(Panics)).observer(metrics.clone());
    let queue = Queue::open(Arc::new(Database::new()), Arc::new(Tokio::current()), &options).await.unwrap();
    queue.create_queue("mails", false).await.unwrap();
    queue.enqueue("mails", "hello", EnqueueOptions::default()).await.unwrap();
    queue.try_stream_jobs::<String>("mails").next().await.unwrap().unwrap().into_parts().1.commit().await.unwrap();
    assert!(metrics.render(false).contains("pm_jobs_settled_total{queue=\"mails\",outcome=\"finished\"} 1\n"));
}
