//! Which changes schedules may have. Ticks are computed here by division: they come every few minutes.

use super::Auditor;
use super::changes::Step;
use crate::sim::owned::column;
use pm_core::StatementId;
use pm_driver_memory::{ScheduleRow, Tables};
use pm_queue::driver::Value;
use pm_queue::{Tick, Timestamp, Uuid};
use std::collections::{BTreeMap, BTreeSet};

const MINUTE_US: i64 = 60_000_000;
/// A tick that is later than this counts as missed.
const GRACE_US: i64 = MINUTE_US;
/// Without faults, how long a tick waits at most.
const LATEST_US: i64 = 10_000_000;

/// What has been recorded about schedules.
#[derive(Default)]
pub(super) struct Ticks {
    /// When a process read that a schedule is due, by its id, revision and next tick.
    looks: BTreeMap<(i32, i64, Timestamp), Vec<i64>>,
    /// The ticks that made a job, by the schedule's id.
    fired: BTreeSet<(i32, Timestamp)>,
}

/// What a firing does to one schedule.
struct Firing {
    id: i32,
    revision: i64,
    from: Timestamp,
    to: Option<Timestamp>,
    /// Its ticks, oldest first, with the job and the key of each.
    ticks: Vec<(Timestamp, Uuid, String)>,
}

impl Auditor {
    /// Judges what a statement did to schedules.
    pub(super) fn judge_schedules(&mut self, step: &Step<'_>, after: &Tables) {
        if step.statement == StatementId::DueSchedules {
            for schedule in step.before.schedule.values() {
                if let Some(tick) = schedule.next_tick.filter(|tick| *tick <= step.now) {
                    let looks = self.ticks.looks.entry((schedule.id, schedule.revision, tick)).or_default();
                    looks.push(step.now.unix_us());
                }
            }
        }
        let firings = if step.statement == StatementId::FireSchedules { firings(step.params) } else { Vec::new() };
        let mut made = 0;
        for firing in &firings {
            match self.judge_firing(step, after, firing) {
                Ok(jobs) => made += jobs,
                Err(problem) => self.violate(format!(
                    "a tick makes one job: {problem}: schedule {} moves from {:?} to {:?} with {:?}: it was {:?} and is {:?}",
                    firing.id,
                    firing.from,
                    firing.to,
                    firing.ticks,
                    step.before.schedule.get(&firing.id),
                    after.schedule.get(&firing.id)
                )),
            }
        }
        self.tally.ticks += made;
        if step.statement == StatementId::FireSchedules
            && step.before.job.len() as u64 + made != after.job.len() as u64
            && !self.is_violated()
        {
            self.violate("a tick makes one job: a firing made more".to_owned());
        }
        for (id, old) in &step.before.schedule {
            if firings.iter().all(|firing| firing.id != *id)
                && let Some(problem) = step.wrong_change(old, after.schedule.get(id))
            {
                let new = after.schedule.get(id);
                self.violate(format!("{:?}: {problem}: from {old:?} to {new:?}", step.statement));
            }
        }
        if after.schedule.values().any(|schedule| schedule.paused == schedule.next_tick.is_some()) {
            self.violate(format!("after {:?}: a schedule is paused or has a next tick", step.statement));
        }
        self.expect_ticks(after, step.now);
    }

    /// Judges that without faults no tick waits for long.
    pub(in crate::sim) fn expect_ticks(&mut self, tables: &Tables, now: Timestamp) {
        let Some(since) = self.peace_since else { return };
        let since_us = crate::sim::world::START_US + since as i64;
        let timeout_us = self.link.timeout_us(LATEST_US as u64) as i64;
        let is_late = |schedule: &&ScheduleRow| {
            let is_open = tables.queue.get(&schedule.queue_id).is_some_and(|queue| queue.name.is_some());
            let due_us = schedule.next_tick.map(|tick| tick.unix_us().max(since_us));
            is_open && due_us.is_some_and(|due_us| due_us + timeout_us < now.unix_us())
        };
        if let Some(schedule) = tables.schedule.values().find(is_late) {
            self.violate(format!("schedules keep firing: at {now:?} no process has fired {schedule:?}"));
        }
    }

