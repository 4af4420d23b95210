//! Schedules: each tick makes one job, whichever process fires it and whatever fails in between.

use futures_util::future::join_all;
use pm_core::op::{DueSchedules, FireSchedules, SetSchedule};
use pm_core::{EnqueueOptions, NewSchedule};
use pm_driver_tokio_postgres::{
    ConnectOptions, Cron, ErrorKind, Missed, Overlap, QueueName, Schedule, ScheduleName, State, StreamOptions, Tick,
    Timestamp, connect_with,
};
use pm_tests::{Direct, Fixture, Loss, Proxy, TIMEOUT, eventually, next, take, unattended};
use std::time::Duration;

const FIRE: &str = "firing.tick, firing.schedule_id";

/// Returns an expression that fires once an hour, half an hour from now: its last tick is about half an hour old.
fn half_an_hour_off(fixture: &Fixture) -> String {
    let minute = fixture.number("select extract(minute from now() at time zone 'UTC' + interval '30 min')::int");
    format!("{minute} * * * *")
}

/// Moves the next and the last tick of all schedules back by `hours`.
fn miss(fixture: &Fixture, hours: u32) {
    let sql = format!(
        "update pm.schedule set next_tick = next_tick - interval '{hours} h', last_tick = last_tick - interval '{hours} h'
         where next_tick is not null"
    );
    fixture.database.execute(&sql).unwrap();
}

/// Returns the ticks of the existing jobs, oldest first.
fn ticks(fixture: &Fixture) -> Vec<Timestamp> {
    let keys = fixture.column("select key from pm.job order by key collate \"C\"");
    keys.iter().map(|key| Tick::from_key(key).expect("the key of a scheduled job names its tick").at).collect()
}

fn jobs(fixture: &Fixture) -> i64 {
    fixture.number("select count(*) from pm.job")
}

/// Drops the unique index on keys, which would hide that a tick was fired twice.
fn drop_key_index(fixture: &Fixture) {
    fixture.database.execute("drop index pm.job_key").unwrap();
}

async fn next_tick(fixture: &Fixture, name: &str) -> Option<Timestamp> {
    fixture.queue.schedule(name).await.unwrap().expect("the schedule exists").next_tick
}

/// Returns a database with a schedule `s` on `tasks` whose last tick is half an hour old.
async fn fixture_with(change: impl FnOnce(Schedule) -> Schedule) -> Fixture {
    let fixture = Fixture::new().await;
    let schedule = change(Schedule::new("tasks", half_an_hour_off(&fixture)));
    assert!(fixture.queue.set_schedule("s", schedule, 7u64).await.unwrap(), "it is new");
    fixture
}

#[tokio::test]
async fn each_tick_makes_one_job_however_many_processes_fire() {
    const ROUNDS: u32 = 12;
    const SCHEDULES: i64 = 30;
    let fixture = Fixture::new().await;
    let schedule = Schedule::new("tasks", half_an_hour_off(&fixture)).missed(Missed::All(2));
    drop_key_index(&fixture);
    for n in 0..SCHEDULES {
        fixture.queue.set_schedule(&format!("s{n}"), schedule.clone(), n).await.unwrap();
    }
    let mut processes = Vec::new();
    for _ in 0..8 {
        processes.push(fixture.another(ConnectOptions::default()).await);
    }
    for round in 1..=ROUNDS {
        miss(&fixture, 2);
        let made = join_all(processes.iter().map(async |process| process.fire_schedules().await.unwrap().0)).await;
        eventually("all have advanced", TIMEOUT, async || {
            fixture.queue.fire_schedules().await.unwrap();
            fixture.number("select count(*) from pm.schedule where next_tick > now()") == SCHEDULES
        })
        .await;
        assert!(made.iter().sum::<u64>() <= 2 * SCHEDULES as u64, "round {round}: {made:?}");
        assert_eq!(jobs(&fixture), 2 * SCHEDULES, "round {round}: {made:?}");
        fixture.database.execute("delete from pm.job").unwrap();
    }
}

