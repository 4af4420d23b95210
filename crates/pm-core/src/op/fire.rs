//! Firing schedules: enqueueing the jobs of ticks that have come.

use super::{all, odd};
use crate::operation::operation;
use crate::schedule::TICK_GRACE;
use crate::statement::{Declaration, roles};
use crate::time::from_ms;
use crate::wire::{Parameter, Rows, column, columns, optional_column};
use crate::{Cron, Error, Missed, Operation, Overlap, Params, StatementId, Tick, Timestamp, job_id};
use std::time::Duration;
use uuid::Uuid;

/// A firing stops after this many jobs. The missed ticks of one schedule are fired together, so it may be 99 more.
const MAX_JOBS: usize = 1_000;

/// Lists the schedules that are due. The default is the first request of a firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueSchedules {
    /// The maximum number of schedules (default 100).
    pub limit: usize,
    /// How many of the earliest to skip: those that this version was found unable to read (default 0).
    pub skip: usize,
}

impl Default for DueSchedules {
    fn default() -> Self {
        DueSchedules { limit: 100, skip: 0 }
    }
}

impl DueSchedules {
    /// Returns the request for the schedules after those of `reply`, if there may be any.
    ///
    /// To be sent if [none](FireSchedules::is_empty) of those in `reply` can be fired, because they stay due.
    pub fn beyond(&self, reply: &DueReply) -> Option<DueSchedules> {
        let is_full = !reply.due.is_empty() && reply.due.len() >= self.limit;
        is_full.then(|| DueSchedules { skip: self.skip.saturating_add(reply.due.len()), ..*self })
    }
}

/// The schedules that are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueReply {
    /// The database's time.
    pub now: Timestamp,
    /// The time until the next tick of the schedules that are not due; `None` if there is none.
    pub next_tick: Option<Duration>,
    /// The schedules that are due, earliest first.
    pub due: Vec<DueSchedule>,
}

/// A schedule whose tick has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueSchedule {
    schedule: DueColumns,
    tick: Timestamp,
}

columns! {
    /// A schedule that is due, and its tick; or, first and without a schedule, the time, and that until the next tick.
    pub struct DueRow {
        pub schedule: Option<DueColumns>,
        pub tick: Timestamp,
        pub next_ms: Option<i64>,
    }

    /// What a firing needs to know about a schedule.
    pub struct DueColumns {
        pub id: i32,
        pub revision: i64,
        pub name: String,
        pub cron: String,
        pub zone: String,
        pub missed: Missed,
        pub overlap: Overlap,
    }
}

impl Operation for DueSchedules {
    type Row = DueRow;
    type Output = DueReply;
    const DECLARATION: Declaration =
        Declaration::hot(StatementId::DueSchedules, include_str!("due_schedules.sql"), roles::WORK).repeatable();

    fn params(&self) -> Params<'_> {
        [self.limit, self.skip].map(usize::param).into()
    }

    fn interpret(&self, rows: &Rows) -> Result<DueReply, Error> {
        let mut rows = all::<Self>(rows)?.into_iter();
        let Some(DueRow { schedule: None, tick: now, next_ms }) = rows.next() else {
            return Err(odd::<Self>("no row with the time"));
        };
        let due = |row: DueRow| Some(DueSchedule { schedule: row.schedule?, tick: row.tick });
        Ok(DueReply { now, next_tick: next_ms.map(from_ms), due: rows.filter_map(due).collect() })
    }
}

impl DueSchedule {
    /// Returns the ticks to be fired at `now`, oldest first, and the next tick; `None` if this version does not know
    /// the stored expression, zone or policies.
    fn ticks(&self, now: Timestamp) -> Option<(Vec<Timestamp>, Option<Timestamp>)> {
        let cron = Cron::new(&self.schedule.cron, &self.schedule.zone).ok()?;
        let grace_us = i64::try_from(TICK_GRACE.as_micros()).unwrap_or(i64::MAX);
        let on_time = Timestamp::from_unix_us(now.unix_us().saturating_sub(grace_us));
        let (from, most) = match self.schedule.missed {
            Missed::Skip => (self.tick.max(on_time), usize::from(Missed::MOST)),
            Missed::Once => (self.tick, 1),
            Missed::All(most) => (self.tick, usize::from(most)),
            Missed::Unknown(_) => return None,
        };
        let most = match self.schedule.overlap {
            Overlap::Allow => most,
            Overlap::Skip => 1,
            Overlap::Unknown(_) => return None,
        };
        Some((cron.latest(from, now, most), cron.next(now)))
    }
}

