//! Settling jobs: each verdict, and who may settle.

use super::Harness;
use crate::unattended;
use pm_queue::{ConnectOptions, Ending, EnqueueOptions, ErrorKind, Reaped, SettingsChange, State, StreamOptions};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Gives `tasks` leases of this length and immediate retries.
async fn lease(harness: &Harness, lease: Duration) {
    let settings = SettingsChange::new().lease(lease).backoff(vec![Duration::ZERO]).jitter_percent(0);
    harness.queue.set_queue_settings("tasks", settings).await.unwrap();
}

pub(super) async fn each_verdict_has_its_ending(harness: Harness) {
    let hour = EnqueueOptions::default().backoff(vec![SECOND * 3_600]).max_retries(3);
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(harness.put_with(n, hour.clone()).await);
    }
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", unattended().prefetch(5));
    let mut acks = Vec::new();
    for _ in 0..5 {
        acks.push(harness.take(&mut jobs).await.1);
    }
    drop(jobs);
    let mut acks = acks.into_iter();
    let mut ack = || acks.next().unwrap();
    ack().commit().await.unwrap();
    ack().soft_fail("try again").await.unwrap();
    ack().hard_fail("never").await.unwrap();
    ack().release().await.unwrap();
    drop(ack());
    harness.eventually("the drop is applied", async || harness.job(ids[4]).await.retry_count == 1).await;
    let mut found = Vec::new();
    for id in ids {
        let job = harness.job(id).await;
        found.push((job.state, job.retry_count, job.reason, job.run_at.is_some()));
    }
    let reason = |reason: &str| Some(reason.to_owned());
    assert_eq!(found[0], (State::Finished, 0, None, false));
    assert_eq!(found[1], (State::Pending, 1, reason("try again"), true));
    assert_eq!(found[2], (State::Failed, 0, reason("never"), false));
    assert_eq!(found[3], (State::Pending, 0, None, false));
    assert_eq!(found[4], (State::Pending, 1, reason("dropped without ack"), true));
}

/// A service says when to come back: the job's own delay is used, and a retry counted.
pub(super) async fn a_soft_fail_can_say_when_to_come_back(harness: Harness) {
    let id = harness.put_with(1, EnqueueOptions::default().max_retries(2)).await;
    let mut jobs = harness.queue.try_stream_jobs::<u64>("tasks");
    for attempt in 1..=3 {
        let job = harness.next(&mut jobs).await;
        let metadata = job.metadata();
        assert_eq!((metadata.attempt, metadata.retry_count, metadata.max_retries), (attempt, attempt - 1, 2));
        assert_eq!(metadata.is_last_attempt(), attempt == 3);
        job.into_parts().1.soft_fail_after(Duration::from_millis(30), "busy").await.unwrap();
        let job = harness.job(id).await;
        if let Some(run_at) = job.run_at {
            assert!(run_at.unix_us() - job.read_at.unix_us() <= 30_000, "not the backoff's delay");
        }
    }
    let job = harness.job(id).await;
    assert_eq!((job.state, job.retry_count, job.reason.as_deref()), (State::Failed, 3, Some("busy")));
    let far = harness.put(2).await;
    harness.take(&mut jobs).await.1.soft_fail_after(Duration::MAX, "in ten years").await.unwrap();
    let ten_years = Duration::from_secs(3_650 * 86_400).as_micros() as i64;
    let job = harness.job(far).await;
    let delay = job.run_at.unwrap().unix_us() - job.read_at.unix_us();
    assert!((ten_years - 60_000_000..=ten_years).contains(&delay), "{delay}");
}

