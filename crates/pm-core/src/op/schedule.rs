//! Operations on schedules.

use super::{all, at_most_one, odd};
use crate::statement::{Declaration, roles};
use crate::time::whole_ms;
use crate::wire::{Parameter, Rows, Type, Value, column, columns};
use crate::{Error, NewSchedule, Operation, Params, ScheduleMetadata, ScheduleName, StatementId, Timestamp};

/// Lists schedules by name, with the database's time, from which their next ticks are computed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListSchedules {
    /// Only this schedule, with its payload; `None` lists all, without payloads.
    pub name: Option<ScheduleName>,
}

/// Schedules, and the time when they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleReading {
    /// The database's time.
    pub now: Timestamp,
    /// The schedules, sorted by name.
    pub schedules: Vec<ScheduleMetadata>,
}

impl Operation for ListSchedules {
    type Row = ScheduleRow;
    type Output = ScheduleReading;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::ListSchedules, include_str!("list_schedules.sql"), roles::READ);

    fn params(&self) -> Params<'_> {
        vec![self.name.as_ref().map(|name| name.as_str()).param()]
    }

    fn interpret(&self, rows: &Rows) -> Result<ScheduleReading, Error> {
        let rows = all::<Self>(rows)?;
        let now = rows.first().ok_or_else(|| odd::<Self>("no row"))?.read_at;
        Ok(ScheduleReading { now, schedules: rows.into_iter().filter_map(|row| row.schedule).collect() })
    }
}

columns! {
    /// A schedule, if there is one, and the time.
    pub struct ScheduleRow {
        pub read_at: Timestamp,
        pub schedule: Option<ScheduleMetadata>,
    }
}

/// Creates a schedule, or replaces the one of that name. Returns whether it was created.
///
/// A paused schedule stays paused. While the expression and the zone stay the same, so does the next tick: a program
/// that sets a schedule at every start loses no tick that is due.
#[derive(Debug, Clone, PartialEq)]
pub struct SetSchedule {
    /// The schedule, which must have passed [`NewSchedule::check`].
    pub schedule: NewSchedule,
    /// Its next tick, unless it already exists and keeps the one that it has.
    pub next_tick: Option<Timestamp>,
}

impl SetSchedule {
    /// Returns the operation that sets a schedule. `now` is the database's time, after which its first tick comes.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for the first value that breaks a rule.
    pub fn new(schedule: NewSchedule, now: Timestamp) -> Result<Self, Error> {
        schedule.check()?;
        let next_tick = schedule.cron.next(now);
        Ok(SetSchedule { schedule, next_tick })
    }
}

impl Operation for SetSchedule {
    type Row = bool;
    type Output = bool;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::SetSchedule, include_str!("set_schedule.sql"), roles::OPERATE).human_text(9);

    fn params(&self) -> Params<'_> {
        let NewSchedule { name, queue, cron, missed, overlap, payload, options } = &self.schedule;
        let (missed, limit) = missed.code();
        let table = options.retry.backoff.as_ref().map(|table| column(table, |delay| whole_ms(*delay)));
        vec![
            Value::Text(name.as_str()),
            Value::Text(queue.as_str()),
            Value::Text(cron.expression()),
            Value::Text(cron.zone()),
            Value::Int2(missed),
            limit.param(),
            Value::Int2(overlap.code()),
            self.next_tick.param(),
            Value::Int4(options.priority),
            options.description.as_deref().param(),
            options.retry.max_retries.map(|retries| retries as i32).param(),
            table.unwrap_or(Value::Null(Type::Int8Array)),
            options.retry.jitter_percent.map(i16::from).param(),
            Value::Int2(options.codec.code()),
            Value::Bytes(payload),
        ]
    }

    fn interpret(&self, rows: &Rows) -> Result<bool, Error> {
        at_most_one::<Self>(rows)?.ok_or_else(|| Error::QueueNotFound(self.schedule.queue.to_string()))
    }
}

/// Pauses or resumes a schedule. Returns whether there was one of that name and, to resume it, of that revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldSchedule {
    name: ScheduleName,
    paused: bool,
    next_tick: Option<Timestamp>,
    /// The required revision, if any.
    revision: Option<i64>,
}

impl HoldSchedule {
    /// Returns the operation that pauses a schedule. A paused one stays paused.
    pub fn pause(name: ScheduleName) -> Self {
        HoldSchedule { name, paused: true, next_tick: None, revision: None }
    }

    /// Returns the operation that resumes a paused schedule from the time when it was read, provided that it has not
    /// been changed since; `None` for a schedule that is not paused.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if this version does not know the stored expression or zone.
    pub fn resume(found: &ScheduleMetadata) -> Result<Option<Self>, Error> {
        if !found.paused {
            return Ok(None);
        }
        let next_tick = crate::Cron::new(&found.cron, &found.zone)?.next(found.read_at);
        let (name, revision) = (ScheduleName::new(&found.name)?, Some(found.revision));
        Ok(Some(HoldSchedule { name, paused: false, next_tick, revision }))
    }
}

impl Operation for HoldSchedule {
    type Row = i32;
    type Output = bool;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::HoldSchedule, include_str!("hold_schedule.sql"), roles::OPERATE);

    fn params(&self) -> Params<'_> {
        vec![Value::Text(self.name.as_str()), Value::Bool(self.paused), self.next_tick.param(), self.revision.param()]
    }

    fn interpret(&self, rows: &Rows) -> Result<bool, Error> {
        Ok(at_most_one::<Self>(rows)?.is_some())
    }
}

/// Deletes a schedule. The jobs that it has made stay. Returns whether there was one of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteSchedule {
    /// Its name.
    pub name: ScheduleName,
}

impl Operation for DeleteSchedule {
    type Row = i32;
    type Output = bool;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::DeleteSchedule, include_str!("delete_schedule.sql"), roles::OPERATE);

    fn params(&self) -> Params<'_> {
        vec![Value::Text(self.name.as_str())]
    }

    fn interpret(&self, rows: &Rows) -> Result<bool, Error> {
        Ok(at_most_one::<Self>(rows)?.is_some())
    }
}
