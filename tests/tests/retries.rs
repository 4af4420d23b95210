//! Soft failures are retried, by the backoff table of the queue or of the job.

use pm_driver_tokio_postgres::{
    Backoff, Ending, EnqueueOptions, JobMetadata, QueueSettings, SettingsChange, State, Uuid,
};
use pm_tests::{Fixture, TIMEOUT, eventually, next, unattended};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// Makes a job that waits for its retry due now.
fn make_ready(fixture: &Fixture, id: Uuid) {
    let sql = format!("update pm.job set run_at = now() where id = '{id}' and run_at is not null");
    fixture.database.execute(&sql).expect("the statement is valid");
}

/// Returns for how long the job still waits, by the database's clock.
fn wait(job: &JobMetadata) -> Option<Duration> {
    let us = job.run_at?.unix_us() - job.read_at.unix_us();
    Some(Duration::from_micros(us.max(0).unsigned_abs()))
}

#[track_caller]
fn assert_about(wait: Option<Duration>, expected: Duration) {
    let wait = wait.unwrap_or_default();
    let near = wait <= expected && wait + MINUTE >= expected;
    assert!(near, "waits {wait:?}, not about {expected:?}");
}

/// Soft-fails the next job.
async fn fail_next(fixture: &Fixture, reason: &str) -> u32 {
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let ack = next(&mut jobs).await.into_parts().1;
    drop(jobs);
    let attempt = ack.attempt();
    ack.soft_fail(reason).await.expect("the lease is valid");
    attempt
}

#[tokio::test]
async fn the_default_table_shows_in_the_due_times_and_the_ninth_failure_is_final() {
    let fixture = Fixture::with(SettingsChange::new()).await;
    let id = fixture.put(1).await;
    for (failure, minutes) in [0, 25, 50, 100, 200, 400, 800, 1600].into_iter().enumerate() {
        let reason = format!("failure {}", failure + 1);
        assert_eq!(fail_next(&fixture, &reason).await, failure as u32 + 1);
        let job = fixture.job(id).await;
        assert_eq!((job.state, job.retry_count), (State::Pending, failure as u32 + 1));
        assert_eq!((job.reason.as_deref(), job.ended_at), (Some(reason.as_str()), None));
        match minutes {
            0 => assert_eq!(job.run_at, None, "at once"),
            minutes => assert_about(wait(&job), MINUTE * minutes),
        }
        make_ready(&fixture, id);
    }
    assert_eq!(fail_next(&fixture, "the last").await, 9);
    let job = fixture.job(id).await;
    assert_eq!((job.state, job.attempt, job.retry_count), (State::Failed, 9, 9));
    assert_eq!((job.reason.as_deref(), job.run_at), (Some("the last"), None));
    assert!(job.ended_at.is_some());
    let attempts = fixture.queue.attempts(id).await.unwrap();
    let found: Vec<_> = attempts.iter().map(|attempt| (attempt.attempt, attempt.ending)).collect();
    assert_eq!(found, (1..=9).map(|n| (n, Ending::SoftFail)).collect::<Vec<_>>());
    assert_eq!(attempts[3].reason.as_deref(), Some("failure 4"));
    assert!(attempts.iter().all(|attempt| attempt.worker.is_some()));
    assert!(attempts.is_sorted_by_key(|attempt| attempt.ended_at));
}

#[tokio::test]
async fn a_hard_failure_is_final_at_once() {
    let fixture = Fixture::new().await;
    let id = fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    next(&mut jobs).await.into_parts().1.hard_fail("no such address").await.unwrap();
    let job = fixture.job(id).await;
    assert_eq!((job.state, job.retry_count, job.reason.as_deref()), (State::Failed, 0, Some("no such address")));
    assert!(job.ended_at.is_some());
    let attempts = fixture.queue.attempts(id).await.unwrap();
    assert_eq!((attempts.len(), attempts[0].ending), (1, Ending::HardFail));
}

#[tokio::test]
async fn a_commit_clears_the_reason_and_leaves_the_history() {
    let fixture = Fixture::with(SettingsChange::new().backoff(vec![Duration::ZERO])).await;
    let id = fixture.put(1).await;
    fail_next(&fixture, "at first").await;
    assert_eq!(fixture.reason(id).await, "at first");
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    next(&mut jobs).await.into_parts().1.commit().await.unwrap();
    let job = fixture.job(id).await;
    assert_eq!((job.state, job.reason, job.attempt, job.retry_count), (State::Finished, None, 2, 1));
    assert!(job.ended_at.is_some() && job.lease.is_none() && job.lease_expires_at.is_none());
    let attempts = fixture.queue.attempts(id).await.unwrap();
    assert_eq!((attempts.len(), attempts[0].reason.as_deref()), (1, Some("at first")));
}

