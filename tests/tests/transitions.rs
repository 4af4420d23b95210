//! The transition table, checked on a real database: every state and every event, with the real operation.

use pm_core::{Event, State};
use pm_driver_tokio_postgres::{
    BulkAction, EnqueueOptions, ErrorKind, InitialState, JobAck, Precondition, SettingsChange, Uuid,
};
use pm_tests::{Fixture, TIMEOUT, eventually, next, unattended, within};
use std::time::Duration;

/// How a job is paused: with its queue, or individually.
#[derive(Clone, Copy, PartialEq)]
enum Paused {
    WithQueue,
    Individually,
}

/// A database with one job.
struct Harness {
    fixture: Fixture,
    id: Uuid,
    /// The ack of the job's current or last lease, if it was ever claimed.
    ack: Option<JobAck>,
}

impl Harness {
    /// Brings a job into `state`; it has no retry left for an event that exhausts its retries.
    async fn set(state: State, event: Event, paused: Paused) -> Harness {
        let retries = if matches!(event, Event::LastSoftFail | Event::LastReap) { 0 } else { 3 };
        let quick = SettingsChange::new().backoff(vec![Duration::ZERO]).max_retries(retries);
        let fixture = Fixture::with(quick).await;
        let individually = state == State::Paused && paused == Paused::Individually;
        let initial = if individually { InitialState::Paused } else { InitialState::Auto };
        let id = fixture.put_with(1, EnqueueOptions::default().initial_state(initial)).await;
        if event == Event::LastUnreadable {
            fixture.database.execute("update pm.job set unreadable_since = now() - interval '24 h'").unwrap();
        }
        let mut harness = Harness { fixture, id, ack: None };
        if matches!(state, State::InProgress | State::Finished | State::Failed) {
            let mut jobs = harness.fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended().listen(false));
            harness.ack = Some(next(&mut jobs).await.into_parts().1);
        }
        match state {
            State::Finished => assert_eq!(harness.fixture.queue.finish_jobs(&[id]).await.unwrap(), 1),
            State::Failed => assert_eq!(harness.fixture.queue.fail_jobs(&[id], "given up").await.unwrap(), 1),
            State::Paused if !individually => assert_eq!(harness.fixture.queue.pause_queue("tasks").await.unwrap(), 1),
            _ => {}
        }
        assert_eq!(harness.fixture.state(id).await, state);
        harness
    }

    /// Returns the job's row.
    fn row(&self) -> Vec<String> {
        self.fixture.column(&format!("select job::text from pm.job where id = '{}'", self.id))
    }

    /// Settles the job with its current or an old ack; returns whether the settlement was applied.
    async fn settle(&mut self, verdict: impl FnOnce(JobAck) -> pm_driver_tokio_postgres::Settling) -> bool {
        match self.ack.take() {
            Some(ack) => match verdict(ack).await {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
                    false
                }
            },
            // The job was never leased, so there is no ack.
            None => false,
        }
    }

    /// Runs the real operation of an event; returns whether it was accepted.
    async fn run(&mut self, event: Event) -> bool {
        let (queue, ids) = (self.fixture.queue.clone(), [self.id]);
        match event {
            Event::Claim => {
                let fetched = queue.fetch_job::<u64>(self.id).await.unwrap();
                let claimed = fetched.is_some();
                self.ack = fetched.map(|job| job.into_parts().1).or(self.ack.take());
                claimed
            }
            Event::Commit => self.settle(JobAck::commit).await,
            Event::SoftFail | Event::LastSoftFail => self.settle(|ack| ack.soft_fail("broken")).await,
            Event::HardFail => self.settle(|ack| ack.hard_fail("broken")).await,
            Event::Release => self.settle(JobAck::release).await,
            Event::Snooze => self.settle(|ack| ack.snooze(Duration::from_secs(60))).await,
            Event::Unreadable | Event::LastUnreadable => self.settle(|ack| ack.unreadable("what is this?")).await,
            Event::Extend => match &mut self.ack {
                Some(ack) => ack.refresh_lock().await.is_ok(),
                None => false,
            },
            Event::Reap | Event::LastReap => {
                let expire = "update pm.job set lease_expires_at = now() where lease_expires_at is not null";
                self.fixture.database.execute(expire).unwrap();
                queue.reap().await.unwrap().reaped == 1
            }
            Event::Pause => queue.pause_queue("tasks").await.unwrap() == 1,
            Event::Resume => queue.resume_queue("tasks").await.unwrap() == 1,
            Event::Restart => queue.restart_jobs(&ids, false).await.unwrap() == 1,
            Event::ForceRestart => queue.restart_jobs(&ids, true).await.unwrap() == 1,
            Event::Done => queue.finish_jobs(&ids).await.unwrap() == 1,
            Event::Fail => queue.fail_jobs(&ids, "by an operator").await.unwrap() == 1,
            Event::Expire => {
                // For a job that has an attempt behind it, the time to expire means nothing any more.
                let overdue = "update pm.job set expires_at = now() where state <> 1";
                self.fixture.database.execute(overdue).unwrap();
                queue.reap().await.unwrap();
                self.fixture.state(self.id).await == State::Failed && self.ack.is_none()
            }
            Event::Cancel => queue.cancel_jobs(&ids, "no longer wanted").await.unwrap() == 1,
            Event::ForceCancel => {
                let cancel = BulkAction::Cancel { reason: "no longer wanted".to_owned(), force: true };
                queue.change_jobs(&cancel, &ids, &Precondition::default()).await.unwrap().changed() == 1
            }
            Event::EndCancelled => {
                self.fixture.database.execute("update pm.job set cancelled_at = now() where state = 1").unwrap();
                self.settle(|ack| ack.soft_fail("stopped")).await
            }
        }
    }
}

