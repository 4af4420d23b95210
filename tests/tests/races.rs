//! Operators, producers and workers at once.

use futures_util::StreamExt;
use pm_driver_tokio_postgres::{
    ConnectOptions, EnqueueOptions, Error, ErrorKind, JobFilter, Queue, SettingsChange, State, StreamOptions, Uuid,
};
use pm_tests::{Fixture, Seed};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// `kept` is moved from and to, paused and resumed; `renamed` changes its name; `doomed` is deleted and made again.
const QUEUES: [&str; 4] = ["kept", "renamed", "renamed too", "doomed"];

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
        // A stream ends when none of its queues is left; here it is also given up now and then, with jobs in it.
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
            0 => queue.delete_queue("doomed").await.map(|jobs| {
                tally.deleted.fetch_add(jobs, Ordering::Relaxed);
            }),
            1 => queue.create_queue("doomed", false).await.map(drop),
            2 => queue.rename_queue("renamed", "renamed too").await,
            3 => queue.rename_queue("renamed too", "renamed").await,
            4 => queue.pause_queue("kept").await.map(drop),
            _ => queue.resume_queue("kept").await.map(drop),
        };
        outcome.unwrap_or_else(|error| tolerate(&error, &[QueueNotFound, QueueExists]));
        let recent = queue.list_jobs(JobFilter::default().limit(20)).await.unwrap();
        let ids: Vec<_> = recent.iter().filter(|job| job.state != State::Finished).map(|job| job.id).collect();
        if let Err(error) = queue.move_jobs(&ids, seed.pick(&QUEUES)).await {
            tolerate(&error, &[QueueNotFound]);
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

/// Lets whatever is left come to its end.
async fn drain(fixture: &Fixture, tally: &Tally) {
    fixture.queue.create_queue("doomed", false).await.unwrap();
    fixture.queue.resume_queue("kept").await.unwrap();
    // Jobs that a stream gave up holding are soft-failed at once, or reaped after a lease; no one waits 20 min for that.
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
        "{enqueued} enqueued, {finished} finished and there, {deleted} deleted with their queue, {} commits, {} refused",
        commits.len(),
        tally.refused.load(Ordering::Relaxed)
    );
    assert_eq!(finished + deleted, enqueued, "every job finished, or went with its queue");
    assert!(commits.values().all(|times| *times == 1), "no job was committed twice");
    assert!(finished <= commits.len() as i64);
    let astray = "select count(*) from pm.job j left join pm.claim_frontier f using (queue_id, priority)
                  where j.state = 1 and (j.seq is null or f.seq is null or j.seq > f.seq)";
    assert_eq!(fixture.number(astray), 0, "whatever is in progress stands within the reaper's reach");
    assert_eq!(fixture.number("select count(*) from pm.queue where name is null"), 0);
}
