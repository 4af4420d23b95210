//! The table of transitions against the real database: every state, every event, by its real operation.

use pm_core::{Event, State};
use pm_driver_tokio_postgres::{EnqueueOptions, ErrorKind, InitialState, JobAck, SettingsChange, Uuid};
use pm_tests::{Fixture, TIMEOUT, eventually, next, unattended, within};
use std::time::Duration;

/// How a job comes to be paused: with its queue, or by itself.
#[derive(Clone, Copy, PartialEq)]
enum Held {
    WithItsQueue,
    ByItself,
}

/// Whose word it is: the holder's of the lease the job has, or of one it had before.
struct Harness {
    fixture: Fixture,
    id: Uuid,
    /// The last holder's right to speak, if the job was ever claimed.
    ack: Option<JobAck>,
}

impl Harness {
    /// Brings a job into `state`; an event that gives up is its last retry's.
    async fn set(state: State, event: Event, held: Held) -> Harness {
        let retries = if matches!(event, Event::LastSoftFail | Event::LastReap) { 0 } else { 3 };
        let quick = SettingsChange::new().backoff(vec![Duration::ZERO]).max_retries(retries);
        let fixture = Fixture::with(quick).await;
        let by_itself = state == State::Paused && held == Held::ByItself;
        let initial = if by_itself { InitialState::Paused } else { InitialState::Auto };
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
            State::Paused if !by_itself => assert_eq!(harness.fixture.queue.pause_queue("tasks").await.unwrap(), 1),
            _ => {}
        }
        assert_eq!(harness.fixture.state(id).await, state);
        harness
    }

    /// Returns all that is stored of the job.
    fn row(&self) -> Vec<String> {
        self.fixture.column(&format!("select job::text from pm.job where id = '{}'", self.id))
    }

    /// Says a word as its holder, or as one whose lease is not the job's; returns whether it was heard.
    async fn say(&mut self, word: impl FnOnce(JobAck) -> pm_driver_tokio_postgres::Settling) -> bool {
        match self.ack.take() {
            Some(ack) => match word(ack).await {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
                    false
                }
            },
            // Nobody ever had a lease on it, so nobody can say a word.
            None => false,
        }
    }

    /// Lets an event happen by its real operation; returns whether it was accepted.
    async fn happen(&mut self, event: Event) -> bool {
        let (queue, ids) = (self.fixture.queue.clone(), [self.id]);
        match event {
            Event::Claim => {
                let fetched = queue.fetch_job::<u64>(self.id).await.unwrap();
                let claimed = fetched.is_some();
                self.ack = fetched.map(|job| job.into_parts().1).or(self.ack.take());
                claimed
            }
            Event::Commit => self.say(JobAck::commit).await,
            Event::SoftFail | Event::LastSoftFail => self.say(|ack| ack.soft_fail("broken")).await,
            Event::HardFail => self.say(|ack| ack.hard_fail("broken")).await,
            Event::Release => self.say(JobAck::release).await,
            Event::Unreadable | Event::LastUnreadable => self.say(|ack| ack.unreadable("what is this?")).await,
            Event::Extend => match &mut self.ack {
                Some(ack) => ack.refresh_lock().await.is_ok(),
                None => false,
            },
            Event::Reap | Event::LastReap => {
                let expire = "update pm.job set lease_expires_at = now() where lease_expires_at is not null";
                self.fixture.database.execute(expire).unwrap();
                queue.reap().await.unwrap().0 == 1
            }
            Event::Pause => queue.pause_queue("tasks").await.unwrap() == 1,
            Event::Resume => queue.resume_queue("tasks").await.unwrap() == 1,
            Event::Restart => queue.restart_jobs(&ids, false).await.unwrap() == 1,
            Event::ForceRestart => queue.restart_jobs(&ids, true).await.unwrap() == 1,
            Event::Done => queue.finish_jobs(&ids).await.unwrap() == 1,
            Event::Fail => queue.fail_jobs(&ids, "by an operator").await.unwrap() == 1,
        }
    }
}

async fn check(state: State, event: Event, held: Held) {
    let mut harness = Harness::set(state, event, held).await;
    let before = harness.row();
    let accepted = harness.happen(event).await;
    let shown = harness.fixture.state(harness.id).await;
    let name = format!("{state} and {event:?}");
    match state.after(event) {
        // A job that returns to pending while its queue is paused is shown as paused.
        Some(State::Pending) if state == State::Paused && held == Held::WithItsQueue && event != Event::Resume => {
            assert_eq!((accepted, shown), (true, State::Paused), "{name}");
        }
        Some(after) => assert_eq!((accepted, shown), (true, after), "{name}"),
        // A queue's pause counts what it holds, and a job that is held already is held still.
        None if (state, event) == (State::Paused, Event::Pause) => assert_eq!((before, shown), (harness.row(), state)),
        None => assert_eq!((accepted, before, shown), (false, harness.row(), state), "{name} should change nothing"),
    }
    // Closing waits for an ack in hand.
    drop(harness.ack.take());
    within("the end", harness.fixture.queue.close()).await;
}

async fn check_all_of(state: State) {
    for event in Event::ALL {
        check(state, event, Held::WithItsQueue).await;
    }
}

#[tokio::test]
async fn a_pending_job_goes_where_the_table_says() {
    check_all_of(State::Pending).await;
}

#[tokio::test]
async fn a_job_of_a_paused_queue_goes_where_the_table_says() {
    check_all_of(State::Paused).await;
}

#[tokio::test]
async fn a_job_paused_by_itself_goes_where_the_table_says() {
    for event in Event::ALL {
        check(State::Paused, event, Held::ByItself).await;
    }
}

#[tokio::test]
async fn a_job_in_progress_goes_where_the_table_says() {
    check_all_of(State::InProgress).await;
}

#[tokio::test]
async fn a_finished_job_goes_where_the_table_says() {
    check_all_of(State::Finished).await;
}

#[tokio::test]
async fn a_failed_job_goes_where_the_table_says() {
    check_all_of(State::Failed).await;
}

#[tokio::test]
async fn a_dropped_ack_is_a_soft_fail_in_the_table_too() {
    for event in [Event::SoftFail, Event::LastSoftFail] {
        let mut harness = Harness::set(State::InProgress, event, Held::WithItsQueue).await;
        drop(harness.ack.take());
        let after = State::InProgress.after(event).unwrap();
        eventually("the drop counts", TIMEOUT, async || harness.fixture.state(harness.id).await == after).await;
        assert_eq!(harness.fixture.job(harness.id).await.retry_count, 1);
    }
}

#[test]
fn every_event_is_listed() {
    // A new event breaks this match, and is to be added to the list.
    for event in Event::ALL {
        match event {
            Event::Claim | Event::Commit | Event::SoftFail | Event::LastSoftFail | Event::HardFail => {}
            Event::Release | Event::Extend | Event::Reap | Event::LastReap | Event::Pause | Event::Resume => {}
            Event::Restart | Event::ForceRestart | Event::Done | Event::Fail => {}
            Event::Unreadable | Event::LastUnreadable => {}
        }
    }
}
