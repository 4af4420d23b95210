//! Deleting and renaming queues, and pruning ended jobs past their retention.

use crate::statement::{ConnectionClass, Declaration, roles};
use crate::wire::{Rows, Type, Value};
use crate::{Error, Failure, Operation, Params, QueueName, StatementId};
use uuid::Uuid;

/// Begins to delete a queue: takes its name away and deletes its schedules. [`PruneJobs`] then deletes its jobs, and
/// [`DeleteEmptyQueues`] its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginQueueDeletion {
    /// Its name.
    pub name: QueueName,
}

impl Operation for BeginQueueDeletion {
    /// The id of the queue.
    type Output = i32;
    const STATEMENT: StatementId = StatementId::BeginQueueDeletion;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("begin_queue_deletion.sql"), ConnectionClass::Operator, roles::OPERATE);
    const COLUMNS: &'static [Type] = &[Type::Int4];

    fn params(&self) -> Params<'_> {
        vec![Value::Text(self.name.as_str())]
    }

    fn interpret(self, rows: &Rows) -> Result<i32, Error> {
        let row = rows.at_most_one(Self::STATEMENT)?;
        row.ok_or_else(|| Error::QueueNotFound(self.name.to_string()))?.read()
    }
}

/// Renames a queue. It is refused with [`Error::QueueExists`] if the new name is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenameQueue {
    /// The present name.
    pub from: QueueName,
    /// The new name.
    pub to: QueueName,
}

impl Operation for RenameQueue {
    /// The id of the queue.
    type Output = i32;
    const STATEMENT: StatementId = StatementId::RenameQueue;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("rename_queue.sql"), ConnectionClass::Operator, roles::OPERATE);
    const COLUMNS: &'static [Type] = &[Type::Int4];

    fn params(&self) -> Params<'_> {
        vec![Value::Text(self.from.as_str()), Value::Text(self.to.as_str())]
    }

    fn interpret(self, rows: &Rows) -> Result<i32, Error> {
        let row = rows.at_most_one(Self::STATEMENT)?;
        row.ok_or_else(|| Error::QueueNotFound(self.from.to_string()))?.read()
    }

    fn refusal(&self, failure: &Failure) -> Option<Error> {
        (failure.constraint() == Some("queue_name_key")).then(|| Error::QueueExists(self.to.to_string()))
    }
}

/// Deletes jobs in one page of ids: those of queues that are being deleted, and ended ones past their retention.
///
/// About 1 µs per job read and 20 µs per job deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneJobs {
    /// The [`PrunedPage::upto`] of the previous page; `None` for the first page.
    pub after: Option<Uuid>,
    /// How many jobs to read.
    pub page: usize,
    /// Only jobs of this queue, which is being deleted.
    pub queue_id: Option<i32>,
}

/// The result of pruning one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrunedPage {
    /// The last id of the page; `None` if this was the last page.
    pub upto: Option<Uuid>,
    /// How many jobs were read.
    pub seen: u64,
    /// How many jobs were deleted.
    pub deleted: u64,
}

impl PruneJobs {
    /// The number of jobs that one statement reads, as a rule.
    pub const PAGE: usize = 5_000;
}

impl Operation for PruneJobs {
    type Output = PrunedPage;
    const STATEMENT: StatementId = StatementId::PruneJobs;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("prune_jobs.sql"), ConnectionClass::Operator, roles::OPERATE);
    const COLUMNS: &'static [Type] = &[Type::Int8, Type::Uuid, Type::Int8];

    fn params(&self) -> Params<'_> {
        vec![
            self.after.map_or(Value::Null(Type::Uuid), Value::Uuid),
            Value::Int8(i64::try_from(self.page).unwrap_or(i64::MAX)),
            self.queue_id.map_or(Value::Null(Type::Int4), Value::Int4),
        ]
    }

    fn interpret(self, rows: &Rows) -> Result<PrunedPage, Error> {
        let mut row = rows.only(Self::STATEMENT)?;
        let seen = row.count()?;
        let upto: Option<Uuid> = row.read()?;
        let deleted = row.count()?;
        Ok(PrunedPage { upto: upto.filter(|_| seen >= self.page as u64), seen, deleted })
    }
}

/// Deletes the rows of queues that are being deleted and have no jobs left. Returns how many such queues remain.
///
/// Cheap without queues that are being deleted; otherwise up to one scan of the jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteEmptyQueues {
    /// Only this queue; `None` for all.
    pub queue_id: Option<i32>,
}

impl Operation for DeleteEmptyQueues {
    type Output = u64;
    const STATEMENT: StatementId = StatementId::DeleteEmptyQueues;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("delete_empty_queues.sql"), ConnectionClass::Operator, roles::OPERATE);
    const COLUMNS: &'static [Type] = &[Type::Int8, Type::Int8];

    fn params(&self) -> Params<'_> {
        vec![self.queue_id.map_or(Value::Null(Type::Int4), Value::Int4)]
    }

    fn interpret(self, rows: &Rows) -> Result<u64, Error> {
        let mut row = rows.only(Self::STATEMENT)?;
        let _deleted: i64 = row.read()?;
        row.count()
    }
}
