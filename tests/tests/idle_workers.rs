//! A job that another process makes ready notifies idle workers.

use pm_driver_tokio_postgres::{
    ConnectOptions, EnqueueOptions, JobStream, Queue, RunAt, SettingsChange, StreamOptions,
};
use pm_tests::{Fixture, TIMEOUT, eventually, next, take, unattended};
use std::time::Duration;

/// Polls so rarely that a job found earlier was found through a notification.
fn notified_only() -> StreamOptions {
    let hour = Duration::from_secs(3_600);
    StreamOptions::default().poll(hour, hour).idle_poll(hour)
}

/// Returns another process's stream that has found `tasks` empty and is idle, with its handle.
async fn idle_worker(fixture: &Fixture, options: StreamOptions) -> (Queue, JobStream<u64>) {
    let other = fixture.another(ConnectOptions::default()).await;
    let mut jobs = other.try_stream_jobs_with::<u64>("tasks", options);
    let nothing = futures_util::FutureExt::now_or_never(futures_util::StreamExt::next(&mut jobs));
    assert!(nothing.is_none());
    eventually("its listener is connected", TIMEOUT, async || other.is_listening()).await;
    let idle = async || {
        // A resume that resumes nothing makes it poll again.
        assert_eq!(fixture.queue.resume_queue("tasks").await.expect("the queue exists"), 0);
        fixture.number("select count(*) from pm.queue where idle_until > now()") == 1
    };
    eventually("the worker is idle", TIMEOUT, idle).await;
    // It has received the notifications sent so far.
    tokio::time::sleep(Duration::from_millis(300)).await;
    (other, jobs)
}

#[tokio::test]
async fn a_released_job_notifies_idle_workers() {
    let fixture = Fixture::new().await;
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let ack = next(&mut jobs).await.into_parts().1;
    drop(jobs);
    let (_other, mut theirs) = idle_worker(&fixture, notified_only()).await;
    ack.release().await.unwrap();
    assert_eq!(next(&mut theirs).await.metadata().attempt, 1);
}

#[tokio::test]
async fn a_job_retried_at_once_notifies_idle_workers() {
    let fixture = Fixture::with(SettingsChange::new().backoff(vec![Duration::ZERO])).await;
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let ack = next(&mut jobs).await.into_parts().1;
    drop(jobs);
    let (_other, mut theirs) = idle_worker(&fixture, notified_only()).await;
    ack.soft_fail("again").await.unwrap();
    assert_eq!(next(&mut theirs).await.metadata().attempt, 2);
}

#[tokio::test]
async fn a_job_retried_after_a_delay_notifies_idle_workers_then() {
    let fixture = Fixture::with(SettingsChange::new().backoff(vec![Duration::from_millis(500)])).await;
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let ack = next(&mut jobs).await.into_parts().1;
    drop(jobs);
    let (_other, mut theirs) = idle_worker(&fixture, notified_only()).await;
    ack.soft_fail("again").await.unwrap();
    assert_eq!(next(&mut theirs).await.metadata().attempt, 2);
}

#[tokio::test]
async fn jobs_released_by_a_dropped_stream_notify_idle_workers() {
    let fixture = Fixture::new().await;
    fixture.put_many(60).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    for job in take(&mut jobs, 20).await {
        job.into_parts().1.commit().await.unwrap();
    }
    let claimed = async || fixture.number("select count(*) from pm.job where state = 1") > 0;
    eventually("some are claimed ahead", TIMEOUT, claimed).await;
    fixture.database.execute("delete from pm.job where state = 0").unwrap();
    let (_other, mut theirs) = idle_worker(&fixture, notified_only()).await;
    drop(jobs);
    next(&mut theirs).await.into_parts().1.commit().await.unwrap();
}

#[tokio::test]
async fn a_job_reaped_by_another_process_notifies_idle_workers() {
    let fixture = Fixture::with(SettingsChange::new().backoff(vec![Duration::ZERO])).await;
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let _job = next(&mut jobs).await;
    drop(jobs);
    let (_other, mut theirs) = idle_worker(&fixture, notified_only().reaper(false)).await;
    fixture.database.execute("update pm.job set lease_expires_at = now()").unwrap();
    assert_eq!(fixture.queue.reap().await.unwrap().reaped, 1);
    assert_eq!(next(&mut theirs).await.metadata().attempt, 2);
}

#[tokio::test]
async fn a_job_promoted_by_a_busy_worker_notifies_idle_workers() {
    let fixture = Fixture::new().await;
    fixture.put(0).await;
    let mut busy = fixture.queue.try_stream_jobs::<u64>("tasks");
    let _handled = next(&mut busy).await;
    let (_other, mut theirs) = idle_worker(&fixture, notified_only()).await;
    for n in 1..=8 {
        let soon = EnqueueOptions::default().run_at(RunAt::In(Duration::from_millis(100)));
        fixture.put_with(n, soon).await;
        let (got, ack) = next(&mut theirs).await.into_parts();
        assert_eq!(got, n);
        ack.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_released_job_returns_to_the_stream_it_came_from() {
    let fixture = Fixture::new().await;
    let (_other, mut jobs) = idle_worker(&fixture, notified_only()).await;
    fixture.put(1).await;
    let mut job = next(&mut jobs).await;
    for _ in 0..3 {
        let ack = job.into_parts().1;
        // The stream has polled since, and found nothing.
        let nothing = tokio::time::timeout(Duration::from_millis(300), futures_util::StreamExt::next(&mut jobs)).await;
        assert!(nothing.is_err());
        ack.release().await.unwrap();
        job = next(&mut jobs).await;
        assert_eq!(job.metadata().attempt, 1, "a release undoes the attempt");
    }
}
