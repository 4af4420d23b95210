//! Operations on queues.

use crate::statement::{ConnectionClass, Declaration, roles};
use crate::time::whole_ms;
use crate::wire::{Row, Rows, Type, Value};
use crate::{Error, Operation, Params, QueueName, QueueSettings, SettingsChange, State, StatementId};

/// Creates a queue, unless one of this name exists, which is left as it is. Returns whether it was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateQueue {
    /// Its name.
    pub name: QueueName,
    /// Whether it starts paused.
    pub paused: bool,
}

impl Operation for CreateQueue {
    type Output = bool;
    const STATEMENT: StatementId = StatementId::CreateQueue;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("create_queue.sql"), ConnectionClass::Operator, roles::OPERATE);
    const COLUMNS: &'static [Type] = &[Type::Int4];

    fn params(&self) -> Params<'_> {
        vec![Value::Text(self.name.as_str()), Value::Bool(self.paused)]
    }

    fn interpret(self, rows: &Rows) -> Result<bool, Error> {
        Ok(rows.at_most_one(Self::STATEMENT)?.is_some())
    }
}

/// Pauses a queue: one write, whatever the number of jobs. Returns the id of the queue, for [`CountPending`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseQueue {
    /// Its name.
    pub name: QueueName,
}

impl Operation for PauseQueue {
    type Output = i32;
    const STATEMENT: StatementId = StatementId::PauseQueue;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("pause_queue.sql"), ConnectionClass::Operator, roles::OPERATE).repeatable();
    const COLUMNS: &'static [Type] = &[Type::Int4];

    fn params(&self) -> Params<'_> {
        vec![Value::Text(self.name.as_str())]
    }

    fn interpret(self, rows: &Rows) -> Result<i32, Error> {
        found(rows.at_most_one(Self::STATEMENT)?, &self.name)?.read()
    }
}

/// Resumes a queue, and the jobs that were enqueued as paused. The cost grows with the number of pending jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeQueue {
    /// Its name.
    pub name: QueueName,
}

/// The result of a resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    /// The id of the queue.
    pub queue_id: i32,
    /// How many jobs are no longer paused, including those that had been paused individually.
    pub freed: u64,
}

impl Operation for ResumeQueue {
    type Output = Resumed;
    const STATEMENT: StatementId = StatementId::ResumeQueue;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("resume_queue.sql"), ConnectionClass::Operator, roles::OPERATE);
    const COLUMNS: &'static [Type] = &[Type::Int4, Type::Int8];

    fn params(&self) -> Params<'_> {
        vec![Value::Text(self.name.as_str())]
    }

    fn interpret(self, rows: &Rows) -> Result<Resumed, Error> {
        let mut row = found(rows.at_most_one(Self::STATEMENT)?, &self.name)?;
        Ok(Resumed { queue_id: row.read()?, freed: row.count()? })
    }
}

/// Follow-up of [`PauseQueue`]: counts the pending jobs of a queue. The cost grows with their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountPending {
    /// The id of the queue.
    pub queue_id: i32,
}

impl Operation for CountPending {
    type Output = u64;
    const STATEMENT: StatementId = StatementId::CountPending;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("count_pending.sql"), ConnectionClass::Operator, roles::READ);
    const COLUMNS: &'static [Type] = &[Type::Int8];

    fn params(&self) -> Params<'_> {
        vec![Value::Int4(self.queue_id)]
    }

    fn interpret(self, rows: &Rows) -> Result<u64, Error> {
        rows.only(Self::STATEMENT)?.count()
    }
}

/// Lists queues by name, with their settings and the number of their jobs by state. The cost is bounded: large numbers
/// are [estimated](Count).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListQueues {
    /// Only this queue.
    pub name: Option<QueueName>,
}

/// A queue as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueSummary {
    /// Its name.
    pub name: String,
    /// Whether it is paused.
    pub paused: bool,
    /// Its settings.
    pub settings: QueueSettings,
    /// The number of jobs in each state, in the order of [`State::ALL`].
    pub counts: [Count; 5],
}

impl QueueSummary {
    /// Returns the number of jobs in `state`.
    pub fn count(&self, state: State) -> Count {
        self.counts[State::ALL.iter().position(|other| *other == state).unwrap_or_default()]
    }
}

/// A number of jobs: exact up to 10,000, and possibly an estimate beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// The number.
    pub jobs: u64,
    /// Whether it is an estimate from a sample of the table.
    pub is_estimate: bool,
}