#[tokio::test]
async fn the_settings_of_a_queue_decide_on_its_retries() {
    let settings = SettingsChange::new().backoff(vec![MINUTE * 10, MINUTE * 30]).max_retries(3);
    let fixture = Fixture::with(settings).await;
    let id = fixture.put(1).await;
    for minutes in [10, 30, 30] {
        fail_next(&fixture, "again").await;
        assert_about(wait(&fixture.job(id).await), MINUTE * minutes);
        make_ready(&fixture, id);
    }
    fail_next(&fixture, "enough").await;
    assert_eq!(fixture.state(id).await, State::Failed);
}

#[tokio::test]
async fn a_jobs_own_retries_and_delays_win_over_its_queues() {
    let fixture = Fixture::with(SettingsChange::new()).await;
    let options = EnqueueOptions::default().max_retries(2).backoff(vec![MINUTE * 7]);
    let id = fixture.put_with(1, options).await;
    assert_eq!(fixture.job(id).await.max_retries, 2);
    for _ in 0..2 {
        fail_next(&fixture, "again").await;
        assert_about(wait(&fixture.job(id).await), MINUTE * 7);
        make_ready(&fixture, id);
    }
    fail_next(&fixture, "enough").await;
    assert_eq!(fixture.state(id).await, State::Failed);

    let never = fixture.put_with(2, EnqueueOptions::default().max_retries(0)).await;
    fail_next(&fixture, "once").await;
    let job = fixture.job(never).await;
    assert_eq!((job.state, job.retry_count, job.attempt), (State::Failed, 1, 1));
}

#[tokio::test]
async fn reaping_follows_the_same_table() {
    let settings = SettingsChange::new().lease(Duration::from_millis(100)).backoff(vec![MINUTE * 10]).max_retries(1);
    let fixture = Fixture::with(settings).await;
    let id = fixture.put(1).await;
    let own = fixture.put_with(2, EnqueueOptions::default().max_retries(0)).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", pm_tests::unattended());
    let taken = pm_tests::take(&mut jobs, 2).await;
    let mut reaped = 0;
    eventually("both are reaped", TIMEOUT, async || {
        reaped += fixture.queue.reap().await.expect("the reap succeeds").reaped;
        reaped == 2
    })
    .await;
    let job = fixture.job(id).await;
    assert_eq!((job.state, job.retry_count, job.reason.as_deref()), (State::Pending, 1, Some("lease expired")));
    assert_about(wait(&job), MINUTE * 10);
    let job = fixture.job(own).await;
    assert_eq!((job.state, job.reason.as_deref()), (State::Failed, Some("lease expired")));
    assert!(job.ended_at.is_some());
    let attempts = fixture.queue.attempts(own).await.unwrap();
    assert_eq!((attempts.len(), attempts[0].ending, attempts[0].attempt), (1, Ending::Reap, 1));
    drop(taken);
}

#[tokio::test]
async fn a_release_keeps_position_and_retry_count_and_records_no_attempt() {
    let fixture = Fixture::new().await;
    let id = fixture.put(1).await;
    let position = fixture.number("select seq from pm.job");
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let ack = next(&mut jobs).await.into_parts().1;
    drop(jobs);
    ack.release().await.unwrap();
    let job = fixture.job(id).await;
    assert_eq!((job.state, job.retry_count, job.attempt, job.reason), (State::Pending, 0, 0, None));
    assert_eq!((job.lease, job.lease_expires_at), (None, None));
    assert_eq!(fixture.number("select seq from pm.job"), position);
    assert!(fixture.queue.attempts(id).await.unwrap().is_empty());
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    assert_eq!(next(&mut jobs).await.metadata().attempt, 1, "the release undid the attempt");
}

#[tokio::test]
async fn jitter_scatters_the_delays_within_its_bounds() {
    let settings = SettingsChange::new().backoff(vec![MINUTE * 100]).jitter_percent(50);
    let fixture = Fixture::with(settings).await;
    fixture.put_many(40).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    for job in pm_tests::take(&mut jobs, 40).await {
        job.into_parts().1.soft_fail("again").await.unwrap();
    }
    assert_scattered(&fixture);
}

/// The database adds the jitter here, from the reaper's seed: the reaper does not know the jobs in advance.
#[tokio::test]
async fn jitter_scatters_the_delays_of_the_reaped_too() {
    let settings = SettingsChange::new().backoff(vec![MINUTE * 100]).jitter_percent(50);
    let fixture = Fixture::with(settings.lease(Duration::from_secs(1))).await;
    fixture.put_many(40).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let taken = pm_tests::take(&mut jobs, 40).await;
    let reaped = async || {
        fixture.queue.reap().await.expect("the reap succeeds");
        fixture.number("select count(*) from pm.job where reason = 'lease expired'") == 40
    };
    eventually("all are reaped", TIMEOUT, reaped).await;
    assert_scattered(&fixture);
    drop(taken);
}