/// A job may be put off as often as its handler likes: it costs neither an attempt nor a retry.
pub(super) async fn a_job_that_is_put_off_loses_neither_attempt_nor_retry(harness: Harness) {
    let id = harness.put_with(1, EnqueueOptions::default().max_retries(0)).await;
    let mut jobs = harness.queue.try_stream_jobs::<u64>("tasks");
    for snoozes in 0..3 {
        let job = harness.next(&mut jobs).await;
        let metadata = job.metadata();
        assert_eq!((metadata.attempt, metadata.retry_count, metadata.snoozes), (1, 0, snoozes));
        job.into_parts().1.snooze(Duration::from_millis(20)).await.unwrap();
        let job = harness.job(id).await;
        assert_eq!((job.retry_count, job.snoozes), (0, snoozes + 1));
    }
    let job = harness.next(&mut jobs).await;
    job.into_parts().1.snooze(Duration::ZERO).await.unwrap();
    let (_, ack) = harness.take(&mut jobs).await;
    assert_eq!((ack.id(), ack.attempt()), (id, 1), "at once");
    ack.commit().await.unwrap();
    let job = harness.job(id).await;
    assert_eq!((job.state, job.attempt, job.snoozes), (State::Finished, 1, 4));
    assert!(harness.queue.attempts(id).await.unwrap().is_empty(), "snoozes leave no attempts");
    assert_eq!(harness.queue.restart_jobs(&[id], false).await.unwrap(), 1);
    assert_eq!(harness.job(id).await.snoozes, 0, "a restart begins anew");
}

pub(super) async fn retries_run_out(harness: Harness) {
    let options = EnqueueOptions::default().max_retries(2).backoff(vec![Duration::from_millis(30)]).jitter_percent(0);
    let id = harness.put_with(1, options).await;
    let mut jobs = harness.queue.try_stream_jobs::<u64>("tasks");
    for attempt in 1..=3 {
        let (_, ack) = harness.take(&mut jobs).await;
        assert_eq!((ack.id(), ack.attempt()), (id, attempt));
        ack.soft_fail(format!("attempt {attempt}")).await.unwrap();
    }
    let job = harness.job(id).await;
    assert_eq!((job.state, job.reason.as_deref()), (State::Failed, Some("attempt 3")));
    let attempts = harness.queue.attempts(id).await.unwrap();
    assert_eq!(attempts.iter().map(|one| one.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(attempts.iter().all(|one| one.worker.is_some() && one.reason.is_some()));
}

pub(super) async fn refresh_lock_extends_the_lease(harness: Harness) {
    lease(&harness, SECOND * 600).await;
    let id = harness.put(1).await;
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let (_, mut ack) = harness.take(&mut jobs).await;
    let before = harness.job(id).await.lease_expires_at.unwrap();
    let remaining = ack.refresh_lock().await.unwrap();
    assert!(remaining <= SECOND * 600 && remaining > SECOND * 590, "{remaining:?}");
    assert!(harness.job(id).await.lease_expires_at.unwrap() > before);
    ack.commit().await.unwrap();
}

pub(super) async fn an_extended_lease_is_not_lost(harness: Harness) {
    lease(&harness, SECOND).await;
    let id = harness.put(1).await;
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", StreamOptions::default());
    let (_, ack) = harness.take(&mut jobs).await;
    assert_eq!(harness.before(SECOND * 5 / 2, ack.lost()).await, None, "the heartbeat extends it");
    ack.commit().await.unwrap();
    assert_eq!((harness.state(id).await, harness.job(id).await.attempt), (State::Finished, 1));
}

pub(super) async fn a_lost_lease_is_reported_and_refused(harness: Harness) {
    lease(&harness, SECOND).await;
    let id = harness.put(1).await;
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", StreamOptions::default().reaper(false));
    let (_, mut ack) = harness.take(&mut jobs).await;
    drop(jobs);
    assert_eq!(harness.queue.restart_jobs(&[id], true).await.unwrap(), 1);
    harness.within("the loss", ack.lost()).await;
    assert_eq!(ack.refresh_lock().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(harness.state(id).await, State::Pending);
}

pub(super) async fn a_reaped_job_goes_to_another_worker(harness: Harness) {
    lease(&harness, SECOND / 2).await;
    let id = harness.put(1).await;
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let (_, ack) = harness.take(&mut jobs).await;
    drop(jobs);
    let mut others = harness.another(ConnectOptions::default()).await.try_stream_jobs::<u64>("tasks");
    let theirs = harness.next(&mut others).await;
    assert_eq!((theirs.id(), theirs.metadata().attempt, theirs.metadata().retry_count), (id, 2, 1));
    harness.within("the loss", ack.lost()).await;
    assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    theirs.into_parts().1.commit().await.unwrap();
    let attempts = harness.queue.attempts(id).await.unwrap();
    assert_eq!((attempts.len(), attempts[0].ending), (1, Ending::Reap));
    assert_eq!(harness.queue.reap().await.unwrap(), Reaped::default());
}