impl Operation for ListQueues {
    type Output = Vec<QueueSummary>;
    const STATEMENT: StatementId = StatementId::ListQueues;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("list_queues.sql"), ConnectionClass::Operator, roles::READ);
    const COLUMNS: &'static [Type] = &[
        Type::Text,
        Type::Bool,
        Type::Int8,
        Type::Int4,
        Type::Int8Array,
        Type::Int2,
        Type::Int8,
        Type::Int8,
        Type::Int8,
        Type::Int8,
        Type::Int8,
        Type::Int8,
        Type::Bool,
        Type::Bool,
        Type::Bool,
    ];

    fn params(&self) -> Params<'_> {
        vec![self.name.as_ref().map_or(Value::Null(Type::Text), |name| Value::Text(name.as_str()))]
    }

    fn interpret(self, rows: &Rows) -> Result<Vec<QueueSummary>, Error> {
        rows.iter(Self::STATEMENT).map(read_summary).collect()
    }
}

fn read_summary(mut row: Row<'_>) -> Result<QueueSummary, Error> {
    let (name, paused) = (row.read()?, row.read()?);
    let settings = QueueSettings::read(&mut row)?;
    let (pending, paused_jobs, in_progress) = (row.count()?, row.count()?, row.count()?);
    let (finished, failed) = (row.count()?, row.count()?);
    let (pending_is_estimate, finished_is_estimate, failed_is_estimate) = (row.read()?, row.read()?, row.read()?);
    let paused_is_estimate = paused_jobs > 10_000;
    // A pending job of a paused queue is shown as paused.
    let (shown_pending, shown_paused) = if paused { (0, pending + paused_jobs) } else { (pending, paused_jobs) };
    let counts = [
        Count { jobs: shown_pending, is_estimate: pending_is_estimate && !paused },
        Count { jobs: shown_paused, is_estimate: paused_is_estimate || (pending_is_estimate && paused) },
        Count { jobs: in_progress, is_estimate: false },
        Count { jobs: finished, is_estimate: finished_is_estimate },
        Count { jobs: failed, is_estimate: failed_is_estimate },
    ];
    Ok(QueueSummary { name, paused, settings, counts })
}

/// Reads the settings of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its name.
    pub name: QueueName,
}

impl Operation for Settings {
    type Output = QueueSettings;
    const STATEMENT: StatementId = StatementId::Settings;
    const DECLARATION: Declaration = Declaration::new(include_str!("settings.sql"), ConnectionClass::Hot, roles::READ);
    const COLUMNS: &'static [Type] = &[Type::Int8, Type::Int4, Type::Int8Array, Type::Int2, Type::Int8];

    fn params(&self) -> Params<'_> {
        vec![Value::Text(self.name.as_str())]
    }

    fn interpret(self, rows: &Rows) -> Result<QueueSettings, Error> {
        QueueSettings::read(&mut found(rows.at_most_one(Self::STATEMENT)?, &self.name)?)
    }
}

/// Changes settings of a queue. Returns all settings after the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetQueue {
    name: QueueName,
    change: SettingsChange,
}

impl SetQueue {
    /// Returns the operation that applies `change` to a queue.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if a setting is out of range.
    pub fn new(name: QueueName, change: SettingsChange) -> Result<Self, Error> {
        change.check()?;
        Ok(SetQueue { name, change })
    }
}

impl Operation for SetQueue {
    type Output = QueueSettings;
    const STATEMENT: StatementId = StatementId::SetQueue;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("set_queue.sql"), ConnectionClass::Operator, roles::OPERATE);
    const COLUMNS: &'static [Type] = &[Type::Int8, Type::Int4, Type::Int8Array, Type::Int2, Type::Int8];

    fn params(&self) -> Params<'_> {
        let change = &self.change;
        let int8 = |value: Option<i64>| value.map_or(Value::Null(Type::Int8), Value::Int8);
        let table =
            change.retry.backoff.as_ref().map(|table| table.iter().map(|delay| Some(whole_ms(*delay))).collect());
        vec![
            Value::Text(self.name.as_str()),
            int8(change.lease.map(whole_ms)),
            change.retry.max_retries.map_or(Value::Null(Type::Int4), |retries| Value::Int4(retries as i32)),
            table.map_or(Value::Null(Type::Int8Array), Value::Int8Array),
            change.retry.jitter_percent.map_or(Value::Null(Type::Int2), |percent| Value::Int2(percent.into())),
            // A negative retention means for ever.
            int8(change.retain.map(|retain| retain.map_or(-1, whole_ms))),
        ]
    }

    fn interpret(self, rows: &Rows) -> Result<QueueSettings, Error> {
        let mut row = found(rows.at_most_one(Self::STATEMENT)?, &self.name)?;
        QueueSettings::read(&mut row)
    }
}

fn found<'a>(row: Option<Row<'a>>, name: &QueueName) -> Result<Row<'a>, Error> {
    row.ok_or_else(|| Error::QueueNotFound(name.to_string()))
}
