//! Operations on schedules.

use crate::statement::{ConnectionClass, Declaration, roles};
use crate::time::whole_ms;
use crate::wire::{Rows, Type, Value};
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
    type Output = ScheduleReading;
    const STATEMENT: StatementId = StatementId::ListSchedules;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("list_schedules.sql"), ConnectionClass::Operator, roles::READ);
    const COLUMNS: &'static [Type] = &[
        Type::Timestamp,
        Type::Text,
        Type::Text,
        Type::Text,
        Type::Text,
        Type::Int2,
        Type::Int2,
        Type::Int2,
        Type::Bool,
        Type::Timestamp,
        Type::Timestamp,
        Type::Uuid,
        Type::Int4,
        Type::Text,
        Type::Int4,
        Type::Int8Array,
        Type::Int2,
        Type::Int2,
        Type::Int8,
        Type::Bytes,
        Type::Int8,
    ];

    fn params(&self) -> Params<'_> {
        vec![self.name.as_ref().map_or(Value::Null(Type::Text), |name| Value::Text(name.as_str()))]
    }

    fn interpret(self, rows: &Rows) -> Result<ScheduleReading, Error> {
        let mut reading: Option<ScheduleReading> = None;
        for mut row in rows.iter(Self::STATEMENT) {
            let now = row.read()?;
            let reading = reading.get_or_insert_with(|| ScheduleReading { now, schedules: Vec::new() });
            if let Some(name) = row.read()? {
                reading.schedules.push(ScheduleMetadata::read(&mut row, now, name)?);
            }
        }
        reading.ok_or_else(|| Error::Reply { statement: Self::STATEMENT, problem: "no row".to_owned() })
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
    type Output = bool;
    const STATEMENT: StatementId = StatementId::SetSchedule;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("set_schedule.sql"), ConnectionClass::Operator, roles::OPERATE).human_text(9);
    const COLUMNS: &'static [Type] = &[Type::Bool];

    fn params(&self) -> Params<'_> {
        let NewSchedule { name, queue, cron, missed, overlap, payload, options } = &self.schedule;
        let (missed, limit) = missed.code();
        let table = |table: &Vec<_>| Value::Int8Array(table.iter().map(|delay| Some(whole_ms(*delay))).collect());
        let retries = |retries| Value::Int4(i32::try_from(retries).unwrap_or(i32::MAX));
        vec![
            Value::Text(name.as_str()),
            Value::Text(queue.as_str()),
            Value::Text(cron.expression()),
            Value::Text(cron.zone()),
            Value::Int2(missed),
            limit.map_or(Value::Null(Type::Int2), Value::Int2),
            Value::Int2(overlap.code()),
            self.next_tick.map_or(Value::Null(Type::Timestamp), Value::Timestamp),
            Value::Int4(options.priority),
            options.description.as_deref().map_or(Value::Null(Type::Text), Value::Text),
            options.retry.max_retries.map_or(Value::Null(Type::Int4), retries),
            options.retry.backoff.as_ref().map_or(Value::Null(Type::Int8Array), table),
            options.retry.jitter_percent.map_or(Value::Null(Type::Int2), |percent| Value::Int2(i16::from(percent))),
            Value::Int2(options.codec.code()),
            Value::Bytes(payload),
        ]
    }

    fn interpret(self, rows: &Rows) -> Result<bool, Error> {
        let row = rows.at_most_one(Self::STATEMENT)?;
        row.ok_or_else(|| Error::QueueNotFound(self.schedule.queue.to_string()))?.read()
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
    type Output = bool;
    const STATEMENT: StatementId = StatementId::HoldSchedule;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("hold_schedule.sql"), ConnectionClass::Operator, roles::OPERATE);
    const COLUMNS: &'static [Type] = &[Type::Int4];

    fn params(&self) -> Params<'_> {
        vec![
            Value::Text(self.name.as_str()),
            Value::Bool(self.paused),
            self.next_tick.map_or(Value::Null(Type::Timestamp), Value::Timestamp),
            self.revision.map_or(Value::Null(Type::Int8), Value::Int8),
        ]
    }

    fn interpret(self, rows: &Rows) -> Result<bool, Error> {
        Ok(rows.at_most_one(Self::STATEMENT)?.is_some())
    }
}

/// Deletes a schedule. The jobs that it has made stay. Returns whether there was one of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteSchedule {
    /// Its name.
    pub name: ScheduleName,
}

impl Operation for DeleteSchedule {
    type Output = bool;
    const STATEMENT: StatementId = StatementId::DeleteSchedule;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("delete_schedule.sql"), ConnectionClass::Operator, roles::OPERATE);
    const COLUMNS: &'static [Type] = &[Type::Int4];

    fn params(&self) -> Params<'_> {
        vec![Value::Text(self.name.as_str())]
    }

    fn interpret(self, rows: &Rows) -> Result<bool, Error> {
        Ok(rows.at_most_one(Self::STATEMENT)?.is_some())
    }
}
