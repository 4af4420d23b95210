//! Pausing a queue is one write, and no job is claimed after it.

use futures_util::StreamExt;
use pm_core::op::Enqueue;
use pm_core::{NewJob, QueueName};
use pm_driver_tokio_postgres::{
    ConnectOptions, EnqueueOptions, InitialState, Queue, RunAt, SettingsChange, State, StreamOptions, Uuid,
};
use pm_tests::{Direct, Fixture, TIMEOUT, eventually, next, run_in, take, unattended, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Commits every job until the queue is closed.
fn spawn_worker(queue: &Queue, options: StreamOptions, handed_out: &Arc<AtomicU64>) -> tokio::task::JoinHandle<()> {
    let (jobs, handed_out) = (queue.try_stream_jobs_with::<u64>("tasks", options), handed_out.clone());
    tokio::spawn(jobs.for_each_concurrent(8, move |job| {
        let handed_out = handed_out.clone();
        async move {
            let (_, ack) = job.expect("every job is readable").into_parts();
            handed_out.fetch_add(1, Ordering::SeqCst);
            ack.commit().await.expect("the lease is valid");
        }
    }))
}

fn spawn_enqueuer(queue: Queue, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<u64> {
    let stop = stop.clone();
    tokio::spawn(async move {
        let mut count = 0;
        while !stop.load(Ordering::SeqCst) {
            let options = EnqueueOptions::default().priority((count % 3) as i32);
            queue.enqueue("tasks", count, options).await.expect("the job is enqueued");
            count += 1;
        }
        count
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_against_16_racing_enqueuers_leaks_nothing() {
    let fixture = Fixture::new().await;
    let handed_out = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let mut enqueuers = Vec::new();
    let mut handles = Vec::new();
    for _ in 0..16 {
        let queue = fixture.another(ConnectOptions::default().connections(1)).await;
        enqueuers.push(spawn_enqueuer(queue.clone(), &stop));
        handles.push(queue);
    }
    log_claims(&fixture);
    // They learn of a pause late, from a poll, and until then rely on the claim itself to read the flag.
    let polling = || StreamOptions::default().listen(false);
    let workers: Vec<_> = handles[..3].iter().map(|queue| spawn_worker(queue, polling(), &handed_out)).collect();

    for _ in 0..5 {
        let before = handed_out.load(Ordering::SeqCst);
        eventually("jobs flow", TIMEOUT, async || handed_out.load(Ordering::SeqCst) > before + 50).await;
        fixture.queue.pause_queue("tasks").await.unwrap();
        let paused_at = fixture.column("select clock_timestamp()");
        let paused = fixture.number("select count(*) from pm.job where state = 0");
        let grown = async || fixture.number("select count(*) from pm.job where state = 0") > paused + 200;
        eventually("the enqueuers went on", TIMEOUT, grown).await;
        let quiet = async || fixture.jobs_in(State::InProgress) == 0;
        eventually("what was claimed is settled or released", TIMEOUT, quiet).await;
        let leaked = format!("select count(*) from public.claim where at > '{}'", paused_at[0]);
        assert_eq!(fixture.number(&leaked), 0, "claims that began after the pause had returned");
        fixture.queue.resume_queue("tasks").await.unwrap();
    }

    stop.store(true, Ordering::SeqCst);
    let mut put = 0;
    for enqueuer in enqueuers {
        put += enqueuer.await.unwrap();
    }
    eventually("all is done", 3 * TIMEOUT, async || fixture.jobs_in(State::Finished) == put as i64).await;
    assert_eq!(handed_out.load(Ordering::SeqCst), put, "each was handed out once");
    for queue in handles {
        queue.close().await;
    }
    for worker in workers {
        worker.await.unwrap();
    }
}

/// Makes the database record when the statement of each claim began.
fn log_claims(fixture: &Fixture) {
    let script = "create table public.claim (at timestamptz);
        create function public.log_claim() returns trigger language plpgsql as
          'begin insert into public.claim values (statement_timestamp()); return null; end';
        create trigger log_claim after update on pm.job for each row
          when (old.state = 0 and new.state = 1) execute function public.log_claim()";
    fixture.database.execute(script).expect("the script is valid");
}

#[tokio::test]
async fn pausing_and_resuming_report_how_many_jobs_they_affect() {
    let fixture = Fixture::new().await;
    fixture.put_many(10).await;
    fixture.put_with(10, EnqueueOptions::default().run_at(RunAt::In(Duration::from_secs(3_600)))).await;
    fixture.put_with(11, EnqueueOptions::default().initial_state(InitialState::Paused)).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", StreamOptions::default().prefetch(1));
    let ack = next(&mut jobs).await.into_parts().1;
    drop(jobs);
    eventually("the rest is released", TIMEOUT, async || fixture.jobs_in(State::InProgress) == 1).await;

    assert_eq!(fixture.queue.pause_queue("tasks").await.unwrap(), 11, "all but the one in progress");
    assert_eq!(fixture.queue.pause_queue("tasks").await.unwrap(), 11, "again: the same number is paused");
    assert_eq!(fixture.state(ack.id()).await, State::InProgress, "work in progress goes on");
    ack.commit().await.unwrap();
    assert_eq!(fixture.queue.resume_queue("tasks").await.unwrap(), 11);
    assert_eq!(fixture.queue.resume_queue("tasks").await.unwrap(), 0, "again: none is left to resume");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_with_waiting_workers_reports_how_many_jobs_it_resumed() {
    let fixture = Fixture::without_queue().await;
    fixture.queue.create_queue("tasks", true).await.unwrap();
    let handed_out = Arc::new(AtomicU64::new(0));
    let other = fixture.another(ConnectOptions::default()).await;
    let worker = |queue| spawn_worker(queue, StreamOptions::default(), &handed_out);
    let workers = [worker(&fixture.queue), worker(&other)];
    for round in 1..=10 {
        fixture.put_many(50).await;
        assert_eq!(fixture.queue.resume_queue("tasks").await.unwrap(), 50);
        eventually("all are done", TIMEOUT, async || handed_out.load(Ordering::SeqCst) == round * 50).await;
        fixture.queue.pause_queue("tasks").await.unwrap();
    }
    other.close().await;
    fixture.queue.close().await;
    for worker in workers {
        worker.await.unwrap();
    }
}

#[tokio::test]
async fn a_job_of_a_paused_queue_is_shown_as_paused() {
    let fixture = Fixture::new().await;
    let id = fixture.put(1).await;
    assert_eq!(fixture.state(id).await, State::Pending);
    fixture.queue.pause_queue("tasks").await.unwrap();
    assert_eq!(fixture.state(id).await, State::Paused);
    let other = fixture.put_with(2, EnqueueOptions::default().initial_state(InitialState::Pending)).await;
    assert_eq!(fixture.state(other).await, State::Paused, "a queue's pause is never overridden");
    let summary = &fixture.queue.list_queues().await.unwrap()[0];
    assert!(summary.paused);
    assert_eq!((summary.count(State::Pending).jobs, summary.count(State::Paused).jobs), (0, 2));
    assert!(fixture.queue.list_pending("tasks").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_job_enqueued_as_paused_stays_paused_until_its_queue_is_resumed() {
    let fixture = Fixture::new().await;
    let paused = fixture.put_with(1, EnqueueOptions::default().initial_state(InitialState::Paused).priority(9)).await;
    let free = fixture.put(2).await;
    assert_eq!(fixture.state(paused).await, State::Paused);
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let job = next(&mut jobs).await;
    assert_eq!(job.id(), free, "though it has the lower priority");
    job.into_parts().1.commit().await.unwrap();
    assert_eq!(fixture.queue.resume_queue("tasks").await.unwrap(), 1, "the queue was not paused, the job was");
    let job = next(&mut jobs).await;
    assert_eq!(job.id(), paused);
    job.into_parts().1.commit().await.unwrap();
}

/// Whatever the order of their rows in the table, in which an update without an order would visit them.
#[tokio::test]
async fn jobs_paused_one_by_one_are_resumed_in_the_order_of_their_ids() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(fixture.put_with(n, EnqueueOptions::default().initial_state(InitialState::Paused)).await);
    }
    ids.sort_unstable();
    for id in [ids[0], ids[3]] {
        for paused in [false, true] {
            fixture.database.execute(&format!("update pm.job set paused = {paused} where id = '{id}'")).unwrap();
        }
    }
    assert_eq!(fixture.queue.resume_queue("tasks").await.unwrap(), 6);
    let resumed = fixture.column("select id from pm.job order by seq");
    assert_eq!(resumed, ids.iter().map(ToString::to_string).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_retry_in_a_paused_queue_stays_put() {
    let fixture = Fixture::with(SettingsChange::new().backoff(vec![Duration::ZERO])).await;
    let id = fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let ack = next(&mut jobs).await.into_parts().1;
    fixture.queue.pause_queue("tasks").await.unwrap();
    ack.soft_fail("again").await.unwrap();
    assert_eq!(fixture.state(id).await, State::Paused);
    assert_stays_put(&fixture, &mut jobs).await;
    assert_eq!(fixture.queue.resume_queue("tasks").await.unwrap(), 1);
    assert_eq!(next(&mut jobs).await.metadata().attempt, 2);
}

#[tokio::test]
async fn a_reaped_job_of_a_paused_queue_stays_put() {
    let settings = SettingsChange::new().backoff(vec![Duration::ZERO]).lease(Duration::from_millis(300));
    let fixture = Fixture::with(settings).await;
    let id = fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let job = next(&mut jobs).await;
    fixture.queue.pause_queue("tasks").await.unwrap();
    eventually("it is reaped", TIMEOUT, async || fixture.queue.reap().await.unwrap().reaped == 1).await;
    assert_eq!(fixture.state(id).await, State::Paused);
    assert_stays_put(&fixture, &mut jobs).await;
    drop(job);
    assert_eq!(fixture.queue.resume_queue("tasks").await.unwrap(), 1);
    assert_eq!(next(&mut jobs).await.metadata().attempt, 2);
}

/// Asserts that the stream hands out no job of `tasks` during more than one poll.
async fn assert_stays_put<S>(fixture: &Fixture, jobs: &mut S)
where
    S: StreamExt + Unpin,
{
    let attempts = fixture.number("select sum(attempt)::int8 from pm.job");
    let nothing = tokio::time::timeout(Duration::from_millis(1_500), jobs.next()).await;
    assert!(nothing.is_err(), "a job of a paused queue was handed out");
    assert_eq!(fixture.number("select sum(attempt)::int8 from pm.job"), attempts);
}

#[tokio::test]
async fn a_resume_wakes_a_stream_at_once() {
    let fixture = Fixture::without_queue().await;
    fixture.queue.create_queue("tasks", true).await.unwrap();
    fixture.put(1).await;
    let slow = StreamOptions::default().poll(Duration::from_secs(60), Duration::from_secs(60));
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", slow);
    let nothing = tokio::time::timeout(Duration::from_millis(300), jobs.next()).await;
    assert!(nothing.is_err());
    let start = Instant::now();
    assert_eq!(fixture.queue.resume_queue("tasks").await.unwrap(), 1);
    next(&mut jobs).await.into_parts().1.commit().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "long before the next poll");
}

#[tokio::test]
async fn jobs_claimed_ahead_are_released_when_their_queue_is_paused() {
    let fixture = Fixture::new().await;
    fixture.put_many(300).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    for job in take(&mut jobs, 50).await {
        job.into_parts().1.commit().await.unwrap();
    }
    let ahead = async || fixture.jobs_in(State::InProgress) > 0;
    eventually("some are claimed ahead", TIMEOUT, ahead).await;
    fixture.queue.pause_queue("tasks").await.unwrap();
    eventually("they are released", TIMEOUT, async || fixture.jobs_in(State::InProgress) == 0).await;
    assert_eq!(fixture.number("select max(retry_count) from pm.job"), 0);
    assert_eq!(fixture.number("select count(*) from pm.attempt"), 0);
    within("the end", fixture.queue.close()).await;
}

#[tokio::test]
async fn neither_an_initial_state_nor_a_restart_overrides_a_paused_queue() {
    let fixture = Fixture::new().await;
    let ended = fixture.put(1).await;
    fixture.queue.finish_jobs(&[ended]).await.unwrap();
    fixture.queue.pause_queue("tasks").await.unwrap();
    let pending = fixture.put_with(2, EnqueueOptions::default().initial_state(InitialState::Pending)).await;
    assert_eq!(fixture.queue.restart_jobs(&[ended], true).await.unwrap(), 1);
    let second = Duration::from_secs(1);
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended().poll(second / 100, second / 10));
    assert!(tokio::time::timeout(second, jobs.next()).await.is_err());
    for id in [ended, pending] {
        assert_eq!(fixture.state(id).await, State::Paused);
        assert!(fixture.queue.fetch_job::<u64>(id).await.unwrap().is_none(), "it is not fetched by its id either");
    }
    assert_eq!(fixture.queue.resume_queue("tasks").await.unwrap(), 2);
    for job in take(&mut jobs, 2).await {
        job.into_parts().1.commit().await.unwrap();
    }
}

#[tokio::test]
async fn renaming_and_pausing_write_no_job_row() {
    let fixture = Fixture::new().await;
    fixture.put_many(1_000).await;
    let rows = "select md5(string_agg(xmin::text || ctid::text || id::text, ',' order by id)) from pm.job";
    let before = fixture.column(rows);
    fixture.queue.pause_queue("tasks").await.unwrap();
    fixture.queue.rename_queue("tasks", "chores").await.unwrap();
    assert_eq!(fixture.queue.resume_queue("chores").await.unwrap(), 1_000);
    assert_eq!(fixture.column(rows), before);
}

/// Pausing and changing settings do not lock the key of the queue's row, so they do not wait for open enqueues.
#[tokio::test]
async fn pausing_and_changing_settings_do_not_wait_for_an_open_enqueue() {
    let fixture = Fixture::new().await;
    let mut session = Direct::to(&fixture.database.url()).await;
    let transaction = session.client.transaction().await.unwrap();
    let (id, queue) = (Uuid::from_u128(1), QueueName::new("tasks").unwrap());
    let job = NewJob { id, queue, payload: "1".into(), options: EnqueueOptions::default() };
    run_in(&transaction, Enqueue { jobs: &[job] }).await;
    let change = SettingsChange::new().max_retries(3);
    fixture.queue.set_queue_settings("tasks", change).await.expect("it does not wait");
    assert_eq!(fixture.queue.pause_queue("tasks").await.expect("it does not wait"), 0);
    transaction.commit().await.unwrap();
    assert_eq!(fixture.state(id).await, State::Paused, "the job is paused");
    assert_eq!(fixture.queue.resume_queue("tasks").await.unwrap(), 1);
}