    /// Returns how many jobs a firing made for a schedule, or what is wrong with it.
    fn judge_firing(&mut self, step: &Step<'_>, after: &Tables, firing: &Firing) -> Result<u64, &'static str> {
        let (old, new) = (step.before.schedule.get(&firing.id), after.schedule.get(&firing.id));
        let is_open = |id| step.before.queue.get(&id).is_some_and(|queue| queue.name.is_some());
        let is_as_read = |old: &&ScheduleRow| (old.revision, old.next_tick) == (firing.revision, Some(firing.from));
        let Some(old) = old.filter(is_as_read).filter(|old| is_open(old.queue_id)) else {
            let is_left = old == new && firing.ticks.iter().all(|(_, id, _)| is_old_or_absent(step, after, id));
            return if is_left { Ok(0) } else { Err("it was changed or fired since it was read") };
        };
        let looks = self.ticks.looks.get(&(firing.id, firing.revision, firing.from));
        let ticks: Vec<_> = firing.ticks.iter().map(|(at, ..)| at.unix_us()).collect();
        let is_correct = |looked_at: &i64| {
            let to = firing.to.map(Timestamp::unix_us);
            to == Some(next(old, *looked_at)) && ticks == required(old, firing.from.unix_us(), *looked_at)
        };
        if !looks.is_some_and(|looks| looks.iter().any(is_correct)) {
            return Err("at no read did its policy require that");
        }
        let last = old.last_job.and_then(|id| step.before.job.get(&id));
        let overlaps = old.overlap == 1 && last.is_some_and(|job| job.state < 2);
        let (mut made, mut latest) = (0, (old.last_tick, old.last_job));
        for (at, id, key) in &firing.ticks {
            let is_taken = step
                .before
                .job
                .values()
                .any(|job| job.queue_id == old.queue_id && job.reserved_key.as_ref() == Some(key) || job.id == *id);
            let is_past = old.last_tick >= Some(*at) || self.ticks.fired.contains(&(old.id, *at));
            let is_made = !is_old_or_absent(step, after, id);
            let is_excused = overlaps || is_taken || is_past;
            if is_made == is_excused {
                return Err(if is_made { "a tick makes a second job, or overlaps" } else { "a tick is lost" });
            }
            if is_made {
                self.ticks.fired.insert((old.id, *at));
                (made, latest) = (made + 1, (Some(*at), Some(*id)));
                if Tick::from_key(key) != Some(Tick { schedule: old.name.clone(), at: *at }) {
                    return Err("its key does not name the tick");
                }
            }
        }
        let (last_tick, last_job) = latest;
        let moved = ScheduleRow { next_tick: firing.to, last_tick, last_job, ..old.clone() };
        if new == Some(&moved) { Ok(made) } else { Err("it is not advanced as the firing states") }
    }
}

fn is_old_or_absent(step: &Step<'_>, after: &Tables, id: &Uuid) -> bool {
    step.before.job.contains_key(id) || !after.job.contains_key(id)
}

impl Step<'_> {
    /// Returns what is wrong with a change of a schedule by a statement that is not a firing.
    fn wrong_change(&self, old: &ScheduleRow, new: Option<&ScheduleRow>) -> Option<&'static str> {
        let Some(new) = new else {
            let takes = [StatementId::DeleteSchedule, StatementId::BeginQueueDeletion, StatementId::DeleteEmptyQueues];
            return (!takes.contains(&self.statement)).then_some("a schedule is gone");
        };
        if old == new {
            return None;
        }
        let last = (new.last_tick, new.last_job) == (old.last_tick, old.last_job);
        let is_kept = (&old.cron, &old.zone) == (&new.cron, &new.zone) && !old.paused;
        let is_right = match self.statement {
            StatementId::HoldSchedule => {
                let ScheduleRow { paused, next_tick, revision, .. } = new.clone();
                *new == ScheduleRow { paused, next_tick, revision, ..old.clone() }
            }
            StatementId::SetSchedule => new.paused == old.paused && (!is_kept || new.next_tick == old.next_tick),
            _ => false,
        };
        let is_counted = new.revision == old.revision + 1;
        (!(last && is_counted && is_right)).then_some("a change of a schedule that the statement must not make")
    }
}

/// Returns the microseconds between the ticks of a schedule.
fn period(schedule: &ScheduleRow) -> i64 {
    let every = schedule.cron.strip_prefix("*/").and_then(|rest| rest.split(' ').next()?.parse().ok());
    MINUTE_US * every.unwrap_or(1)
}

fn next(schedule: &ScheduleRow, now_us: i64) -> i64 {
    (now_us.div_euclid(period(schedule)) + 1) * period(schedule)
}

/// Returns the ticks that the policies require to be fired.
fn required(schedule: &ScheduleRow, from_us: i64, now_us: i64) -> Vec<i64> {
    let period = period(schedule);
    let first = (from_us + period - 1).div_euclid(period) * period;
    let mut ticks: Vec<_> = (first..=now_us).step_by(period as usize).collect();
    let most = match schedule.missed {
        0 => {
            ticks.retain(|tick| now_us - tick <= GRACE_US);
            100
        }
        1 => 1,
        _ => schedule.missed_limit.unwrap_or_default() as usize,
    };
    let most = if schedule.overlap == 1 { 1 } else { most };
    ticks.split_off(ticks.len().saturating_sub(most))
}

/// Returns what a firing does to each schedule.
fn firings(params: &[Value<'_>]) -> Vec<Firing> {
    let [
        Value::Int4Array(ids),
        Value::Int8Array(revisions),
        Value::TimestampArray(from),
        to,
        Value::Int4Array(owners),
        Value::UuidArray(jobs),
        Value::TimestampArray(ticks),
        Value::TextArray(keys),
    ] = params
    else {
        panic!("the auditor does not know these parameters of a firing: {params:?}");
    };
    let to = if let Value::TimestampArray(to) = to { to.clone() } else { vec![None; ids.len()] };
    let (ids, revisions, from, owners) = (column(ids), column(revisions), column(from), column(owners));
    let (jobs, ticks) = (column(jobs), column(ticks));
    let keys: Vec<_> = keys.iter().map(|key| key.as_deref().unwrap_or_default().to_owned()).collect();
    let firing = |(n, id): (usize, &i32)| {
        let indexes = owners.iter().enumerate().filter(|(_, owner)| *owner == id).map(|(index, _)| index);
        let ticks = indexes.map(|index| (ticks[index], jobs[index], keys[index].clone())).collect();
        Firing { id: *id, revision: revisions[n], from: from[n], to: to[n], ticks }
    };
    ids.iter().enumerate().map(firing).collect()
}
