//! A settlement is sent even if its future is dropped, and a dropped ack soft-fails its job.

use pm_driver_tokio_postgres::{Ending, EnqueueOptions, ErrorKind, JobAck, SettingsChange, State};
use pm_tests::{Fixture, TIMEOUT, eventually, next, take, within};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

async fn taken(fixture: &Fixture) -> JobAck {
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    next(&mut jobs).await.into_parts().1
}

/// Retries after an hour, so that a soft-failed job is not claimed again during the test.
fn later() -> SettingsChange {
    SettingsChange::new().backoff(vec![Duration::from_secs(3_600)])
}

#[tokio::test]
async fn an_ack_dropped_on_a_thread_without_a_runtime_soft_fails_its_job() {
    let fixture = Fixture::with(later()).await;
    let ack = taken(&fixture).await;
    let id = ack.id();
    thread::spawn(move || drop(ack)).join().unwrap();
    eventually("the job is soft-failed", TIMEOUT, async || fixture.state(id).await == State::Pending).await;
    let job = fixture.job(id).await;
    assert_eq!((job.retry_count, job.reason.as_deref()), (1, Some("dropped without ack")));
    assert_eq!(fixture.queue.attempts(id).await.unwrap()[0].ending, Ending::SoftFail);
}

#[tokio::test]
async fn an_ack_dropped_by_a_panic_records_the_panic() {
    let fixture = Fixture::with(later()).await;
    let ack = taken(&fixture).await;
    let id = ack.id();
    let thread = thread::spawn(move || {
        let handler = AssertUnwindSafe(|| {
            let _ack = ack;
            panic!("a handler's bug, on purpose");
        });
        catch_unwind(handler).is_err()
    });
    assert!(thread.join().unwrap(), "it panicked");
    eventually("the job is soft-failed", TIMEOUT, async || fixture.state(id).await == State::Pending).await;
    assert_eq!(fixture.reason(id).await, "panicked");
}

#[tokio::test]
async fn an_ack_dropped_by_a_panicking_task_records_the_panic() {
    let fixture = Fixture::with(later()).await;
    let ack = taken(&fixture).await;
    let id = ack.id();
    let task = tokio::spawn(async move {
        let _ack = ack;
        panic!("a handler's bug, on purpose");
    });
    assert!(task.await.unwrap_err().is_panic());
    eventually("the job is soft-failed", TIMEOUT, async || fixture.state(id).await == State::Pending).await;
    assert_eq!(fixture.reason(id).await, "panicked");
}

#[tokio::test]
async fn dropping_a_job_is_dropping_its_ack() {
    let fixture = Fixture::with(later()).await;
    let id = fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let job = next(&mut jobs).await;
    assert_eq!((job.id(), *job.payload(), job.metadata().attempt), (id, 1, 1));
    drop(job);
    eventually("the job is soft-failed", TIMEOUT, async || fixture.state(id).await == State::Pending).await;
    assert_eq!(fixture.reason(id).await, "dropped without ack");
}

#[tokio::test]
async fn a_commit_whose_future_is_dropped_is_applied() {
    let fixture = Fixture::new().await;
    let ack = taken(&fixture).await;
    let id = ack.id();
    drop(ack.commit());
    eventually("the job is finished", TIMEOUT, async || fixture.state(id).await == State::Finished).await;
}

#[tokio::test]
async fn a_commit_cancelled_halfway_is_applied() {
    let fixture = Fixture::new().await;
    let ack = taken(&fixture).await;
    let id = ack.id();
    let timed_out = tokio::time::timeout(Duration::ZERO, ack.commit()).await;
    eventually("the job is finished", TIMEOUT, async || fixture.state(id).await == State::Finished).await;
    drop(timed_out);
}

#[tokio::test]
async fn jobs_can_be_settled_on_threads_without_a_runtime() {
    let fixture = Fixture::new().await;
    let ack = taken(&fixture).await;
    let id = ack.id();
    let thread = thread::spawn(move || ack.commit().detach());
    thread.join().unwrap();
    eventually("the job is finished", TIMEOUT, async || fixture.state(id).await == State::Finished).await;

    let ack = taken(&fixture).await;
    let outcome = tokio::task::spawn_blocking(move || block_on(ack.commit())).await.unwrap();
    outcome.unwrap();
}

/// Waits for a future by parking the thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = std::pin::pin!(future);
    let waker = std::sync::Arc::new(Unpark(thread::current())).into();
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(answer) => return answer,
            std::task::Poll::Pending => thread::park(),
        }
    }
}

#[tokio::test]
async fn closing_waits_for_every_settlement_and_every_dropped_ack() {
    const JOBS: u64 = 200;
    let fixture = Fixture::with(later()).await;
    fixture.put_many(JOBS).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    for job in take(&mut jobs, JOBS as usize).await {
        let (n, ack) = job.into_parts();
        match n % 4 {
            0 => ack.commit().detach(),
            1 => drop(ack.hard_fail("no")),
            2 => drop(ack),
            _ => drop(thread::spawn(move || drop(ack)).join()),
        }
    }
    within("the end of close", fixture.queue.close()).await;
    assert_eq!(fixture.jobs_in(State::Finished), 50);
    assert_eq!(fixture.jobs_in(State::Failed), 50);
    assert_eq!(fixture.number("select count(*) from pm.job where reason = 'dropped without ack' and state = 0"), 100);
}

#[test]
fn an_ack_that_outlives_its_runtime_can_be_dropped() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (fixture, ack, late) = runtime.block_on(async {
        let fixture = Fixture::with(later()).await;
        let ack = taken(&fixture).await;
        let late = taken(&fixture).await;
        (fixture, ack, late)
    });
    drop(runtime);
    drop(ack);
    let refused = block_on(late.commit()).expect_err("there is no runtime to settle it");
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "it is unknown whether the lease is lost: {refused}");
    assert_eq!(fixture.jobs_in(State::InProgress), 2, "they stay leased until their leases expire");
}

#[tokio::test]
async fn a_handler_sees_a_job_as_it_was_enqueued() {
    let fixture = Fixture::new().await;
    let options = EnqueueOptions::default().priority(7).description("a mail").key("mail 1");
    let id = fixture.put_with(5, options).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let job = next(&mut jobs).await;
    let seen = job.metadata();
    assert_eq!((seen.id, &*seen.queue, seen.priority, seen.attempt, seen.retry_count), (id, "tasks", 7, 1, 0));
    assert_eq!((seen.description.as_deref(), seen.key.as_deref()), (Some("a mail"), Some("mail 1")));
    assert_eq!(seen.created_at, fixture.job(id).await.created_at);
    let (payload, ack) = job.into_parts();
    assert_eq!((payload, ack.id(), ack.attempt(), ack.lease().job), (5, id, 1, id));
    assert_eq!(fixture.job(id).await.lease, Some(ack.lease().number));
    ack.commit().await.unwrap();
}