/// Inserts the jobs of due ticks and advances the schedules to their next ticks. Each tick is fired once, however many
/// processes fire it and however often this is sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FireSchedules {
    advances: Vec<Advance>,
    jobs: Vec<TickJob>,
}

/// A schedule to be advanced from one tick to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Advance {
    id: i32,
    revision: i64,
    from: Timestamp,
    to: Option<Timestamp>,
}

/// A job to be inserted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TickJob {
    schedule_id: i32,
    id: Uuid,
    at: Timestamp,
    key: String,
}

columns! {
    /// The result of a firing.
    #[derive(Copy, Default)]
    pub struct Fired {
        /// How many schedules were advanced. The others were advanced or locked by another process.
        pub schedules: u64 as "fired",
        /// How many jobs were inserted.
        pub jobs: u64,
    }
}

impl FireSchedules {
    /// Returns the operation that fires the schedules of `reply`. `random` is a source of random bits.
    ///
    /// It fires at least one schedule, and stops after about 1,000 jobs: list the due schedules again for the others. A
    /// schedule whose expression, zone or policies this version does not know is left to a newer version.
    pub fn of(reply: &DueReply, mut random: impl FnMut() -> u64) -> Self {
        let mut fire = FireSchedules::default();
        for due in &reply.due {
            let Some((ticks, to)) = due.ticks(reply.now) else { continue };
            fire.advances.push(Advance { id: due.schedule.id, revision: due.schedule.revision, from: due.tick, to });
            for at in ticks {
                let id = id_at(reply.now, [random(), random()]);
                let key = Tick { schedule: due.schedule.name.clone(), at }.key();
                fire.jobs.push(TickJob { schedule_id: due.schedule.id, id, at, key });
            }
            if fire.jobs.len() >= MAX_JOBS {
                break;
            }
        }
        fire
    }

    /// Returns whether there is nothing to fire.
    pub fn is_empty(&self) -> bool {
        self.advances.is_empty()
    }
}

/// Returns the id of a job that is enqueued at this time.
fn id_at(now: Timestamp, random: [u64; 2]) -> Uuid {
    let bytes = random.map(u64::to_ne_bytes).concat();
    let unix_ms = u64::try_from(now.unix_us() / 1_000).unwrap_or_default();
    job_id(unix_ms, *bytes.first_chunk().expect("two u64 are 16 bytes"))
}

