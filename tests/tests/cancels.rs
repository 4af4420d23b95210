//! Cancelling jobs on a real Postgres: whose lease ends how, and how soon a handler learns of it.

use pm_driver_tokio_postgres::{
    BulkAction, Change, ConnectOptions, Ending, EnqueueOptions, ErrorKind, InitialState, JobAck, JobStream,
    Precondition, RunAt, SettingsChange, State, StreamOptions,
};
use pm_tests::{Direct, Fixture, TIMEOUT, eventually, next, unattended, within};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);

fn patient() -> StreamOptions {
    StreamOptions::default().poll(HOUR, HOUR).idle_poll(HOUR)
}

#[tokio::test]
async fn a_waiting_job_that_is_cancelled_has_failed_and_frees_its_key() {
    let fixture = Fixture::new().await;
    let options = [
        EnqueueOptions::default().key("k"),
        EnqueueOptions::default().run_at(RunAt::In(HOUR)),
        EnqueueOptions::default().initial_state(InitialState::Paused),
    ];
    for options in options {
        let id = fixture.put_with(1, options).await;
        assert_eq!(fixture.queue.cancel_jobs(&[id], "no longer wanted").await.unwrap(), 1);
        let job = fixture.job(id).await;
        assert_eq!((job.state, job.reason.as_deref()), (State::Failed, Some("no longer wanted")));
        assert!(job.cancelled_at.is_some() && job.run_at.is_none());
        assert_eq!(fixture.queue.cancel_jobs(&[id], "again").await.unwrap(), 0, "it has ended");
    }
    let again = fixture.put_with(2, EnqueueOptions::default().key("k")).await;
    assert_eq!(fixture.state(again).await, State::Pending, "the key is free");
}

/// Has a job run in another process, as it were: its worker has its own handle, listens, and polls once an hour.
async fn running_elsewhere(fixture: &Fixture) -> (JobAck, JobStream<u64>) {
    fixture.put(1).await;
    let worker = fixture.another(ConnectOptions::default()).await;
    let mut jobs = worker.try_stream_jobs_with::<u64>("tasks", patient());
    let ack = next(&mut jobs).await.into_parts().1;
    eventually("the worker listens", TIMEOUT, async || worker.is_listening()).await;
    (ack, jobs)
}

#[tokio::test]
async fn a_running_handler_learns_of_a_cancel_by_another_process() {
    let fixture = Fixture::new().await;
    let (ack, _jobs) = running_elsewhere(&fixture).await;
    let id = ack.id();
    assert_eq!(fixture.queue.cancel_jobs(&[id], "no longer wanted").await.unwrap(), 1);
    within("the handler learns of it", ack.cancelled()).await;
    assert_eq!(fixture.state(id).await, State::InProgress, "it may clean up");
    ack.commit().await.unwrap();
    assert_eq!(fixture.state(id).await, State::Finished, "it may even finish");
}

/// The job is on a queue by now that its worker does not follow.
#[tokio::test]
async fn a_running_handler_learns_of_a_cancel_after_its_job_was_moved() {
    let fixture = Fixture::new().await;
    fixture.queue.create_queue("other", false).await.unwrap();
    let (ack, _jobs) = running_elsewhere(&fixture).await;
    let id = ack.id();
    assert_eq!(fixture.queue.move_jobs(&[id], "other").await.unwrap(), 1);
    assert_eq!(fixture.queue.cancel_jobs(&[id], "no longer wanted").await.unwrap(), 1);
    within("the handler learns of it", ack.cancelled()).await;
}

/// What takes a job from its worker: the worker could otherwise run beside the job's next attempt for minutes.
#[tokio::test]
async fn a_running_handler_learns_at_once_that_an_operator_has_taken_its_job() {
    let actions = [
        BulkAction::Finish,
        BulkAction::Fail { reason: "enough".to_owned() },
        BulkAction::Restart { force: true },
        BulkAction::Delete,
        BulkAction::Cancel { reason: "no longer wanted".to_owned(), force: true },
    ];
    for action in actions {
        let fixture = Fixture::new().await;
        let (ack, _jobs) = running_elsewhere(&fixture).await;
        let id = ack.id();
        let report = fixture.queue.change_jobs(&action, &[id], &Precondition::default()).await.unwrap();
        assert_eq!(report.changes(), [Change::Changed], "{action:?}");
        within("the handler learns of it", ack.lost()).await;
        drop(ack);
    }
}

