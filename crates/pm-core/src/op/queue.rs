//! Operations on queues.

use super::{all, at_most_one};
use crate::operation::operation;
use crate::statement::{Declaration, roles};
use crate::wire::{Parameter, Rows, Value, columns};
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
    type Row = i32;
    type Output = bool;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::CreateQueue, include_str!("create_queue.sql"), roles::OPERATE);

    fn params(&self) -> Params<'_> {
        vec![Value::Text(self.name.as_str()), Value::Bool(self.paused)]
    }

    fn interpret(&self, rows: &Rows) -> Result<bool, Error> {
        Ok(at_most_one::<Self>(rows)?.is_some())
    }
}

/// Pauses a queue: one write, whatever the number of jobs. Returns the id of the queue, for [`CountPending`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseQueue {
    /// Its name.
    pub name: QueueName,
}

impl Operation for PauseQueue {
    type Row = i32;
    type Output = i32;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::PauseQueue, include_str!("pause_queue.sql"), roles::OPERATE).repeatable();

    fn params(&self) -> Params<'_> {
        vec![Value::Text(self.name.as_str())]
    }

    fn interpret(&self, rows: &Rows) -> Result<i32, Error> {
        found::<Self>(rows, &self.name)
    }
}

/// Resumes a queue, and the jobs that were enqueued as paused. The cost grows with the number of pending jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeQueue {
    /// Its name.
    pub name: QueueName,
}

columns! {
    /// The result of a resume.
    #[derive(Copy)]
    pub struct Resumed {
        /// The id of the queue.
        pub queue_id: i32 as "id",
        /// How many jobs are no longer paused, including those that had been paused individually.
        pub freed: u64 as "unpaused",
    }
}

impl Operation for ResumeQueue {
    type Row = Resumed;
    type Output = Resumed;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::ResumeQueue, include_str!("resume_queue.sql"), roles::OPERATE);

    fn params(&self) -> Params<'_> {
        vec![Value::Text(self.name.as_str())]
    }

    fn interpret(&self, rows: &Rows) -> Result<Resumed, Error> {
        found::<Self>(rows, &self.name)
    }
}

/// Follow-up of [`PauseQueue`]: counts the pending jobs of a queue. The cost grows with their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountPending {
    /// The id of the queue.
    pub queue_id: i32,
}

operation! {
    CountPending: only u64;
    Declaration::operator(StatementId::CountPending, include_str!("count_pending.sql"), roles::READ);
    fn params(&self) -> Params<'_> {
        vec![Value::Int4(self.queue_id)]
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
    type Row = QueueRow;
    type Output = Vec<QueueSummary>;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::ListQueues, include_str!("list_queues.sql"), roles::READ);

    fn params(&self) -> Params<'_> {
        vec![self.name.as_ref().map(|name| name.as_str()).param()]
    }

    fn interpret(&self, rows: &Rows) -> Result<Vec<QueueSummary>, Error> {
        Ok(all::<Self>(rows)?.into_iter().map(summary).collect())
    }
}

columns! {
    /// A queue, with the numbers of its jobs as they are stored.
    pub struct QueueRow {
        pub name: String,
        pub paused: bool,
        pub settings: QueueSettings,
        pub pending: u64,
        pub paused_jobs: u64,
        pub in_progress: u64,
        pub finished: u64,
        pub failed: u64,
        pub pending_is_estimate: bool,
        pub finished_is_estimate: bool,
        pub failed_is_estimate: bool,
    }
}

fn summary(row: QueueRow) -> QueueSummary {
    let QueueRow { name, paused, pending, paused_jobs, .. } = row;
    let paused_is_estimate = paused_jobs > 10_000;
    // A pending job of a paused queue is shown as paused.
    let (shown_pending, shown_paused) = if paused { (0, pending + paused_jobs) } else { (pending, paused_jobs) };
    let counts = [
        Count { jobs: shown_pending, is_estimate: row.pending_is_estimate && !paused },
        Count { jobs: shown_paused, is_estimate: paused_is_estimate || (row.pending_is_estimate && paused) },
        Count { jobs: row.in_progress, is_estimate: false },
        Count { jobs: row.finished, is_estimate: row.finished_is_estimate },
        Count { jobs: row.failed, is_estimate: row.failed_is_estimate },
    ];
    QueueSummary { name, paused, settings: row.settings, counts }
}

/// Reads the settings of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its name.
    pub name: QueueName,
}

impl Operation for Settings {
    type Row = QueueSettings;
    type Output = QueueSettings;
    const DECLARATION: Declaration = Declaration::hot(StatementId::Settings, include_str!("settings.sql"), roles::READ);

    fn params(&self) -> Params<'_> {
        vec![Value::Text(self.name.as_str())]
    }

    fn interpret(&self, rows: &Rows) -> Result<QueueSettings, Error> {
        found::<Self>(rows, &self.name)
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
        // A setting that is out of range is refused here, and so never when the parameters are sent.
        change.params()?;
        Ok(SetQueue { name, change })
    }
}

impl Operation for SetQueue {
    type Row = QueueSettings;
    type Output = QueueSettings;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::SetQueue, include_str!("set_queue.sql"), roles::OPERATE);

    fn params(&self) -> Params<'_> {
        let settings = self.change.params().expect("`new` has checked the change");
        [Value::Text(self.name.as_str())].into_iter().chain(settings).collect()
    }

    fn interpret(&self, rows: &Rows) -> Result<QueueSettings, Error> {
        found::<Self>(rows, &self.name)
    }
}

fn found<O: Operation>(rows: &Rows, name: &QueueName) -> Result<O::Row, Error> {
    at_most_one::<O>(rows)?.ok_or_else(|| Error::QueueNotFound(name.to_string()))
}
