//! Jobs that must start within some time, and attempts that may take only so long.

use futures_util::FutureExt;
use pm_driver_tokio_postgres::{
    Ending, EnqueueOptions, ErrorKind, InTransaction, InitialState, JobAck, JobContext, KeyHold, OnConflict, Outcome,
    RunAt, RunOptions, Schedule, SettingsChange, State, StreamOptions, Timestamp,
};
use pm_tests::{Fixture, TIMEOUT, eventually, next, take, unattended, within};
use std::time::Duration;
use tokio_postgres::NoTls;

const HOUR: Duration = Duration::from_secs(3_600);

fn expiring() -> EnqueueOptions {
    EnqueueOptions::default().expires_in(HOUR)
}

/// Lets the time of all jobs to expire pass.
fn pass(fixture: &Fixture) {
    fixture.database.execute("update pm.job set expires_at = now() where expires_at is not null").unwrap();
}

#[tokio::test]
async fn a_job_that_no_worker_has_started_in_time_fails_and_frees_its_key() {
    let fixture = Fixture::new().await;
    let waits =
        [expiring().key("k"), expiring().run_at(RunAt::In(HOUR / 2)), expiring().initial_state(InitialState::Paused)];
    let mut ids = Vec::new();
    for options in waits {
        ids.push(fixture.put_with(1, options).await);
    }
    let patient = fixture.put(2).await;
    assert!(fixture.job(ids[0]).await.expires_at.is_some());
    assert_eq!(fixture.queue.reap().await.unwrap().reaped, 0, "it is not time");
    pass(&fixture);
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended().reaper(false));
    let ack = next(&mut jobs).await.into_parts().1;
    drop(jobs);
    assert_eq!(ack.id(), patient, "an expired job is not handed out, even before it is found to have failed");
    assert!(fixture.queue.fetch_job::<u64>(ids[0]).await.unwrap().is_none());
    fixture.queue.reap().await.unwrap();
    for id in &ids {
        let job = fixture.job(*id).await;
        assert_eq!((job.state, job.reason.as_deref(), job.attempt), (State::Failed, Some("expired"), 0));
    }
    assert_eq!(fixture.state(fixture.put_with(3, expiring().key("k")).await).await, State::Pending);
    assert_eq!(fixture.queue.restart_jobs(&ids[1..], false).await.unwrap(), 2);
    assert_eq!(fixture.job(ids[1]).await.expires_at, None, "a restarted job has all the time");
    ack.commit().await.unwrap();
}

#[tokio::test]
async fn a_job_that_has_started_does_not_expire_while_it_is_retried() {
    let fixture = Fixture::with(SettingsChange::new().backoff(vec![HOUR])).await;
    let (failed, snoozed) = (fixture.put_with(1, expiring()).await, fixture.put_with(2, expiring()).await);
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    next(&mut jobs).await.into_parts().1.soft_fail("later").await.unwrap();
    next(&mut jobs).await.into_parts().1.snooze(HOUR).await.unwrap();
    pass(&fixture);
    fixture.queue.reap().await.unwrap();
    for id in [failed, snoozed] {
        let job = fixture.job(id).await;
        assert_eq!((job.state, job.expires_at), (State::Pending, None));
    }
}

#[tokio::test]
async fn a_job_that_was_claimed_and_released_may_still_expire() {
    let fixture = Fixture::new().await;
    let id = fixture.put_with(1, expiring()).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    next(&mut jobs).await.into_parts().1.release().await.unwrap();
    drop(jobs);
    assert_eq!(fixture.job(id).await.attempt, 0, "a release undoes the attempt");
    pass(&fixture);
    fixture.queue.reap().await.unwrap();
    assert_eq!(fixture.state(id).await, State::Failed);
}

#[tokio::test]
async fn jobs_that_have_ended_do_not_delay_the_expiry_of_others() {
    let fixture = Fixture::new().await;
    let jobs = (0..501).map(|n| (n, expiring()));
    fixture.queue.enqueue_many("tasks", jobs).await.unwrap();
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let commits = take(&mut jobs, 501).await.into_iter().map(|job| job.into_parts().1.commit());
    futures_util::future::try_join_all(commits).await.unwrap();
    let waits = fixture.put_with(1, expiring().initial_state(InitialState::Paused)).await;
    let passes = "update pm.job set expires_at = now() - case when paused then '0 s' else interval '1 s' end
                  where expires_at is not null";
    fixture.database.execute(passes).unwrap();
    let reaped = fixture.queue.reap().await.unwrap();
    assert_eq!((reaped.expired, fixture.state(waits).await), (1, State::Failed));
}