/// Jobs that fail together, because something they all need is down, are not retried together.
#[tokio::test]
async fn the_first_retries_are_spread_over_two_seconds_by_default() {
    let fixture = Fixture::new().await;
    fixture.put_many(100).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    for job in pm_tests::take(&mut jobs, 100).await {
        job.into_parts().1.soft_fail("the service is down").detach();
    }
    fixture.queue.close().await;
    assert_spread_over_two_seconds(&fixture);
}

/// So are those of jobs whose worker died.
#[tokio::test]
async fn the_first_retries_of_the_reaped_are_spread_over_two_seconds_too() {
    let fixture = Fixture::new().await;
    let lease = SettingsChange::new().lease(Duration::from_secs(1));
    fixture.queue.set_queue_settings("tasks", lease).await.unwrap();
    fixture.put_many(100).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let taken = pm_tests::take(&mut jobs, 100).await;
    // A stream would promote the jobs when they are due.
    drop(jobs);
    let reaped = async || {
        fixture.queue.reap().await.expect("the reap succeeds");
        fixture.number("select count(*) from pm.job where reason = 'lease expired'") == 100
    };
    eventually("all are reaped", TIMEOUT, reaped).await;
    assert_spread_over_two_seconds(&fixture);
    drop(taken);
}

/// Asserts that 100 jobs have failed once and are retried within 2 s, in either second at least 20 of them.
fn assert_spread_over_two_seconds(fixture: &Fixture) {
    assert_eq!(fixture.number("select count(*) from pm.job where retry_count = 1"), 100);
    // A job without a delay is ready at once and has no due time.
    let within =
        "from pm.job join pm.attempt on job_id = id where coalesce(run_at, attempt.ended_at) - attempt.ended_at";
    assert_eq!(fixture.number(&format!("select count(*) {within} between '0' and '2 s'")), 100);
    for second in ["between '0' and '1 s'", "between '1 s' and '2 s'"] {
        assert!(fixture.number(&format!("select count(*) {within} {second}")) > 20, "{second}");
    }
}

/// Asserts that 40 delays of 100 min with 50 % jitter are within bounds and spread out.
fn assert_scattered(fixture: &Fixture) {
    let waits = fixture.column("select extract(epoch from run_at - now())::int8 / 60 from pm.job order by 1");
    let minutes: Vec<i64> = waits.iter().map(|wait| wait.parse().unwrap()).collect();
    assert!(minutes.len() == 40 && minutes.iter().all(|wait| (99..=150).contains(wait)), "{minutes:?}");
    let spread = minutes.last().unwrap() - minutes[0];
    assert!(spread > 10, "40 random delays all within {spread} min of each other");
}

#[tokio::test]
async fn settings_are_changed_one_by_one_or_as_a_whole() {
    let Fixture { queue, database: _kept } = Fixture::new().await;
    assert_eq!(queue.queue_settings("tasks").await.unwrap(), QueueSettings::default());
    let lease = Duration::from_secs(90);
    let after = queue.set_queue_settings("tasks", SettingsChange::new().lease(lease)).await.unwrap();
    assert_eq!((after.lease, &after.backoff), (lease, &Backoff::default()));
    let retain = Some(MINUTE * 60);
    let after = queue.set_queue_settings("tasks", SettingsChange::new().retain(retain)).await.unwrap();
    assert_eq!((after.lease, after.retain), (lease, retain));
    assert_eq!(queue.queue_settings("tasks").await.unwrap(), after);
    queue.set_queue_settings("tasks", QueueSettings::default()).await.unwrap();
    assert_eq!(queue.queue_settings("tasks").await.unwrap(), QueueSettings::default());
}

#[tokio::test]
async fn a_running_stream_takes_up_changed_settings() {
    let fixture = Fixture::new().await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", pm_tests::unattended().prefetch(1));
    fixture.put(1).await;
    next(&mut jobs).await.into_parts().1.commit().await.unwrap();
    let settings = SettingsChange::new().max_retries(0).lease(Duration::from_secs(77));
    fixture.queue.set_queue_settings("tasks", settings).await.unwrap();
    let id = fixture.put(2).await;
    let ack = next(&mut jobs).await.into_parts().1;
    let job = fixture.job(id).await;
    let left = Duration::from_micros((job.lease_expires_at.unwrap().unix_us() - job.read_at.unix_us()).unsigned_abs());
    assert!(left <= Duration::from_secs(77) && left > Duration::from_secs(40), "{left:?}");
    ack.soft_fail("no retry is left").await.unwrap();
    assert_eq!(fixture.state(id).await, State::Failed);
}
