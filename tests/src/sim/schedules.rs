//! Operators' actions on schedules, and schedules that have not been fired for a long time.

use super::stack::Process;
use super::worker::QUEUES;
use super::world::World;
use futures_util::future::join;
use pm_core::op::SetSchedule;
use pm_core::{EnqueueOptions, NewSchedule, Operation, StatementId};
use pm_queue::{Cron, Missed, Overlap, Queue, QueueName, Schedule, ScheduleName, Timestamp};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const NAMES: [&str; 3] = ["often", "seldom", "never twice"];
/// Minutes between ticks; each divides the hour.
const EVERY: [i64; 3] = [1, 2, 5];
const MISSED: [Missed; 4] = [Missed::Skip, Missed::Once, Missed::All(2), Missed::All(100)];
const OVERLAP: [Overlap; 2] = [Overlap::Allow, Overlap::Skip];
const MINUTE_US: i64 = 60_000_000;
/// How many schedules `neglect` leaves at most.
const MOST: usize = 5;

/// Does an operator's action on a schedule. Errors are ignored.
pub(super) async fn schedule(process: &Arc<Process>, queue: &Queue) {
    let world = &process.world;
    let name = NAMES[world.below(3) as usize];
    match world.below(12) {
        0..4 => drop(queue.set_schedule(name, drawn_schedule(world), 0u64).await),
        4 => drop(queue.pause_schedule(name).await),
        5..7 => drop(queue.resume_schedule(name).await),
        7 => drop(queue.delete_schedule(name).await),
        8 => drop((queue.list_schedules().await, queue.schedule(name).await)),
        9 => drop(join(queue.fire_schedules(), queue.set_schedule(name, drawn_schedule(world), 0u64)).await),
        _ => drop(queue.fire_schedules().await),
    }
}

/// Adds a schedule that has not been fired for up to 20 minutes; deletes the oldest if there are too many.
pub(super) fn neglect(world: &World) {
    if !world.has_schedules {
        return;
    }
    world.database.change(|tables| {
        while tables.schedule.len() >= MOST {
            tables.schedule.pop_first();
        }
    });
    let (queue_name, every, missed, overlap) = drawn(world);
    let late = world.below(20 * MINUTE_US as u64) as i64;
    let then = (world.now().unix_us() - late) / (every * MINUTE_US) * every * MINUTE_US;
    let schedule = NewSchedule {
        name: ScheduleName::new(&format!("old {}", world.intents.fetch_add(1, Ordering::Relaxed)))
            .expect("the name is valid"),
        queue: QueueName::new(queue_name).expect("the name is valid"),
        cron: Cron::new(&expression(every), "UTC").expect("the expression is valid"),
        missed,
        overlap,
        payload: "0".into(),
        options: EnqueueOptions::default(),
    };
    let set = SetSchedule { schedule, next_tick: Some(Timestamp::from_unix_us(then)) };
    let statement = world.catalog.statement(StatementId::SetSchedule);
    world.database.answer(statement, &set.params()).expect("it can be set");
}

/// Returns a queue, the minutes between ticks, and the policies.
fn drawn(world: &World) -> (&'static str, i64, Missed, Overlap) {
    let mut seed = world.chance();
    (seed.pick(&QUEUES), seed.pick(&EVERY), seed.pick(&MISSED), seed.pick(&OVERLAP))
}

fn drawn_schedule(world: &World) -> Schedule {
    let (queue, every, missed, overlap) = drawn(world);
    Schedule::new(queue, expression(every)).missed(missed).overlap(overlap)
}

fn expression(every: i64) -> String {
    format!("*/{every} * * * *")
}