#[tokio::test]
async fn eight_running_streams_fire_a_tick_once_and_work_on_its_job() {
    let fixture = fixture_with(|schedule| schedule).await;
    drop_key_index(&fixture);
    let mut streams = Vec::new();
    for _ in 0..8 {
        let process = fixture.another(ConnectOptions::default()).await;
        streams.push((process.try_stream_jobs::<u64>("tasks"), process));
    }
    miss(&fixture, 1);
    // Any of the streams may get it.
    let taken = futures_util::future::select_all(streams.iter_mut().map(|(jobs, _)| Box::pin(next(jobs)))).await.0;
    let tick = Tick::from_key(taken.metadata().key.as_deref().unwrap()).expect("the key names the tick");
    assert_eq!((taken.payload(), tick.schedule.as_str()), (&7, "s"));
    let stored = fixture.queue.schedule("s").await.unwrap().unwrap();
    assert_eq!((stored.last_tick, stored.last_job), (Some(tick.at), Some(taken.id())));
    taken.into_parts().1.commit().await.unwrap();
    eventually("the schedule has advanced", TIMEOUT, async || next_tick(&fixture, "s").await > Some(stored.read_at))
        .await;
    assert_eq!((jobs(&fixture), fixture.jobs_in(State::Finished)), (1, 1));
}

#[tokio::test]
async fn a_firing_whose_reply_is_lost_makes_one_job() {
    for loss in [Loss::Reply, Loss::AtOnce] {
        let fixture = fixture_with(|schedule| schedule).await;
        drop_key_index(&fixture);
        let proxy = Proxy::before(&fixture.database.url()).await;
        let queue = connect_with(proxy.url(), ConnectOptions::default()).await.unwrap();
        miss(&fixture, 1);
        proxy.trap(FIRE, loss);
        let mut stream = queue.try_stream_jobs::<u64>("tasks");
        next(&mut stream).await.into_parts().1.commit().await.unwrap();
        assert_eq!(proxy.cuts(), 1);
        eventually("it polls again", TIMEOUT, async || {
            fixture.number("select count(*) from pm.schedule where next_tick > now()") == 1
        })
        .await;
        fixture.queue.fire_schedules().await.unwrap();
        assert_eq!((jobs(&fixture), fixture.jobs_in(State::Finished)), (1, 1), "{loss:?}");
    }
}

#[tokio::test]
async fn a_firing_sent_again_finds_nothing_even_when_its_job_is_gone() {
    let fixture = fixture_with(|schedule| schedule.missed(Missed::All(3))).await;
    miss(&fixture, 5);
    let mut direct = Direct::to(&fixture.database.url()).await;
    let reply = direct.run(DueSchedules::default()).await;
    let mut random = 0;
    let fire = FireSchedules::of(&reply, || {
        random += 1;
        random
    });
    let fired = direct.run(fire.clone()).await;
    assert_eq!((fired.schedules, fired.jobs), (1, 3));
    fixture.database.execute("delete from pm.job").unwrap();
    let again = direct.run(fire).await;
    assert_eq!((again.schedules, again.jobs), (0, 0));
    assert_eq!(jobs(&fixture), 0);
}

