//! Firing schedules.

use super::database::timestamp;
use super::rig::{Fault, Rig, at, ms, options};
use pm_core::machine::{Machine, WorkerOptions};
use pm_core::{Failure, StatementId};

const MINUTE_MS: u64 = 60_000;

/// Returns a rig with a schedule that fires every minute, 10 s before its first tick, whose worker polls rarely.
fn rig() -> Rig {
    let mut rig = Rig::new(WorkerOptions { poll_least: ms(600_000), poll_most: ms(600_000), ..options() });
    rig.now = at(50_000);
    rig.database.add_schedule("s", rig.now);
    rig
}

fn keys(name: &str, minutes: std::ops::RangeInclusive<u64>) -> Vec<String> {
    minutes.map(|minute| format!("{name}@1970-01-01T{:02}:{:02}:00Z", minute / 60, minute % 60)).collect()
}

#[test]
fn a_tick_is_fired_on_time_and_its_job_is_claimed() {
    let mut rig = rig();
    assert!(rig.next().is_none());
    rig.run_for(ms(10_200));
    let taken = rig.wait_next();
    assert_eq!(taken.job.columns.key.as_deref(), Some("s@1970-01-01T00:01:00Z"));
    assert_eq!(rig.database.fired("s"), keys("s", 1..=1));
    let sent = rig.times(StatementId::FireSchedules);
    assert!(sent[0] >= at(MINUTE_MS) && sent[0].since(at(MINUTE_MS)) < ms(100), "{sent:?}");
}

#[test]
fn each_tick_costs_three_statements() {
    let mut rig = rig();
    rig.run_for(ms(3_600_000));
    assert_eq!(rig.database.fired("s"), keys("s", 1..=60));
    let fires = rig.sent(StatementId::FireSchedules).count();
    let looks = rig.sent(StatementId::DueSchedules).count();
    assert_eq!(fires, 60);
    assert!((120..=125).contains(&looks), "{looks} looks");
}

#[test]
fn missed_ticks_are_fired_together() {
    let mut rig = rig();
    rig.now = at(10 * MINUTE_MS + 1);
    rig.run_for(ms(500));
    assert_eq!(rig.database.fired("s"), keys("s", 1..=10));
    assert_eq!(rig.sent(StatementId::FireSchedules).count(), 1);
}

#[test]
fn no_tick_is_fired_twice_after_a_lost_reply() {
    for statement in [StatementId::DueSchedules, StatementId::FireSchedules] {
        let mut rig = rig();
        rig.fault(statement, Fault::LosesReply, 1);
        rig.run_for(ms(15_000));
        assert_eq!(rig.database.fired("s"), keys("s", 1..=1));
        rig.run_for(ms(MINUTE_MS));
        assert_eq!(rig.database.fired("s"), keys("s", 1..=2));
    }
}

#[test]
fn a_failed_firing_is_retried() {
    let mut rig = rig();
    rig.fault(StatementId::FireSchedules, Fault::Fails(Failure::reported("55P03", None, "locked")), 5);
    rig.run_for(ms(20_000));
    assert_eq!(rig.database.fired("s"), keys("s", 1..=1));
    assert_eq!(rig.failed, []);
}

#[test]
fn two_workers_fire_a_tick_once() {
    let mut rig = rig();
    rig.unanswered.insert(StatementId::FireSchedules);
    rig.run_for(ms(10_500));
    let index = rig.index_of(StatementId::FireSchedules).expect("it is about to fire");
    // In the meantime another worker has fired it, or an operator has changed the schedule.
    rig.database.change_schedule(1, |schedule| schedule.next_tick = Some(timestamp(at(2 * MINUTE_MS))));
    rig.answer(index);
    rig.unanswered.clear();
    rig.run_for(ms(1_000));
    assert_eq!(rig.database.fired("s"), [""; 0]);
    assert!(rig.sent(StatementId::DueSchedules).count() <= 3, "a busy loop");
    rig.run_for(ms(MINUTE_MS));
    assert_eq!(rig.database.fired("s"), keys("s", 2..=2));
}

