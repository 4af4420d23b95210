//! The database's clock decides; a client's may be years off.

use futures_util::FutureExt;
use pm_driver_tokio_postgres::{
    ConnectOptions, EnqueueOptions, Queue, RunAt, Schedule, SettingsChange, State, Tick, Timestamp, TokioPostgres,
};
use pm_tests::{Fixture, SkewedRuntime, TIMEOUT, eventually, next, take, within};
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const TEN_YEARS_MS: i64 = 10 * 365 * 86_400_000;

async fn queue_on_a_machine_off_by(fixture: &Fixture, off_ms: i64) -> Queue {
    let options = ConnectOptions::default();
    let driver = TokioPostgres::new(&fixture.database.url(), &options).unwrap();
    let runtime = SkewedRuntime::new(Duration::from_millis(off_ms.unsigned_abs()), move |_| off_ms);
    Queue::open(Arc::new(driver), Arc::new(runtime), &options).await.unwrap()
}

#[tokio::test]
async fn due_times_and_leases_follow_the_databases_clock() {
    let fixture = Fixture::with(SettingsChange::new().lease(SECOND * 6).backoff(vec![Duration::ZERO])).await;
    let early = queue_on_a_machine_off_by(&fixture, -TEN_YEARS_MS).await;
    let late = queue_on_a_machine_off_by(&fixture, TEN_YEARS_MS).await;
    let soon = || EnqueueOptions::default().run_at(RunAt::In(SECOND));
    let ids = [late.enqueue("tasks", 1u64, soon()).await.unwrap(), early.enqueue("tasks", 2u64, soon()).await.unwrap()];
    for id in ids {
        let job = fixture.job(id).await;
        assert_eq!(job.run_at.unwrap().unix_us() - job.created_at.unix_us(), 1_000_000);
        assert!((job.read_at.unix_us() - job.created_at.unix_us()).abs() < 60_000_000, "it was created just now");
    }
    // An absolute time means the same whichever client enqueues.
    let past = Timestamp::from_unix_us(fixture.job(ids[0]).await.read_at.unix_us() - 1_000_000);
    let at = EnqueueOptions::default().run_at(RunAt::At(past));
    let ready = early.enqueue("tasks", 3u64, at).await.unwrap();
    assert_eq!(fixture.job(ready).await.run_at, None, "it is due already");

    let mut theirs = late.try_stream_jobs::<u64>("tasks");
    let taken = take(&mut theirs, 3).await;
    let lease = "select (extract(epoch from max(lease_expires_at) - now()) <= 6)::int from pm.job";
    assert_eq!(fixture.number(lease), 1);
    let mut ours = early.try_stream_jobs::<u64>("tasks");
    let stolen = tokio::time::timeout(SECOND * 10, next(&mut ours)).await;
    assert!(stolen.is_err(), "extended leases are not reaped by a client whose clock is ten years behind");
    for job in taken {
        job.into_parts().1.commit().await.expect("the leases are valid");
    }
    assert_eq!(fixture.jobs_in(State::Finished), 3);
}

#[tokio::test]
async fn jobs_of_clients_with_clocks_years_apart_come_in_the_order_they_became_ready() {
    let fixture = Fixture::new().await;
    let late = queue_on_a_machine_off_by(&fixture, TEN_YEARS_MS).await;
    let early = queue_on_a_machine_off_by(&fixture, -TEN_YEARS_MS).await;
    for n in 0..20u64 {
        let queue = if n % 2 == 0 { &late } else { &early };
        queue.enqueue("tasks", n, EnqueueOptions::default()).await.unwrap();
    }
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    for expected in 0..20 {
        let (n, ack) = next(&mut jobs).await.into_parts();
        assert_eq!(n, expected);
        ack.commit().await.unwrap();
    }
    eventually("all are done", TIMEOUT, async || fixture.jobs_in(State::Finished) == 20).await;
}

#[tokio::test]
async fn ticks_follow_the_databases_clock() {
    let fixture = Fixture::new().await;
    let ahead = queue_on_a_machine_off_by(&fixture, TEN_YEARS_MS).await;
    let behind = queue_on_a_machine_off_by(&fixture, -TEN_YEARS_MS).await;
    let minutely = || Schedule::new("tasks", "* * * * *");
    for (name, queue) in [("ahead", &ahead), ("behind", &behind)] {
        assert!(queue.set_schedule(name, minutely(), 1u64).await.unwrap());
        let planned = queue.schedule(name).await.unwrap().unwrap();
        let wait_us = planned.next_tick.unwrap().unix_us() - planned.read_at.unix_us();
        assert!((-5_000_000..=60_000_000).contains(&wait_us), "{name}: {wait_us} us");
        assert!(queue.pause_schedule(name).await.unwrap() && queue.resume_schedule(name).await.unwrap());
        assert!(queue.schedule(name).await.unwrap().unwrap().next_tick >= planned.next_tick, "{name}");
    }
    // Both are due, and the two clients' clocks differ by twenty years.
    fixture.database.execute("update pm.schedule set next_tick = date_trunc('minute', now())").unwrap();
    let (one, other) = tokio::join!(ahead.fire_schedules(), behind.fire_schedules());
    let made = one.unwrap().0 + other.unwrap().0 + fixture.queue.fire_schedules().await.unwrap().0;
    assert_eq!(made, 2);
    let late = "select count(*) from pm.job where created_at - now() between interval '-1 min' and interval '0'";
    assert_eq!(fixture.number(late), 2);
    let now_us = fixture.number("select (extract(epoch from now()) * 1000000)::int8");
    for key in fixture.column("select key from pm.job") {
        let late_us = now_us - Tick::from_key(&key).unwrap().at.unix_us();
        assert!((0..120_000_000).contains(&late_us), "{key}: {late_us} us");
    }
}

#[tokio::test]
async fn a_lease_that_ended_while_the_machine_was_suspended_is_lost_soon_after_it_resumes() {
    let fixture = Fixture::new().await;
    let options = ConnectOptions::default();
    let driver = TokioPostgres::new(&fixture.database.url(), &options).unwrap();
    let machine = Arc::new(SkewedRuntime::new(Duration::ZERO, |_| 0));
    let queue = Queue::open(Arc::new(driver), machine.clone(), &options).await.unwrap();
    let id = fixture.put(1).await;
    let ack = queue.fetch_job::<u64>(id).await.unwrap().expect("it is ready").into_parts().1;
    let mut lost = ack.lost();
    assert!((&mut lost).now_or_never().is_none(), "the lease lasts 20 min");
    machine.suspend(3_600_000);
    assert!(ack.lost().now_or_never().is_some(), "a new future is ready at once");
    let notified = tokio::spawn(lost);
    within("the loss", notified).await.unwrap();
    assert!((ack.commit().await).is_ok(), "no other worker has the job: the database decides");
}