async fn check(state: State, event: Event, paused: Paused) {
    let mut harness = Harness::set(state, event, paused).await;
    let before = harness.row();
    let accepted = harness.run(event).await;
    let shown = harness.fixture.state(harness.id).await;
    let name = format!("{state} and {event:?}");
    match state.after(event) {
        // A job that returns to pending while its queue is paused is shown as paused.
        Some(State::Pending) if state == State::Paused && paused == Paused::WithQueue && event != Event::Resume => {
            assert_eq!((accepted, shown), (true, State::Paused), "{name}");
        }
        Some(after) => assert_eq!((accepted, shown), (true, after), "{name}"),
        // Pausing a queue counts the jobs that are paused already; they stay paused.
        None if (state, event) == (State::Paused, Event::Pause) => assert_eq!((before, shown), (harness.row(), state)),
        None => assert_eq!((accepted, before, shown), (false, harness.row(), state), "{name} should change nothing"),
    }
    // Closing waits for unsettled acks.
    drop(harness.ack.take());
    within("the end", harness.fixture.queue.close()).await;
}

async fn check_all_of(state: State) {
    for event in Event::ALL {
        check(state, event, Paused::WithQueue).await;
    }
}

#[tokio::test]
async fn a_pending_job_follows_the_table() {
    check_all_of(State::Pending).await;
}

#[tokio::test]
async fn a_job_of_a_paused_queue_follows_the_table() {
    check_all_of(State::Paused).await;
}

#[tokio::test]
async fn an_individually_paused_job_follows_the_table() {
    for event in Event::ALL {
        check(State::Paused, event, Paused::Individually).await;
    }
}

#[tokio::test]
async fn a_job_in_progress_follows_the_table() {
    check_all_of(State::InProgress).await;
}

#[tokio::test]
async fn a_finished_job_follows_the_table() {
    check_all_of(State::Finished).await;
}

#[tokio::test]
async fn a_failed_job_follows_the_table() {
    check_all_of(State::Failed).await;
}

#[tokio::test]
async fn a_dropped_ack_is_a_soft_fail_in_the_table_too() {
    for event in [Event::SoftFail, Event::LastSoftFail] {
        let mut harness = Harness::set(State::InProgress, event, Paused::WithQueue).await;
        drop(harness.ack.take());
        let after = State::InProgress.after(event).unwrap();
        eventually("the drop is applied", TIMEOUT, async || harness.fixture.state(harness.id).await == after).await;
        assert_eq!(harness.fixture.job(harness.id).await.retry_count, 1);
    }
}

#[test]
fn every_event_is_listed() {
    // A new event breaks this match; add it to the list too.
    for event in Event::ALL {
        match event {
            Event::Claim | Event::Commit | Event::SoftFail | Event::LastSoftFail | Event::HardFail => {}
            Event::Release
            | Event::Snooze
            | Event::Extend
            | Event::Reap
            | Event::LastReap
            | Event::Pause
            | Event::Resume => {}
            Event::Restart | Event::ForceRestart | Event::Done | Event::Fail => {}
            Event::Unreadable | Event::LastUnreadable => {}
            Event::Expire | Event::Cancel | Event::ForceCancel | Event::EndCancelled => {}
        }
    }
}
