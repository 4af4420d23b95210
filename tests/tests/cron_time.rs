//! Schedules over days, in virtual time: running streams of several processes, across clock changes.

use futures_util::StreamExt;
use pm_driver_memory::{Database, Missed, Queue, Schedule, Tick, Timestamp, VirtualTime, queue_on};
use pm_queue::runtime::Tokio;
use std::sync::Arc;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// A database and processes on it; virtual time starts with 2026.
struct Fixture {
    time: VirtualTime,
    database: Database,
    queue: Queue,
}

impl Fixture {
    async fn on_day(day: u32) -> Fixture {
        let time = VirtualTime::new();
        time.advance(DAY * (day - 1));
        let database = Database::with_clock(time.clone());
        let queue = queue_on(database.clone(), Arc::new(time.on(Tokio::current())));
        queue.create_queue("tasks", false).await.unwrap();
        Fixture { time, database, queue }
    }

    fn another(&self) -> Queue {
        queue_on(self.database.clone(), Arc::new(self.time.on(Tokio::current())))
    }

    /// Commits `count` jobs, in two processes; returns their ticks in order.
    async fn work(&self, count: usize) -> Vec<Timestamp> {
        let processes = [self.another(), self.another()];
        let mut streams = processes.each_ref().map(|process| process.try_stream_jobs::<u64>("tasks"));
        let mut ticks = Vec::new();
        let [one, other] = streams.each_mut();
        let mut both = futures_util::stream::select(one, other);
        while ticks.len() < count {
            let job = self.time.pass(Duration::from_secs(60), both.next()).await.unwrap().unwrap();
            ticks.push(Tick::from_key(job.metadata().key.as_deref().unwrap()).unwrap().at);
            job.into_parts().1.commit().await.unwrap();
        }
        ticks
    }
}

/// Returns the minutes from the first tick to each.
fn minutes(ticks: &[Timestamp]) -> Vec<i64> {
    ticks.iter().map(|tick| (tick.unix_us() - ticks[0].unix_us()) / 60_000_000).collect()
}

// Days of 2026 by number: clocks in Berlin go forward on day 88 (29 March) and back on day 298 (25 October).

#[tokio::test]
async fn a_nightly_schedule_fires_every_night_even_when_clocks_change() {
    // The second night has no 02:30, or two.
    for (day, expected) in [(87, [0, 1_410, 2_820, 4_260]), (297, [0, 1_440, 2_940, 4_380])] {
        let fixture = Fixture::on_day(day).await;
        let nightly = Schedule::new("tasks", "30 2 * * *").zone("Europe/Berlin");
        fixture.queue.set_schedule("nightly", nightly, 1u64).await.unwrap();
        assert_eq!(minutes(&fixture.work(4).await), expected);
    }
}

#[tokio::test]
async fn an_hourly_schedule_fires_every_hour_of_real_time() {
    for day in [87, 297] {
        let fixture = Fixture::on_day(day).await;
        let hourly = Schedule::new("tasks", "30 * * * *").zone("Europe/Berlin").missed(Missed::All(100));
        fixture.queue.set_schedule("hourly", hourly, 1u64).await.unwrap();
        assert_eq!(minutes(&fixture.work(50).await), (0..50).map(|hour| hour * 60).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_weekend_without_any_process_is_made_up_for_on_monday() {
    // Friday, 2 January.
    let fixture = Fixture::on_day(2).await;
    let daily = Schedule::new("tasks", "0 9 * * *").missed(Missed::All(2));
    fixture.queue.set_schedule("daily", daily, 1u64).await.unwrap();
    fixture.time.advance(DAY * 3);
    let ticks = fixture.work(4).await;
    let days: Vec<_> = ticks.iter().map(|tick| tick.unix_us() / 86_400_000_000 - 20_454).collect();
    assert_eq!(days, [2, 3, 4, 5], "Saturday and Sunday late, then Monday");
}
