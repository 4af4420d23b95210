//! What operators do to schedules, and schedules that nobody fired for long.

use super::stack::Process;
use super::worker::QUEUES;
use super::world::World;
use pm_core::op::SetSchedule;
use pm_core::{JobOptions, NewSchedule, Operation, StatementId};
use pm_queue::{Cron, Missed, Overlap, Queue, QueueName, Schedule, ScheduleName, Timestamp};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const NAMES: [&str; 3] = ["often", "seldom", "never twice"];
/// Ticks come every so many minutes; each divides the hour.
const EVERY: [i64; 3] = [1, 2, 5];
const MISSED: [Missed; 4] = [Missed::Skip, Missed::Once, Missed::All(2), Missed::All(100)];
const OVERLAP: [Overlap; 2] = [Overlap::Allow, Overlap::Skip];
const MINUTE_US: i64 = 60_000_000;
/// The most schedules that there are then.
const MOST: usize = 5;

/// Does what operators do to a schedule. What is refused is refused.
pub(super) async fn schedule(process: &Arc<Process>, queue: &Queue) {
    let world = &process.world;
    let name = NAMES[world.below(3) as usize];
    match world.below(12) {
        0..4 => {
            let (home, every, missed, overlap) = drawn(world);
            let set = Schedule::new(home, expression(every)).missed(missed).overlap(overlap);
            drop(queue.set_schedule(name, set, 0u64).await);
        }
        4 => drop(queue.pause_schedule(name).await),
        5..7 => drop(queue.resume_schedule(name).await),
        7 => drop(queue.delete_schedule(name).await),
        8 => drop((queue.list_schedules().await, queue.schedule(name).await)),
        _ => drop(queue.fire_schedules().await),
    }
}

/// Makes a schedule that nobody fired for up to 20 minutes; the oldest makes room for it.
pub(super) fn neglect(world: &World) {
    if !world.has_schedules {
        return;
    }
    world.database.change(|tables| {
        while tables.schedule.len() >= MOST {
            tables.schedule.pop_first();
        }
    });
    let (home, every, missed, overlap) = drawn(world);
    let late = world.below(20 * MINUTE_US as u64) as i64;
    let then = (world.now().unix_us() - late) / (every * MINUTE_US) * every * MINUTE_US;
    let schedule = NewSchedule {
        name: ScheduleName::new(&format!("old {}", world.intents.fetch_add(1, Ordering::Relaxed)))
            .expect("a good name"),
        queue: QueueName::new(home).expect("a good name"),
        cron: Cron::new(&expression(every), "UTC").expect("a good expression"),
        missed,
        overlap,
        payload: "0".into(),
        options: JobOptions::default(),
    };
    let set = SetSchedule { schedule, next_tick: Some(Timestamp::from_unix_us(then)) };
    let statement = world.catalog.statement(StatementId::SetSchedule);
    world.database.answer(statement, &set.params()).expect("it can be set");
}

/// Returns a queue, how many minutes lie between ticks, and the policies.
fn drawn(world: &World) -> (&'static str, i64, Missed, Overlap) {
    let mut seed = world.chance();
    (seed.pick(&QUEUES), seed.pick(&EVERY), seed.pick(&MISSED), seed.pick(&OVERLAP))
}

fn expression(every: i64) -> String {
    format!("*/{every} * * * *")
}