#[tokio::test]
async fn a_firing_computed_before_the_schedule_changed_does_nothing() {
    let fixture = fixture_with(|schedule| schedule).await;
    let changed = || Schedule::new("tasks", half_an_hour_off(&fixture)).options(EnqueueOptions::default().priority(5));
    for change in ["set", "pause", "delete", "delete queue"] {
        miss(&fixture, 1);
        let mut direct = Direct::to(&fixture.database.url()).await;
        let reply = direct.run(DueSchedules::default()).await;
        assert_eq!(reply.due.len(), 1, "before {change}");
        let fire = FireSchedules::of(&reply, || 4);
        match change {
            "set" => assert!(!fixture.queue.set_schedule("s", changed(), 8u64).await.unwrap(), "it exists"),
            "pause" => assert!(fixture.queue.pause_schedule("s").await.unwrap()),
            "delete" => assert!(fixture.queue.delete_schedule("s").await.unwrap()),
            _ => drop(fixture.queue.delete_queue("tasks").await.unwrap()),
        }
        assert_eq!(direct.run(fire).await.schedules, 0, "after {change}");
        assert_eq!(jobs(&fixture), 0, "after {change}");
        if change != "delete queue" {
            fixture.queue.delete_schedule("s").await.unwrap();
            fixture.queue.set_schedule("s", changed(), 8u64).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_tick_is_fired_once_even_when_its_schedule_changes_concurrently() {
    let fixture = fixture_with(|schedule| schedule).await;
    miss(&fixture, 1);
    let due = next_tick(&fixture, "s").await;
    let other_times = half_an_hour_off(&fixture).replacen("*", "0-23", 1);
    let schedule = NewSchedule {
        name: ScheduleName::new("s").unwrap(),
        queue: QueueName::new("tasks").unwrap(),
        cron: Cron::new(&other_times, "UTC").unwrap(),
        missed: Missed::Once,
        overlap: Overlap::Allow,
        payload: "8".into(),
        options: EnqueueOptions::default(),
    };
    assert_eq!(fixture.queue.fire_schedules().await.unwrap().0, 1);
    let fired = fixture.column("select id from pm.job")[0].parse().unwrap();
    fixture.queue.finish_jobs(&[fired]).await.unwrap();
    // Computed before the firing, applied after it.
    let mut direct = Direct::to(&fixture.database.url()).await;
    assert!(!direct.run(SetSchedule { schedule, next_tick: due }).await, "it exists");
    assert_eq!(fixture.queue.fire_schedules().await.unwrap().0, 0, "that tick was fired");
    assert!(next_tick(&fixture, "s").await > due, "but the schedule advances");
    assert_eq!(jobs(&fixture), 1);
    miss(&fixture, 1);
    assert_eq!(fixture.queue.fire_schedules().await.unwrap().0, 1, "and fires the next one");
}

#[tokio::test]
async fn missed_ticks_are_skipped_fired_once_or_all_fired_by_policy() {
    for (missed, hours, expected) in [
        (Missed::Skip, 5, 0),
        (Missed::Once, 5, 1),
        (Missed::All(3), 5, 3),
        (Missed::All(100), 5, 5),
        (Missed::All(100), 300, 100),
    ] {
        let fixture = fixture_with(|schedule| schedule.missed(missed)).await;
        let first = next_tick(&fixture, "s").await.unwrap();
        miss(&fixture, hours);
        // The old process has ended; this one starts later.
        fixture.queue.close().await;
        let restarted = fixture.another(ConnectOptions::default()).await;
        let (made, next) = restarted.fire_schedules().await.unwrap();
        assert_eq!(made, expected, "{missed}");
        assert!(next.unwrap() <= Duration::from_secs(3_600), "{next:?}");
        let hour_us = 3_600_000_000;
        let latest: Vec<_> = (1..=expected as i64).rev().map(|ago| first.unix_us() - ago * hour_us).collect();
        assert_eq!(ticks(&fixture).iter().map(|tick| tick.unix_us()).collect::<Vec<_>>(), latest, "{missed}");
        assert_eq!(
            restarted.schedule("s").await.unwrap().unwrap().next_tick,
            Some(first),
            "{missed}: the next tick is as planned"
        );
        assert_eq!(restarted.fire_schedules().await.unwrap().0, 0, "{missed}");
        let mut stream = restarted.try_stream_jobs_with::<u64>("tasks", unattended());
        let order: Vec<_> =
            take(&mut stream, expected as usize).await.iter().map(|job| job.metadata().key.clone()).collect();
        assert!(order.is_sorted(), "the oldest comes first: {order:?}");
    }
}

#[tokio::test]
async fn a_tick_on_time_is_fired_under_every_policy() {
    for missed in [Missed::Skip, Missed::Once, Missed::All(5)] {
        let fixture = Fixture::new().await;
        fixture.queue.set_schedule("s", Schedule::new("tasks", "* * * * *").missed(missed), 1u64).await.unwrap();
        fixture.database.execute("update pm.schedule set next_tick = date_trunc('minute', now())").unwrap();
        assert_eq!(fixture.queue.fire_schedules().await.unwrap().0, 1, "{missed}");
    }
}

#[tokio::test]
async fn with_overlap_skip_a_tick_is_dropped_while_the_last_job_has_not_ended() {
    let fixture = fixture_with(|schedule| schedule.overlap(Overlap::Skip).missed(Missed::All(10))).await;
    drop_key_index(&fixture);
    let fire = async || {
        miss(&fixture, 4);
        fixture.queue.fire_schedules().await.unwrap().0
    };
    assert_eq!(fire().await, 1, "of several at once only the latest");
    assert_eq!(fire().await, 0, "the first is pending");
    fixture.queue.pause_queue("tasks").await.unwrap();
    assert_eq!(fire().await, 0, "it is paused");
    fixture.queue.resume_queue("tasks").await.unwrap();
    let mut stream = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let (_, ack) = next(&mut stream).await.into_parts();
    assert_eq!(fire().await, 0, "it is in progress");
    assert!(next_tick(&fixture, "s").await.is_some(), "dropped ticks are in the past");
    ack.commit().await.unwrap();
    assert_eq!(fire().await, 1, "it has ended");
    let (_, ack) = next(&mut stream).await.into_parts();
    ack.hard_fail("no").await.unwrap();
    assert_eq!(fire().await, 1, "it has failed, which counts as ended");
    fixture.database.execute("delete from pm.job").unwrap();
    assert_eq!(fire().await, 1, "it is deleted");
}

#[tokio::test]
async fn with_overlap_allow_jobs_pile_up() {
    let fixture = fixture_with(|schedule| schedule).await;
    drop_key_index(&fixture);
    for _ in 1..=3 {
        miss(&fixture, 1);
        assert_eq!(fixture.queue.fire_schedules().await.unwrap().0, 1);
    }
    assert_eq!(fixture.jobs_in(State::Pending), 3);
}

#[tokio::test]
async fn a_paused_schedule_has_no_ticks_and_none_is_missed_when_it_is_resumed() {
    let fixture = fixture_with(|schedule| schedule.missed(Missed::All(10))).await;
    let first = next_tick(&fixture, "s").await;
    miss(&fixture, 5);
    assert!(fixture.queue.pause_schedule("s").await.unwrap());
    assert!(fixture.queue.pause_schedule("s").await.unwrap(), "again");
    assert_eq!(fixture.queue.fire_schedules().await.unwrap(), (0, None));
    // A new version of the program does not undo an operator's pause.
    let changed = Schedule::new("tasks", "0 * * * *");
    assert!(!fixture.queue.set_schedule("s", changed, 1u64).await.unwrap());
    let stored = fixture.queue.schedule("s").await.unwrap().unwrap();
    assert_eq!((stored.paused, stored.next_tick, stored.cron.as_str()), (true, None, "0 * * * *"));
    fixture.queue.set_schedule("s", Schedule::new("tasks", half_an_hour_off(&fixture)), 1u64).await.unwrap();
    assert!(fixture.queue.resume_schedule("s").await.unwrap());
    assert!(next_tick(&fixture, "s").await >= first);
    assert_eq!(fixture.queue.fire_schedules().await.unwrap().0, 0);
    miss(&fixture, 1);
    assert!(fixture.queue.resume_schedule("s").await.unwrap(), "it is not paused, and stays as it is");
    assert_eq!(fixture.queue.fire_schedules().await.unwrap().0, 1);
    for found in [
        fixture.queue.pause_schedule("other").await.unwrap(),
        fixture.queue.resume_schedule("other").await.unwrap(),
        fixture.queue.delete_schedule("other").await.unwrap(),
    ] {
        assert!(!found);
    }
}

#[tokio::test]
async fn setting_a_schedule_again_keeps_a_due_tick_and_changed_times_are_planned_anew() {
    let fixture = fixture_with(|schedule| schedule).await;
    miss(&fixture, 3);
    let due = next_tick(&fixture, "s").await;
    let same = Schedule::new("tasks", half_an_hour_off(&fixture))
        .options(EnqueueOptions::default().priority(3))
        .missed(Missed::All(2));
    assert!(!fixture.queue.set_schedule("s", same, 8u64).await.unwrap());
    assert_eq!(next_tick(&fixture, "s").await, due);
    assert_eq!(fixture.queue.fire_schedules().await.unwrap().0, 2);
    assert_eq!(fixture.column("select distinct priority || ' ' || convert_from(payload, 'UTF8') from pm.job"), ["3 8"]);
    miss(&fixture, 3);
    let other_zone = Schedule::new("tasks", half_an_hour_off(&fixture)).zone("Asia/Kathmandu");
    fixture.queue.set_schedule("s", other_zone, 8u64).await.unwrap();
    let planned = fixture.queue.schedule("s").await.unwrap().unwrap();
    assert!(planned.next_tick > Some(planned.read_at), "{planned:?}");
    assert_eq!((planned.zone.as_str(), planned.last_tick.is_some()), ("Asia/Kathmandu", true));
}

#[tokio::test]
async fn jobs_of_a_schedule_on_a_paused_queue_are_paused() {
    let fixture = fixture_with(|schedule| schedule).await;
    fixture.queue.pause_queue("tasks").await.unwrap();
    miss(&fixture, 1);
    assert_eq!(fixture.queue.fire_schedules().await.unwrap().0, 1);
    assert_eq!(fixture.queue.list_queues().await.unwrap()[0].count(State::Paused).jobs, 1);
    assert_eq!(fixture.queue.resume_queue("tasks").await.unwrap(), 1);
    next(&mut fixture.queue.try_stream_jobs::<u64>("tasks")).await.into_parts().1.commit().await.unwrap();
}

#[tokio::test]
async fn schedules_follow_a_queue_that_is_renamed_and_go_with_one_that_is_deleted() {
    let fixture = fixture_with(|schedule| schedule).await;
    fixture.queue.create_queue("other", false).await.unwrap();
    fixture.queue.set_schedule("kept", Schedule::new("other", "@daily"), 1u64).await.unwrap();
    fixture.queue.rename_queue("tasks", "chores").await.unwrap();
    assert_eq!(fixture.queue.schedule("s").await.unwrap().unwrap().queue, "chores");
    miss(&fixture, 1);
    assert_eq!(fixture.queue.fire_schedules().await.unwrap().0, 1);
    assert_eq!(fixture.queue.list_pending("chores").await.unwrap().len(), 1);
    assert_eq!(fixture.queue.delete_queue("chores").await.unwrap(), 1);
    let left: Vec<_> = fixture.queue.list_schedules().await.unwrap().into_iter().map(|left| left.name).collect();
    assert_eq!(left, ["kept"]);
    let gone = fixture.queue.set_schedule("s", Schedule::new("chores", "@daily"), 1u64).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::QueueNotFound);
}

#[tokio::test]
async fn a_queue_deleted_beside_firings_and_schedules_being_set_leaves_no_orphan() {
    let fixture = Fixture::without_queue().await;
    let other = fixture.another(ConnectOptions::default()).await;
    let due = Schedule::new("tasks", half_an_hour_off(&fixture));
    for _ in 0..25 {
        fixture.queue.create_queue("tasks", false).await.unwrap();
        fixture.queue.set_schedule("s", due.clone(), 1u64).await.unwrap();
        miss(&fixture, 1);
        let firing = async { other.fire_schedules().await.map(drop) };
        let setting = async {
            match other.set_schedule("t", due.clone(), 1u64).await {
                Err(error) if error.kind() == ErrorKind::QueueNotFound => Ok(()),
                set => set.map(drop),
            }
        };
        let deleting = async { fixture.queue.delete_queue("tasks").await.map(drop) };
        let (fired, set, deleted) = tokio::join!(firing, setting, deleting);
        fired.and(set).and(deleted).unwrap();
    }
    fixture.queue.prune().await.unwrap();
    for table in ["queue", "job", "schedule"] {
        assert_eq!(fixture.number(&format!("select count(*) from pm.{table}")), 0, "{table}");
    }
}

#[tokio::test]
async fn more_schedules_than_one_step_takes_are_all_fired() {
    let fixture = fixture_with(|schedule| schedule.missed(Missed::All(20))).await;
    let copies = "insert into pm.schedule (name, next_tick, queue_id, priority, codec, missed, missed_limit, overlap, cron, zone, payload) \
                  select name || n, next_tick, queue_id, n, codec, missed, missed_limit, overlap, cron, zone, payload \
                  from pm.schedule, generate_series(1, 249) n";
    fixture.database.execute(copies).unwrap();
    miss(&fixture, 6);
    let (made, next) = fixture.queue.fire_schedules().await.unwrap();
    assert_eq!((made, jobs(&fixture)), (1_500, 1_500));
    assert!(next.is_some());
}

#[tokio::test]
async fn a_schedule_that_this_version_cannot_read_delays_no_other() {
    let fixture = fixture_with(|schedule| schedule).await;
    for odd in ["odd", "odd policy"] {
        fixture.queue.set_schedule(odd, Schedule::new("tasks", "@daily"), 1u64).await.unwrap();
    }
    miss(&fixture, 25);
    fixture.database.execute("update pm.schedule set overlap = 7 where name = 'odd policy'").unwrap();
    fixture.database.execute("update pm.schedule set zone = 'Europe/Atlantis' where name = 'odd'").unwrap();
    assert_eq!(fixture.queue.fire_schedules().await.unwrap().0, 1);
    let mut stream = fixture.queue.try_stream_jobs::<u64>("tasks");
    next(&mut stream).await.into_parts().1.commit().await.unwrap();
    assert_eq!(jobs(&fixture), 1);
    assert_eq!(fixture.queue.schedule("odd").await.unwrap().unwrap().zone, "Europe/Atlantis");
    let listed = fixture.queue.list_schedules().await.unwrap();
    let found: Vec<_> = listed.iter().map(|schedule| (&*schedule.name, schedule.overlap)).collect();
    assert_eq!(found, [("odd", Overlap::Allow), ("odd policy", Overlap::Unknown(7)), ("s", Overlap::Allow)]);
    let refused = Schedule::new("tasks", "@daily").overlap(Overlap::Unknown(7));
    assert_eq!(fixture.queue.set_schedule("copy", refused, 1u64).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert!(fixture.queue.pause_schedule("odd policy").await.unwrap());
    assert!(fixture.queue.resume_schedule("odd policy").await.unwrap());
}

#[tokio::test]
async fn hundreds_of_schedules_that_this_version_cannot_read_keep_no_other_from_firing() {
    let fixture = fixture_with(|schedule| schedule).await;
    let copies = "insert into pm.schedule (name, next_tick, queue_id, priority, codec, missed, missed_limit, overlap, cron, zone, payload) \
                  select 'odd ' || n, next_tick, queue_id, n, codec, 9, missed_limit, overlap, cron, zone, payload \
                  from pm.schedule, generate_series(1, 250) n";
    fixture.database.execute(copies).unwrap();
    miss(&fixture, 2);
    fixture.database.execute("update pm.schedule set next_tick = next_tick + interval '1 h' where name = 's'").unwrap();
    assert_eq!(fixture.queue.fire_schedules().await.unwrap().0, 1);
    miss(&fixture, 1);
    let mut stream = fixture.queue.try_stream_jobs::<u64>("tasks");
    for _ in 0..2 {
        next(&mut stream).await.into_parts().1.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_locked_queue_or_schedule_delays_no_other_schedule() {
    for table in ["queue", "schedule"] {
        let fixture = fixture_with(|schedule| schedule).await;
        fixture.queue.create_queue("locked", false).await.unwrap();
        let blocked = Schedule::new("locked", half_an_hour_off(&fixture));
        fixture.queue.set_schedule("locked", blocked, 8u64).await.unwrap();
        miss(&fixture, 1);
        let mut direct = Direct::to(&fixture.database.url()).await;
        let locking = direct.client.transaction().await.unwrap();
        let lock = format!("select from pm.{table} where name = 'locked' for update");
        locking.execute(lock.as_str(), &[]).await.unwrap();
        assert_eq!(fixture.queue.fire_schedules().await.unwrap().0, 1, "with a locked {table}");
        let mut stream = fixture.queue.try_stream_jobs::<u64>(["tasks", "locked"]);
        let job = next(&mut stream).await;
        assert_eq!(job.payload(), &7);
        job.into_parts().1.commit().await.unwrap();
        locking.rollback().await.unwrap();
        assert_eq!(next(&mut stream).await.payload(), &8);
    }
}

#[tokio::test]
async fn a_job_fired_by_another_process_notifies_an_idle_worker() {
    let fixture = fixture_with(|schedule| schedule).await;
    let hour = Duration::from_secs(3_600);
    let seldom = StreamOptions::default().poll(hour, hour).idle_poll(hour).reaper(false);
    let other = fixture.another(ConnectOptions::default()).await;
    let mut stream = other.try_stream_jobs_with::<u64>("tasks", seldom);
    let idle = async || {
        fixture.queue.resume_queue("tasks").await.unwrap();
        other.is_listening() && fixture.number("select count(*) from pm.queue where idle_until > now()") == 1
    };
    let waiting = async {
        eventually("the worker is idle", TIMEOUT, idle).await;
        miss(&fixture, 1);
        assert_eq!(fixture.queue.fire_schedules().await.unwrap().0, 1);
    };
    let (job, ()) = tokio::join!(next(&mut stream), waiting);
    assert_eq!(job.payload(), &7);
}

#[tokio::test]
async fn a_reaper_fires_without_any_stream() {
    let fixture = fixture_with(|schedule| schedule).await;
    miss(&fixture, 1);
    let reaper = fixture.another(ConnectOptions::default()).await;
    let fired = eventually("it fires", TIMEOUT, async || jobs(&fixture) == 1);
    tokio::select! {
        () = reaper.run_reaper() => panic!("the reaper runs until its queue is closed"),
        () = fired => {}
    }
}

#[tokio::test]
async fn what_cannot_be_a_schedule_is_refused() {
    let fixture = Fixture::new().await;
    let good = || Schedule::new("tasks", "30 2 * * *");
    let long = "x".repeat(100_000);
    for (name, schedule, payload, kind, why) in [
        ("", good(), "", ErrorKind::Invalid, "is empty"),
        ("a\nb", good(), "", ErrorKind::Invalid, "control character"),
        ("s", Schedule::new("nowhere", "@daily"), "", ErrorKind::QueueNotFound, "nowhere"),
        ("s", Schedule::new("", "@daily"), "", ErrorKind::Invalid, "queue name"),
        ("s", Schedule::new("tasks", ""), "", ErrorKind::Invalid, "is empty"),
        ("s", Schedule::new("tasks", "0 30 2 * * *"), "", ErrorKind::Invalid, "none for seconds"),
        ("s", Schedule::new("tasks", "0 0 30 2 *"), "", ErrorKind::Invalid, "never fires"),
        ("s", Schedule::new("tasks", "61 * * * *"), "", ErrorKind::Invalid, "minute"),
        ("s", good().zone("Mars/Olympus"), "", ErrorKind::Invalid, "IANA"),
        ("s", good().zone(""), "", ErrorKind::Invalid, "IANA"),
        ("s", good().missed(Missed::All(0)), "", ErrorKind::Invalid, "between 1 and 100"),
        ("s", good().missed(Missed::All(101)), "", ErrorKind::Invalid, "between 1 and 100"),
        ("s", good().options(EnqueueOptions::default().description("a\0b")), "", ErrorKind::Invalid, "NUL"),
        ("s", good().options(EnqueueOptions::default().max_retries(2_000_000)), "", ErrorKind::Invalid, "million"),
        ("s", good(), long.as_str(), ErrorKind::Invalid, "over 100000"),
    ] {
        let error = fixture.queue.set_schedule(name, schedule, payload).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(fixture.queue.list_schedules().await.unwrap(), []);
    for refused in
        [fixture.queue.schedule("").await.unwrap_err(), fixture.queue.delete_schedule(" ").await.unwrap_err()]
    {
        assert_eq!(refused.kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn a_schedule_without_a_tick_before_the_year_10000_does_not_fire() {
    let fixture = fixture_with(|schedule| schedule).await;
    // As if the database's clock had come to the end of the calendar.
    fixture.database.execute("update pm.schedule set next_tick = null").unwrap();
    assert_eq!(fixture.queue.fire_schedules().await.unwrap(), (0, None));
    fixture.database.execute("update pm.schedule set next_tick = 'infinity'").unwrap();
    assert_eq!(fixture.queue.fire_schedules().await.unwrap(), (0, None));
}
