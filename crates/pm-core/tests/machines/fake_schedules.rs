//! The schedules of the fake database. The virtual clock starts at the beginning of 1970 in UTC.

use super::fake::{Fake, FakeJob, bound_of, ms_or_null, rows_of, timestamp};
use pm_core::{Cron, Instant, Plan, Rows, StatementId, Type, Value};

/// A schedule that fires every minute, each missed tick included.
#[derive(Debug)]
pub(super) struct FakeSchedule {
    pub(super) next_tick: Option<Instant>,
    pub(super) revision: i64,
    pub(super) zone: &'static str,
    /// Whether another transaction has locked its row or its queue's.
    pub(super) locked: bool,
    queue_id: i32,
}

impl Fake {
    /// Creates a schedule whose first tick is the next whole minute.
    pub(super) fn add_schedule(&mut self, queue_id: i32, now: Instant) -> i32 {
        let cron = Cron::new("* * * * *", "UTC").expect("a valid expression");
        let next_tick = bound_of(&Value::Timestamp(cron.next(timestamp(now)).expect("a next tick")));
        let id = self.schedules.len() as i32 + 1;
        self.schedules.insert(id, FakeSchedule { next_tick, revision: 1, zone: "UTC", locked: false, queue_id });
        id
    }

    /// Returns the keys of the jobs that schedules enqueued, in order.
    pub(super) fn fired(&self) -> Vec<&str> {
        let mut keys: Vec<_> = self.jobs.values().filter_map(|job| job.key.as_deref()).collect();
        keys.sort_unstable();
        keys
    }

    pub(super) fn run_schedules(&mut self, plan: &Plan<'_>, now: Instant) -> Rows {
        match plan.statement {
            StatementId::DueSchedules => self.due_schedules(plan, now),
            _ => self.fire_schedules(plan),
        }
    }

    fn due_schedules(&self, plan: &Plan<'_>, now: Instant) -> Rows {
        let [Value::Int8(limit), Value::Int8(skip)] = &plan.params[..] else {
            panic!("the fake does not know {plan:?}");
        };
        let is_due = |schedule: &&FakeSchedule| schedule.next_tick.is_some_and(|at| at <= now);
        let later = self.schedules.values().filter(|schedule| !is_due(schedule));
        let mut head: Vec<_> = [Type::Int4, Type::Int8, Type::Text, Type::Text, Type::Text].map(Value::Null).into();
        head.extend([Type::Int2; 3].map(Value::Null));
        head.push(Value::Timestamp(timestamp(now)));
        head.push(ms_or_null(later.filter_map(|schedule| schedule.next_tick).min(), now));
        let mut due: Vec<_> = self.schedules.iter().filter(|(_, schedule)| is_due(schedule)).collect();
        due.sort_by_key(|(id, schedule)| (schedule.next_tick, **id));
        let due = due.into_iter().skip(*skip as usize).take(*limit as usize).map(|(id, schedule)| {
            vec![
                Value::Int4(*id),
                Value::Int8(schedule.revision),
                Value::Text("s"),
                Value::Text("* * * * *"),
                Value::Text(schedule.zone),
                Value::Int2(2),
                Value::Int2(100),
                Value::Int2(0),
                Value::Timestamp(timestamp(schedule.next_tick.expect("a due schedule"))),
                Value::Null(Type::Int8),
            ]
        });
        rows_of(10, [head].into_iter().chain(due))
    }

    fn fire_schedules(&mut self, plan: &Plan<'_>) -> Rows {
        use Value::{Int4Array, Int8Array, TextArray, TimestampArray, UuidArray};
        let [
            Int4Array(ids),
            Int8Array(revisions),
            TimestampArray(from),
            TimestampArray(to),
            Int4Array(owners),
            UuidArray(jobs),
            TimestampArray(_),
            TextArray(keys),
        ] = &plan.params[..]
        else {
            panic!("the fake does not know {plan:?}");
        };
        let (mut moved, mut enqueued) = (0, 0);
        for index in 0..ids.len() {
            let id = ids[index].expect("set");
            let Some(schedule) = self.schedules.get_mut(&id) else { continue };
            let read = (schedule.next_tick.map(timestamp), Some(schedule.revision));
            if schedule.locked || read != (from[index], revisions[index]) {
                continue;
            }
            schedule.next_tick = to[index].and_then(|to| bound_of(&Value::Timestamp(to)));
            let queue_id = schedule.queue_id;
            moved += 1;
            for job in (0..jobs.len()).filter(|job| owners[*job] == Some(id)) {
                let (seq, key) = (Some(self.next_seq()), keys[job].as_deref().map(str::to_owned));
                let added = FakeJob { queue_id, seq, key, ..FakeJob::default() };
                assert!(self.jobs.insert(jobs[job].expect("set"), added).is_none(), "an id was used twice");
                enqueued += 1;
            }
        }
        rows_of(2, [vec![Value::Int8(moved), Value::Int8(enqueued)]].into_iter())
    }
}