operation! {
    FireSchedules: only Fired;
    Declaration::hot(StatementId::FireSchedules, include_str!("fire_schedules.sql"), roles::WORK);
    fn params(&self) -> Params<'_> {
        vec![
            column(&self.advances, |advance| advance.id),
            column(&self.advances, |advance| advance.revision),
            column(&self.advances, |advance| advance.from),
            optional_column(&self.advances, |advance| advance.to),
            column(&self.jobs, |job| job.schedule_id),
            column(&self.jobs, |job| job.id),
            column(&self.jobs, |job| job.at),
            column(&self.jobs, |job| &*job.key),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_unix_us(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    fn due(id: i32, missed: Missed, overlap: Overlap, tick: &str) -> DueSchedule {
        let schedule = DueColumns {
            id,
            revision: 7,
            name: format!("s{id}"),
            cron: "*/10 * * * *".to_owned(),
            zone: "Europe/Berlin".to_owned(),
            missed,
            overlap,
        };
        DueSchedule { schedule, tick: at(tick) }
    }

    fn fired(schedules: Vec<DueSchedule>, now: &str) -> FireSchedules {
        let mut count = 0;
        FireSchedules::of(&DueReply { now: at(now), next_tick: None, due: schedules }, || {
            count += 1;
            count
        })
    }

    fn keys(missed: Missed, overlap: Overlap, now: &str) -> Vec<String> {
        let fire = fired(vec![due(1, missed, overlap, "2026-11-22T16:00:00Z")], now);
        fire.jobs.into_iter().map(|job| job.key.trim_start_matches("s1@2026-11-22T").to_owned()).collect()
    }

    #[test]
    fn a_tick_on_time_is_fired_whatever_the_policies() {
        for missed in [Missed::Skip, Missed::Once, Missed::All(3)] {
            for overlap in [Overlap::Allow, Overlap::Skip] {
                assert_eq!(keys(missed, overlap, "2026-11-22T16:00:00.003Z"), ["16:00:00Z"], "{missed} {overlap}");
            }
        }
    }

    #[test]
    fn each_policy_is_applied_to_missed_ticks() {
        let none = [""; 0];
        let late = "2026-11-22T16:45:00Z";
        assert_eq!(keys(Missed::Skip, Overlap::Allow, late), none);
        assert_eq!(keys(Missed::Once, Overlap::Allow, late), ["16:40:00Z"]);
        assert_eq!(keys(Missed::All(3), Overlap::Allow, late), ["16:20:00Z", "16:30:00Z", "16:40:00Z"]);
        assert_eq!(keys(Missed::All(100), Overlap::Allow, late).len(), 5);
        assert_eq!(keys(Missed::All(3), Overlap::Skip, late), ["16:40:00Z"]);
        // A tick is on time for one minute.
        assert_eq!(keys(Missed::Skip, Overlap::Allow, "2026-11-22T16:01:00Z"), ["16:00:00Z"]);
        assert_eq!(keys(Missed::Skip, Overlap::Allow, "2026-11-22T16:01:00.000001Z"), none);
        assert_eq!(keys(Missed::Skip, Overlap::Skip, "2026-11-22T16:10:30Z"), ["16:10:00Z"]);
    }

    #[test]
    fn a_schedule_is_advanced_from_the_tick_it_was_read_with_to_the_next_after_now() {
        let fire = fired(vec![due(1, Missed::Skip, Overlap::Allow, "2026-11-22T16:00:00Z")], "2026-11-22T16:45:00Z");
        let to = Some(at("2026-11-22T16:50:00Z"));
        assert_eq!(fire.advances, [Advance { id: 1, revision: 7, from: at("2026-11-22T16:00:00Z"), to }]);
        assert!(!fire.is_empty());
    }

    #[test]
    fn ids_contain_the_databases_time_and_all_differ() {
        let schedules = (1..=3).map(|id| due(id, Missed::All(5), Overlap::Allow, "2026-11-22T16:00:00Z")).collect();
        let fire = fired(schedules, "2026-11-22T16:45:00Z");
        let ids: std::collections::BTreeSet<_> = fire.jobs.iter().map(|job| job.id).collect();
        assert_eq!(ids.len(), 15);
        let made_ms = ids.iter().map(|id| id.get_timestamp().map(|made| made.to_unix()));
        assert!(made_ms.clone().all(|made| made == Some((1_795_365_900, 0))), "{:?}", made_ms.collect::<Vec<_>>());
    }

    #[test]
    fn a_schedule_that_cannot_be_read_does_not_delay_the_others() {
        let whole = due(2, Missed::Once, Overlap::Allow, "2026-11-22T16:00:00Z");
        let with = |schedule: DueColumns| DueSchedule { schedule, ..whole.clone() };
        let odd = with(DueColumns { id: 1, zone: "Europe/Atlantis".to_owned(), ..whole.schedule.clone() });
        let newer = with(DueColumns { id: 3, missed: Missed::Unknown(3), ..whole.schedule.clone() });
        let newest = with(DueColumns { id: 4, overlap: Overlap::Unknown(2), ..whole.schedule.clone() });
        let fire = fired(vec![odd.clone(), newer, newest, whole.clone()], "2026-11-22T16:05:00Z");
        assert_eq!(fire.advances.iter().map(|advance| advance.id).collect::<Vec<_>>(), [2]);
        assert!(fired(vec![odd], "2026-11-22T16:05:00Z").is_empty());
    }

    #[test]
    fn a_full_list_is_continued() {
        let full = vec![due(1, Missed::Unknown(3), Overlap::Allow, "2026-11-22T16:00:00Z"); 2];
        let reply = |due| DueReply { now: at("2026-11-22T16:00:00Z"), next_tick: None, due };
        let request = DueSchedules { limit: 2, skip: 40 };
        assert_eq!(request.beyond(&reply(full.clone())), Some(DueSchedules { limit: 2, skip: 42 }));
        assert_eq!(request.beyond(&reply(full[..1].to_vec())), None);
        assert_eq!(DueSchedules { limit: 0, skip: 0 }.beyond(&reply(Vec::new())), None);
    }

    #[test]
    fn a_firing_is_bounded() {
        let many = (0..100).map(|id| due(id, Missed::All(100), Overlap::Allow, "2020-01-01T00:00:00Z")).collect();
        let fire = fired(many, "2026-11-22T16:05:00Z");
        assert_eq!((fire.jobs.len(), fire.advances.len()), (1_000, 10));
    }

    #[test]
    fn odd_rows_are_errors() {
        let rows = |columns: usize, rows: usize| {
            let mut builder = Rows::builder(columns);
            (0..columns * rows).for_each(|_| builder.push(Some(b"odd")));
            builder.finish()
        };
        for odd in [rows(10, 0), rows(10, 1), rows(2, 1)] {
            assert!(DueSchedules::default().interpret(&odd).is_err());
            assert!(FireSchedules::default().interpret(&odd).is_err());
        }
    }
}