#[tokio::test]
async fn only_a_release_keeps_the_time_to_expire() {
    let fixture = Fixture::with(SettingsChange::new().backoff(vec![HOUR])).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let ways = ["commit", "result", "soft fail", "hard fail", "snooze", "cancel", "end", "reap", "release"];
    for way in ways {
        let id = fixture.put_with(1, expiring()).await;
        let ack = next(&mut jobs).await.into_parts().1;
        assert!(fixture.job(id).await.expires_at.is_some(), "it may be released");
        match way {
            "commit" => ack.commit().await.unwrap(),
            "result" => ack.commit_with(1).await.unwrap(),
            "soft fail" => ack.soft_fail("later").await.unwrap(),
            "hard fail" => ack.hard_fail("never").await.unwrap(),
            "snooze" => ack.snooze(HOUR).await.unwrap(),
            "cancel" => {
                fixture.queue.cancel_jobs(&[id], "no").await.unwrap();
                ack.release().await.unwrap();
            }
            "end" => assert_eq!(fixture.queue.fail_jobs(&[id], "no").await.unwrap(), 1),
            "reap" => {
                fixture.database.execute("update pm.job set lease_expires_at = now() where state = 1").unwrap();
                assert_eq!(fixture.queue.reap().await.unwrap().reaped, 1);
            }
            _ => {
                ack.release().await.unwrap();
                assert!(fixture.job(id).await.expires_at.is_some(), "it has not started");
                continue;
            }
        }
        assert_eq!(fixture.job(id).await.expires_at, None, "{way}");
    }
}

#[tokio::test]
async fn an_expired_job_is_not_shown_as_claimable() {
    let fixture = Fixture::with(SettingsChange::new().jitter_percent(0)).await;
    for _ in 0..5 {
        fixture.put_with(1, expiring()).await;
        fixture.put_with(1, expiring().run_at(RunAt::In(HOUR / 2))).await;
    }
    fixture.database.execute("update pm.job set run_at = now() where run_at is not null").unwrap();
    pass(&fixture);
    let head = async || fixture.queue.next_jobs("tasks", 10).await.unwrap().jobs;
    let oldest = async || fixture.queue.activity(HOUR).await.unwrap()[0].oldest_waiting;
    assert_eq!((head().await, oldest().await), (vec![], None));
    let ready = fixture.put(2).await;
    assert_eq!(head().await.iter().map(|job| job.id).collect::<Vec<_>>(), [ready]);
    assert!(oldest().await.is_some());
}

#[tokio::test]
async fn a_copy_has_its_own_time_to_expire_and_inherits_the_timeout() {
    let fixture = Fixture::new().await;
    let source = fixture.put_with(1, expiring().timeout(HOUR)).await;
    let copied = async |options| fixture.job(fixture.queue.copy_job(source, "tasks", options).await.unwrap()).await;
    let copy = copied(EnqueueOptions::default()).await;
    assert_eq!((copy.expires_at, copy.timeout), (None, Some(HOUR)));
    let copy = copied(expiring().timeout(HOUR / 2)).await;
    assert_eq!(copy.expires_at, Some(Timestamp::from_unix_us(copy.created_at.unix_us() + HOUR.as_micros() as i64)));
    assert_eq!(copy.timeout, Some(HOUR / 2));
}

