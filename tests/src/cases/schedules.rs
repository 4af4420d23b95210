//! Schedules.

use super::Harness;
use pm_queue::{
    Codec, ConnectOptions, EnqueueOptions, ErrorKind, Missed, Overlap, Schedule, ScheduleMetadata, State, Tick,
};
use std::time::Duration;

async fn read(harness: &Harness, name: &str) -> ScheduleMetadata {
    harness.queue.schedule(name).await.unwrap().expect("the schedule exists")
}

pub(super) async fn a_schedule_is_set_shown_paused_resumed_and_deleted(harness: Harness) {
    let hour = Duration::from_secs(3_600);
    let options = EnqueueOptions::default()
        .priority(-3)
        .description("every working night 🌙")
        .codec(Codec::MessagePack)
        .max_retries(2)
        .backoff(vec![hour, hour * 2])
        .jitter_percent(5);
    let schedule = Schedule::new("tasks", " 30  2 * * MON-FRI")
        .zone("europe/berlin")
        .missed(Missed::All(7))
        .overlap(Overlap::Skip)
        .options(options);
    assert!(harness.queue.set_schedule("nightly", schedule, 7u64).await.unwrap());
    let shown = read(&harness, "nightly").await;
    assert_eq!(
        (shown.cron.as_str(), shown.zone.as_str(), shown.queue.as_str()),
        ("30 2 * * MON-FRI", "Europe/Berlin", "tasks")
    );
    assert_eq!((shown.missed, shown.overlap, shown.priority), (Missed::All(7), Overlap::Skip, -3));
    assert_eq!(shown.description.as_deref(), Some("every working night 🌙"));
    assert_eq!((shown.retry.max_retries, shown.retry.jitter_percent), (Some(2), Some(5)));
    assert_eq!((shown.retry.backoff.as_deref(), shown.codec), (Some(&[hour, hour * 2][..]), Codec::MessagePack));
    assert_eq!((shown.payload.as_deref(), shown.payload_bytes), (Some(&[7][..]), 1));
    assert!(shown.next_tick > Some(shown.read_at) && !shown.paused);
    assert_eq!((shown.last_tick, shown.last_job), (None, None));

    assert!(harness.queue.pause_schedule("nightly").await.unwrap());
    assert_eq!((read(&harness, "nightly").await.next_tick, read(&harness, "nightly").await.paused), (None, true));
    assert!(harness.queue.resume_schedule("nightly").await.unwrap());
    assert_eq!(read(&harness, "nightly").await.next_tick, shown.next_tick);

    assert!(harness.queue.set_schedule("daily", Schedule::new("tasks", "@daily"), ()).await.unwrap());
    assert!(!harness.queue.set_schedule("nightly", Schedule::new("tasks", "@hourly"), "x").await.unwrap(), "replaced");
    let listed = harness.queue.list_schedules().await.unwrap();
    let named: Vec<_> = listed.iter().map(|schedule| (schedule.name.as_str(), schedule.cron.as_str())).collect();
    assert_eq!(named, [("daily", "@daily"), ("nightly", "@hourly")]);
    assert!(listed.iter().all(|schedule| schedule.payload.is_none()), "a list leaves the payload out");
    assert!(harness.queue.delete_schedule("nightly").await.unwrap());
    assert!(!harness.queue.delete_schedule("nightly").await.unwrap());
    assert_eq!(harness.queue.schedule("nightly").await.unwrap(), None);
    for bad in [Schedule::new("tasks", "* * *"), Schedule::new("tasks", "@daily").zone("Mars/Olympus")] {
        assert_eq!(harness.queue.set_schedule("s", bad, ()).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    let nowhere = harness.queue.set_schedule("s", Schedule::new("nowhere", "@daily"), ()).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::QueueNotFound);
    harness.queue.delete_queue("tasks").await.unwrap();
    assert_eq!(harness.queue.list_schedules().await.unwrap(), [], "schedules are deleted with their queue");
}

pub(super) async fn a_missed_tick_makes_one_job_that_names_it(harness: Harness) {
    // Half an hour from now, and half an hour ago.
    let minute = harness.number("select extract(minute from now() at time zone 'UTC' + interval '30 min')::int");
    let hourly = Schedule::new("tasks", format!("{minute} * * * *"))
        .options(EnqueueOptions::default().priority(9).description("hourly"));
    harness.queue.set_schedule("s", hourly, vec![1u64, 2]).await.unwrap();
    let first = read(&harness, "s").await.next_tick.unwrap();
    let other = harness.another(ConnectOptions::default()).await;
    let mut ours = harness.queue.try_stream_jobs::<Vec<u64>>("tasks");
    let theirs = other.try_stream_jobs::<Vec<u64>>("tasks");
    harness.number("with late as (update pm.schedule set next_tick = next_tick - interval '5 h' returning 1) select count(*) from late");
    let job = harness.next(&mut futures_util::stream::select(&mut ours, theirs)).await;
    let tick = Tick::from_key(job.metadata().key.as_deref().unwrap()).expect("its key names its tick");
    assert_eq!((tick.schedule.as_str(), tick.at.unix_us()), ("s", first.unix_us() - 3_600_000_000));
    assert_eq!((job.payload(), job.metadata().priority), (&vec![1, 2], 9));
    assert_eq!(job.metadata().description.as_deref(), Some("hourly"));
    let id = job.id();
    job.into_parts().1.commit().await.unwrap();
    assert_eq!(harness.state(id).await, State::Finished);
    harness.eventually("the schedule has advanced", async || read(&harness, "s").await.next_tick == Some(first)).await;
    assert_eq!(harness.queue.fire_schedules().await.unwrap().0, 0);
    assert_eq!(harness.number("select count(*) from pm.job"), 1);
}
