//! Operators, producers and workers that run concurrently.

use futures_util::{FutureExt, StreamExt};
use pm_core::op::Enqueue;
use pm_core::{NewJob, QueueName};
use pm_driver_tokio_postgres::{
    ConnectOptions, EnqueueOptions, Error, ErrorKind, InitialState, JobFilter, Queue, SettingsChange, State,
    StreamOptions, Uuid,
};
use pm_tests::{Direct, Fixture, LOCK_WAITS, Seed, TIMEOUT, eventually, run_in, within};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// `kept` is moved from and to, paused and resumed; `renamed` changes its name; `recreated` is deleted and created
/// again.
const QUEUES: [&str; 4] = ["kept", "renamed", "renamed too", "recreated"];

#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    enqueued: Mutex<Vec<Uuid>>,
    commits: Mutex<BTreeMap<Uuid, u32>>,
    refused: AtomicU64,
    deleted: AtomicU64,
}

impl Tally {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

fn tolerate(error: &Error, allowed: &[ErrorKind]) {
    assert!(allowed.contains(&error.kind()), "{:?}: {error}", error.kind());
}

async fn produce(queue: Queue, mut seed: Seed, tally: Arc<Tally>) {
    while tally.goes_on() {
        match queue.enqueue(seed.pick(&QUEUES), seed.below(1_000), EnqueueOptions::default()).await {
            Ok(id) => tally.enqueued.lock().unwrap().push(id),
            Err(error) => tolerate(&error, &[ErrorKind::QueueNotFound]),
        }
    }
}

async fn work(queue: Queue, tally: Arc<Tally>) {
    while tally.goes_on() {
        let options = StreamOptions::default().poll(Duration::from_millis(5), Duration::from_millis(50));
        let mut jobs = queue.try_stream_jobs_with::<u64>(&QUEUES, options);
        // A stream ends when none of its queues is left; here it is also dropped sometimes, with jobs in it.
        for _ in 0..500 {
            let job = tokio::time::timeout(Duration::from_millis(100), jobs.next()).await;
            match job {
                Ok(Some(Ok(job))) => settle(job.into_parts().1, &tally).await,
                Ok(Some(Err(error))) => tolerate(&error, &[ErrorKind::QueueNotFound]),
                Ok(None) => break,
                Err(_) if tally.goes_on() => {}
                Err(_) => break,
            }
        }
    }
}

async fn settle(ack: pm_driver_tokio_postgres::JobAck, tally: &Tally) {
    let id = ack.id();
    match ack.commit().await {
        Ok(()) => *tally.commits.lock().unwrap().entry(id).or_default() += 1,
        Err(error) => {
            tolerate(&error, &[ErrorKind::LeaseLost]);
            tally.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn operate(queue: Queue, mut seed: Seed, tally: Arc<Tally>) {
    use ErrorKind::{QueueExists, QueueNotFound};
    while tally.goes_on() {
        let outcome = match seed.below(6) {
            0 => queue.delete_queue("recreated").await.map(|jobs| {
                tally.deleted.fetch_add(jobs, Ordering::Relaxed);
            }),
            1 => queue.create_queue("recreated", false).await.map(drop),
            2 => queue.rename_queue("renamed", "renamed too").await,
            3 => queue.rename_queue("renamed too", "renamed").await,
            4 => queue.pause_queue("kept").await.map(drop),
            _ => queue.resume_queue("kept").await.map(drop),
        };
        outcome.unwrap_or_else(|error| tolerate(&error, &[QueueNotFound, QueueExists]));
        let recent = queue.list_jobs(JobFilter::default().limit(20)).await.unwrap();
        let ids: Vec<_> = recent.iter().filter(|job| job.state != State::Finished).map(|job| job.id).collect();
        // Jobs that the other operator's statements keep locked for 5 s are reported, and left alone.
        let moved = queue.move_jobs(&ids, seed.pick(&QUEUES)).await;
        if let Err(error) = moved
            && !error.to_string().contains("another transaction has locked")
        {
            tolerate(&error, &[QueueNotFound]);
        }
        let changed = queue.set_priority(&ids, seed.below(3) as i32).await;
        if let Err(error) = changed
            && !error.to_string().contains("another transaction has locked")
        {
            tolerate(&error, &[]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_racing_producers_and_workers_lose_no_job_and_show_no_raw_error() {
    let mut seed = Seed::from_environment();
    let fixture = Fixture::without_queue().await;
    for name in [QUEUES[0], QUEUES[1], QUEUES[3]] {
        fixture.queue.create_queue(name, false).await.unwrap();
    }
    let tally = Arc::new(Tally::default());
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let queue = fixture.another(ConnectOptions::default()).await;
        for _ in 0..4 {
            tasks.push(tokio::spawn(produce(queue.clone(), seed.split(), tally.clone())));
            tasks.push(tokio::spawn(work(queue.clone(), tally.clone())));
        }
    }
    for _ in 0..2 {
        let queue = fixture.another(ConnectOptions::default()).await;
        tasks.push(tokio::spawn(operate(queue, seed.split(), tally.clone())));
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    tally.stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no task panics");
    }
    drain(&fixture, &tally).await;
    audit(&fixture, &tally);
}

/// Commits all remaining jobs.
async fn drain(fixture: &Fixture, tally: &Tally) {
    fixture.queue.create_queue("recreated", false).await.unwrap();
    fixture.queue.resume_queue("kept").await.unwrap();
    // Acks that a dropped stream left are soft-failed at once: they need not wait for their leases of 20 min.
    let quick = SettingsChange::new().backoff(vec![Duration::ZERO]);
    for summary in fixture.queue.list_queues().await.unwrap() {
        fixture.queue.set_queue_settings(&summary.name, quick.clone()).await.unwrap();
    }
    let names: Vec<_> = fixture.queue.list_queues().await.unwrap().into_iter().map(|queue| queue.name).collect();
    let mut jobs = fixture.queue.try_stream_jobs::<u64>(names);
    let open = "select count(*) from pm.job where state < 2";
    let mut idle = 0;
    while idle < 60 {
        match tokio::time::timeout(Duration::from_secs(1), jobs.next()).await {
            Ok(Some(Ok(job))) => settle(job.into_parts().1, tally).await,
            Ok(other) => panic!("the stream goes on: {other:?}"),
            Err(_) if fixture.number(open) == 0 => return,
            Err(_) => idle += 1,
        }
    }
    panic!("{} jobs are stuck", fixture.number(open));
}

fn audit(fixture: &Fixture, tally: &Tally) {
    let enqueued = tally.enqueued.lock().unwrap().len() as i64;
    let deleted = tally.deleted.load(Ordering::Relaxed) as i64;
    let finished = fixture.number("select count(*) from pm.job where state = 2");
    let commits = tally.commits.lock().unwrap();
    println!(
        "{enqueued} enqueued, {finished} finished and stored, {deleted} deleted with their queue, {} commits, {} refused",
        commits.len(),
        tally.refused.load(Ordering::Relaxed)
    );
    assert_eq!(finished + deleted, enqueued, "every job finished, or was deleted with its queue");
    assert!(commits.values().all(|times| *times == 1), "no job was committed twice");
    assert!(finished <= commits.len() as i64);
    let out_of_reach = "select count(*) from pm.job j left join pm.claim_frontier f using (queue_id, priority)
                  where j.state = 1 and (j.seq is null or f.seq is null or j.seq > f.seq)";
    assert_eq!(fixture.number(out_of_reach), 0, "every job in progress is within the reaper's reach");
    assert_eq!(fixture.number("select count(*) from pm.queue where name is null"), 0);
}

fn new_job(id: u128) -> NewJob {
    let queue = QueueName::new("tasks").expect("the name is valid");
    NewJob { id: Uuid::from_u128(id), queue, payload: "1".into(), options: EnqueueOptions::default() }
}

/// Deleting a queue while jobs are enqueued on it causes no foreign-key error on either side.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_rounds_of_deletes_against_enqueuers_show_no_raw_error_and_leave_no_orphan() {
    let fixture = Fixture::without_queue().await;
    let (stop, confirmed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let enqueuers: Vec<_> = (0..8)
        .map(|n| {
            let (queue, stop, confirmed) = (fixture.queue.clone(), stop.clone(), confirmed.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let states = [InitialState::Auto, InitialState::Pending, InitialState::Paused];
                    let options = EnqueueOptions::default().initial_state(states[n % 3]);
                    match queue.enqueue("recreated", n as u64, options).await {
                        Ok(_) => drop(confirmed.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::QueueNotFound, "{error}"),
                    }
                }
            })
        })
        .collect();
    let mut deleted = 0;
    for _ in 0..40 {
        assert!(fixture.queue.create_queue("recreated", false).await.unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
        deleted += fixture.queue.delete_queue("recreated").await.expect("the deletion succeeds");
    }
    stop.store(true, Ordering::Relaxed);
    for enqueuer in enqueuers {
        enqueuer.await.expect("it saw no other error");
    }
    assert_eq!(deleted, confirmed.load(Ordering::Relaxed), "each was deleted and counted");
    assert_eq!(fixture.number("select count(*) from pm.job"), 0, "no orphan");
    assert_eq!(fixture.number("select count(*) from pm.queue"), 0);
    assert!(deleted > 0);
}

/// A deletion in one statement would not see the job of an enqueue that commits while the deletion waits.
#[tokio::test]
async fn a_queue_deleted_during_an_open_enqueue_leaves_no_orphan() {
    let fixture = Fixture::new().await;
    fixture.put_many(10).await;
    let mut session = Direct::to(&fixture.database.url()).await;
    let transaction = session.client.transaction().await.unwrap();
    assert!(run_in(&transaction, Enqueue { jobs: &[new_job(1)] }).await.unknown_queue.is_empty());
    let queue = fixture.queue.clone();
    let mut delete = tokio::spawn(async move { queue.delete_queue("tasks").await });
    let waits = async || fixture.number(LOCK_WAITS) > 0;
    eventually("the delete waits for the transaction", TIMEOUT, waits).await;
    assert!((&mut delete).now_or_never().is_none());
    transaction.commit().await.unwrap();
    assert_eq!(within("the delete", delete).await.unwrap().unwrap(), 11, "that job is deleted with the others");
    assert_eq!(fixture.number("select count(*) from pm.job"), 0, "no orphan");
    let reply = Direct::to(&fixture.database.url()).await.run(Enqueue { jobs: &[new_job(2)] }).await;
    assert_eq!(reply.unknown_queue, [0], "no job is enqueued afterwards");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_with_a_session_that_locks_in_another_order_is_retried() {
    let fixture = Fixture::new().await;
    let paused = || EnqueueOptions::default().initial_state(InitialState::Paused);
    let ids = [fixture.put_with(0, paused()).await, fixture.put_with(1, paused()).await];
    let mut session = Direct::to(&fixture.database.url()).await;
    // The session that waits for a second checks for deadlocks and is cancelled: not this one.
    session.client.batch_execute("set deadlock_timeout = '1 min'").await.unwrap();
    let transaction = session.client.transaction().await.unwrap();
    let lock = |id: Uuid| format!("select from pm.job where id = '{id}' for update");
    transaction.batch_execute(&lock(ids[1])).await.unwrap();
    let queue = fixture.queue.clone();
    let resume = tokio::spawn(async move { queue.resume_queue("tasks").await });
    let waits = async || fixture.number(LOCK_WAITS) > 0;
    eventually("the resume has locked one job and waits for the other", TIMEOUT, waits).await;
    transaction.batch_execute(&lock(ids[0])).await.expect("the resume is cancelled");
    transaction.commit().await.unwrap();
    assert_eq!(within("the resume", resume).await.unwrap().expect("it was retried"), 2);
}

/// Lists are locked in the order of ids, whatever order they are given in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_with_lists_in_opposite_orders_do_not_deadlock() {
    let fixture = Fixture::new().await;
    let ids = fixture.put_many(200).await;
    let backwards: Vec<_> = ids.iter().rev().copied().collect();
    let other = fixture.another(ConnectOptions::default()).await;
    fixture.queue.create_queue("other", false).await.unwrap();
    for _ in 0..10 {
        let (moved, restarted) =
            tokio::join!(fixture.queue.move_jobs(&ids, "other"), other.restart_jobs(&backwards, true));
        assert_eq!((moved.unwrap(), restarted.unwrap()), (200, 200));
        let (back, again) = tokio::join!(other.move_jobs(&backwards, "tasks"), fixture.queue.restart_jobs(&ids, true));
        assert_eq!((back.unwrap(), again.unwrap()), (200, 200));
    }
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(fixture.number(deadlocks), 0);
}