#[test]
fn a_firing_computed_before_a_change_of_the_schedule_does_nothing() {
    let mut rig = rig();
    rig.unanswered.insert(StatementId::FireSchedules);
    rig.run_for(ms(10_500));
    let index = rig.index_of(StatementId::FireSchedules).expect("it is about to fire");
    rig.database.change_schedule(1, |schedule| schedule.revision += 1);
    rig.answer(index);
    assert_eq!(rig.database.fired("s"), [""; 0]);
    rig.unanswered.clear();
    rig.run_for(ms(1_000));
    assert_eq!(rig.database.fired("s"), keys("s", 1..=1), "it is computed again");
}

#[test]
fn a_worker_that_does_not_reap_does_not_fire() {
    let mut rig = Rig::new(WorkerOptions { reaps: false, ..options() });
    rig.database.add_schedule("s", rig.now);
    rig.run_for(ms(2 * MINUTE_MS));
    assert_eq!(rig.sent(StatementId::DueSchedules).count(), 0);
}

#[test]
fn an_unreadable_schedule_is_skipped_without_a_busy_loop() {
    let mut rig = rig();
    rig.database.change_schedule(1, |schedule| schedule.zone = "Europe/Atlantis".to_owned());
    rig.database.add_schedule("other", rig.now);
    rig.run_for(ms(5 * MINUTE_MS));
    assert_eq!((rig.database.fired("other"), rig.database.fired("s")), (keys("other", 1..=5), Vec::new()));
    // Every poll reports it again.
    let polls = rig.sent(StatementId::Poll).count();
    assert!(rig.sent(StatementId::DueSchedules).count() <= polls + 20, "{polls} polls");
    assert_eq!(
        rig.database.schedule(1).next_tick,
        Some(timestamp(at(MINUTE_MS))),
        "a newer version may be able to read it"
    );
}

#[test]
fn hundreds_of_unreadable_schedules_do_not_keep_others_from_firing() {
    let mut rig = rig();
    for n in 0..250 {
        let unreadable = rig.database.add_schedule(&format!("unreadable {n}"), rig.now);
        rig.database.change_schedule(unreadable, |schedule| schedule.zone = "Europe/Atlantis".to_owned());
    }
    rig.database.change_schedule(1, |schedule| schedule.zone = "Europe/Atlantis".to_owned());
    rig.database.add_schedule("other", rig.now);
    rig.run_for(ms(5 * MINUTE_MS));
    assert_eq!(rig.database.fired("other"), keys("other", 1..=5));
    let (polls, looks) = (rig.sent(StatementId::Poll).count(), rig.sent(StatementId::DueSchedules).count());
    assert!(looks <= 3 * (polls + 20), "{looks} looks, {polls} polls");
}

#[test]
fn a_locked_schedule_is_retried_with_growing_pauses_and_does_not_delay_others() {
    let mut rig = rig();
    rig.database.locked_schedules.insert(1);
    rig.database.add_schedule("other", rig.now);
    rig.run_for(ms(5 * MINUTE_MS));
    assert_eq!((rig.database.fired("other"), rig.database.fired("s")), (keys("other", 1..=5), Vec::new()));
    // Once every two seconds, and a few times more after each tick of the other schedule.
    let looks = rig.sent(StatementId::DueSchedules).count();
    assert!(looks <= 5 * (30 + 10), "{looks} looks");
    rig.database.locked_schedules.clear();
    rig.run_for(ms(3_000));
    assert_eq!(rig.database.fired("s"), keys("s", 1..=5), "the locked one has caught up");
    assert_eq!(rig.database.schedule(1).next_tick, rig.database.schedule(2).next_tick);
}

#[test]
fn a_worker_that_shuts_down_fires_no_more() {
    let mut rig = rig();
    rig.run_for(ms(1_000));
    rig.worker.shut_down(rig.now);
    rig.run_for(ms(2 * MINUTE_MS));
    assert_eq!(rig.sent(StatementId::DueSchedules).count(), 0);
    assert!(rig.worker.is_drained());
    assert_eq!(rig.worker.poll_timeout(), None);
}