#[tokio::test]
async fn without_notifications_a_handler_learns_of_a_cancel_by_polling() {
    let fixture = Fixture::new().await;
    let id = fixture.put(1).await;
    let worker = fixture.another(ConnectOptions::default()).await;
    let mut jobs = worker.try_stream_jobs_with::<u64>("tasks", StreamOptions::default().listen(false));
    let ack = next(&mut jobs).await.into_parts().1;
    assert_eq!(fixture.queue.cancel_jobs(&[id], "no longer wanted").await.unwrap(), 1);
    within("the handler learns of it", ack.cancelled()).await;
    ack.release().await.unwrap();
    assert_eq!(fixture.state(id).await, State::Failed);
}

#[tokio::test]
async fn a_cancelled_job_is_never_retried_however_its_lease_ends() {
    type Settle = fn(JobAck) -> pm_driver_tokio_postgres::Settling;
    let endings: [(&str, Option<Settle>); 7] = [
        ("soft fail", Some(|ack| ack.soft_fail("stopped"))),
        ("soft fail with a delay", Some(|ack| ack.soft_fail_after(HOUR, "stopped"))),
        ("hard fail", Some(|ack| ack.hard_fail("stopped"))),
        ("release", Some(JobAck::release)),
        ("snooze", Some(|ack| ack.snooze(HOUR))),
        ("unreadable", Some(|ack| ack.unreadable("stopped"))),
        ("reap", None),
    ];
    for (name, settle) in endings {
        let fixture = Fixture::with(SettingsChange::new().backoff(vec![Duration::ZERO])).await;
        let id = fixture.put_with(1, EnqueueOptions::default().key("k")).await;
        let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
        let ack = next(&mut jobs).await.into_parts().1;
        fixture.queue.cancel_jobs(&[id], "no longer wanted").await.unwrap();
        match settle {
            Some(settle) => settle(ack).await.unwrap_or_else(|error| panic!("{name}: {error}")),
            None => {
                fixture.database.execute("update pm.job set lease_expires_at = now()").unwrap();
                assert_eq!(fixture.queue.reap().await.unwrap().reaped, 1);
                drop(ack);
            }
        }
        drop(jobs);
        let job = fixture.job(id).await;
        assert_eq!((job.state, job.reason.as_deref()), (State::Failed, Some("no longer wanted")), "{name}");
        let attempts = fixture.queue.attempts(id).await.unwrap();
        let endings: Vec<_> = attempts.iter().map(|attempt| attempt.ending).collect();
        assert_eq!(endings, [Ending::Cancel], "{name}");
        fixture.put_with(2, EnqueueOptions::default().key("k")).await;
        assert_eq!(fixture.queue.restart_jobs(&[id], false).await.unwrap(), 0, "{name}: its key is free and taken");
        fixture.database.execute("delete from pm.job where state = 0").unwrap();
        assert_eq!(fixture.queue.restart_jobs(&[id], false).await.unwrap(), 1, "{name}");
        let job = fixture.job(id).await;
        assert_eq!((job.state, job.cancelled_at, job.cancel_reason), (State::Pending, None, None), "{name}");
    }
}

#[tokio::test]
async fn a_forced_cancel_takes_the_lease_at_once() {
    let fixture = Fixture::new().await;
    let id = fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let ack = next(&mut jobs).await.into_parts().1;
    let cancel = |force| BulkAction::Cancel { reason: "no longer wanted".to_owned(), force };
    let anything = Precondition::default();
    let requested = fixture.queue.change_jobs(&cancel(false), &[id], &anything).await.unwrap();
    assert_eq!(requested.changes(), [Change::Requested]);
    let forced = fixture.queue.change_jobs(&cancel(true), &[id], &anything).await.unwrap();
    assert_eq!(forced.changes(), [Change::Changed]);
    assert_eq!(fixture.state(id).await, State::Failed);
    assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

/// A claim's reply is lost, its job is cancelled before the claim is released.
#[tokio::test]
async fn a_job_of_a_lost_claim_that_is_cancelled_does_not_come_back() {
    let fixture = Fixture::new().await;
    let id = fixture.put(1).await;
    let claim = "update pm.job set state = 1, lease = 77, lease_expires_at = now() + interval '1 hour', attempt = 1";
    fixture.database.execute(claim).unwrap();
    fixture.database.execute("insert into pm.claim_frontier (queue_id, priority, seq) values (1, 0, 1000)").unwrap();
    fixture.queue.cancel_jobs(&[id], "no longer wanted").await.unwrap();
    let mut direct = Direct::to(&fixture.database.url()).await;
    assert_eq!(direct.run(pm_core::op::ReleaseClaim { lease: 77 }).await, 1);
    let job = fixture.job(id).await;
    assert_eq!((job.state, job.reason.as_deref()), (State::Failed, Some("no longer wanted")));
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let other = fixture.put(2).await;
    assert_eq!(next(&mut jobs).await.id(), other);
}