/// An enqueue that finds the key of an expired job ends it, as the next reap would. It is not lost to it.
#[tokio::test]
async fn an_expired_job_keeps_no_other_out() {
    let fixture = Fixture::new().await;
    let (mut client, connection) = tokio_postgres::connect(&fixture.database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    for on_conflict in [OnConflict::Keep, OnConflict::Refuse, OnConflict::Replace] {
        for is_in_transaction in [false, true] {
            let old = fixture.put_with(1, expiring().key("k")).await;
            pass(&fixture);
            let options = EnqueueOptions::default().key("k").on_conflict(on_conflict);
            let new = if is_in_transaction {
                let transaction = client.transaction().await.unwrap();
                let inside = InTransaction(&transaction);
                let new = fixture.queue.enqueue_in(&inside, "tasks", 2u64, options).await.unwrap();
                transaction.commit().await.unwrap();
                new
            } else {
                fixture.put_with(2, options).await
            };
            assert_ne!(new, old, "{on_conflict:?}");
            let job = fixture.job(old).await;
            assert_eq!((job.state, job.reason.as_deref(), job.expires_at), (State::Failed, Some("expired"), None));
            assert_eq!(fixture.state(new).await, State::Pending);
            fixture.queue.delete_jobs(&[new]).await.unwrap();
        }
    }
    let held = fixture.put_with(1, expiring().key("k").key_hold(KeyHold::ForEver)).await;
    pass(&fixture);
    assert_eq!(fixture.put_with(2, EnqueueOptions::default().key("k")).await, held, "it would keep its key");
}

/// A stream finds an expired job by itself: it polls, and learns when the next one expires.
#[tokio::test]
async fn a_stream_fails_expired_jobs_by_itself() {
    let fixture = Fixture::new().await;
    fixture.queue.pause_queue("tasks").await.unwrap();
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", StreamOptions::default());
    let id = fixture.put_with(1, EnqueueOptions::default().expires_in(Duration::from_millis(300))).await;
    let drive = async { drop(next(&mut jobs).await) };
    let expires = eventually("it expires", TIMEOUT, async || fixture.state(id).await == State::Failed);
    tokio::select! {
        () = drive => panic!("a paused queue hands out no job"),
        () = expires => {}
    }
}

#[tokio::test]
async fn the_timeout_of_a_job_precedes_that_of_its_queue_and_that_of_the_runner() {
    async fn sleep(_: u64, _: JobContext) -> Result<Outcome, String> {
        tokio::time::sleep(HOUR).await;
        Ok(Outcome::Done)
    }
    let quick = Some(Duration::from_millis(200));
    let fixture = Fixture::with(SettingsChange::new().max_retries(0).timeout(quick)).await;
    let of_queue = fixture.put(1).await;
    let own = fixture.put_with(2, EnqueueOptions::default().timeout(Duration::from_millis(300))).await;
    assert_eq!(fixture.job(of_queue).await.timeout, quick);
    let grace = Duration::from_millis(50);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let options = RunOptions::new().timeout(HOUR).grace(grace).drain(grace).stop_when(stopped.map(|_| ()));
    let ended = async {
        let both = async || fixture.jobs_in(State::Failed) == 2;
        eventually("both time out", TIMEOUT, both).await;
        drop(stop);
    };
    let (result, ()) =
        within("the end", async { tokio::join!(fixture.queue.run("tasks", options, sleep), ended) }).await;
    result.unwrap();
    assert_eq!(fixture.reason(of_queue).await, "timed out after 200ms");
    assert_eq!(fixture.reason(own).await, "timed out after 300ms");
    let attempts = fixture.queue.attempts(own).await.unwrap();
    assert_eq!(attempts[0].ending, Ending::SoftFail);
}

#[tokio::test]
async fn the_lease_of_a_job_ends_30_s_after_its_timeout_at_the_latest() {
    const MINUTE: Duration = Duration::from_secs(60);
    let fixture = Fixture::with(SettingsChange::new().timeout(Some(MINUTE))).await;
    let check = async |mut ack: JobAck, most: Duration| {
        let before = fixture.job(ack.id()).await;
        let left_us = before.lease_expires_at.unwrap().unix_us() - before.read_at.unix_us();
        let left = Duration::from_micros(left_us.unsigned_abs());
        assert!(left <= most && left > most - Duration::from_secs(20), "{left:?} of {most:?}");
        assert!(ack.refresh_lock().await.unwrap() <= most);
        let after = fixture.job(ack.id()).await.lease_expires_at;
        assert_eq!(
            after == before.lease_expires_at,
            most < MINUTE * 20,
            "it is extended unless that is its latest end"
        );
        ack.commit().await.unwrap();
    };
    let timeout = |timeout| EnqueueOptions::default().timeout(timeout);
    let (of_queue, short, long) = (EnqueueOptions::default(), timeout(MINUTE * 2), timeout(HOUR));
    let cases = [(of_queue, MINUTE * 3 / 2), (short, MINUTE * 5 / 2), (long, MINUTE * 20)];
    for (options, most) in cases.clone() {
        let id = fixture.put_with(1, options).await;
        check(fixture.queue.fetch_job::<u64>(id).await.unwrap().unwrap().into_parts().1, most).await;
    }
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    for (options, most) in cases {
        fixture.put_with(1, options).await;
        check(next(&mut jobs).await.into_parts().1, most).await;
    }
}

#[tokio::test]
async fn bad_deadlines_are_refused() {
    let fixture = Fixture::new().await;
    let options = EnqueueOptions::default;
    for options in [
        options().expires_in(Duration::ZERO),
        options().expires_in(Duration::MAX),
        options().expires_in(HOUR).run_at(RunAt::In(HOUR * 2)),
        options().timeout(Duration::ZERO),
        options().timeout(Duration::MAX),
    ] {
        let error = fixture.queue.enqueue("tasks", 1u64, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    let zero = SettingsChange::new().timeout(Some(Duration::ZERO));
    let error = fixture.queue.set_queue_settings("tasks", zero).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("timeout"), "{error}");
    let schedule = Schedule::new("tasks", "* * * * *").options(expiring());
    let error = fixture.queue.set_schedule("s", schedule, 1u64).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("queue"), "{error}");
}
