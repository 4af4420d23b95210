//! Pruning: deleted queues, and ended jobs past their retention.

use crate::statement::Definition;
use crate::wire::{Rows, Type, Value};
use crate::{Error, Failure, Operation, Params, QueueName, StatementId};
use uuid::Uuid;

pub(crate) const BEGIN_QUEUE_DELETION: Definition =
    Definition { sql: include_str!("begin_queue_deletion.sql"), params: &[Type::Text], columns: &[Type::Int4] };
pub(crate) const RENAME_QUEUE: Definition =
    Definition { sql: include_str!("rename_queue.sql"), params: &[Type::Text, Type::Text], columns: &[Type::Int4] };
pub(crate) const PRUNE_JOBS: Definition = Definition {
    sql: include_str!("prune_jobs.sql"),
    params: &[Type::Uuid, Type::Int8, Type::Int4],
    columns: &[Type::Int8, Type::Uuid, Type::Int8],
};
pub(crate) const DELETE_EMPTY_QUEUES: Definition = Definition {
    sql: include_str!("delete_empty_queues.sql"),
    params: &[Type::Int4],
    columns: &[Type::Int8, Type::Int8],
};

/// Takes a queue's name away: the first step of deleting it. [`PruneJobs`] deletes its jobs, [`DeleteEmptyQueues`] the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginQueueDeletion {
    /// Its name.
    pub name: QueueName,
}

impl Operation for BeginQueueDeletion {
    /// The queue's number.
    type Output = i32;
    const STATEMENT: StatementId = StatementId::BeginQueueDeletion;

    fn params(&self) -> Params<'_> {
        vec![Value::Text(self.name.as_str())]
    }

    fn interpret(self, rows: &Rows) -> Result<i32, Error> {
        let row = rows.at_most_one(Self::STATEMENT)?;
        row.ok_or_else(|| Error::QueueNotFound(self.name.to_string()))?.read()
    }
}

/// Gives a queue another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenameQueue {
    /// Its name.
    pub from: QueueName,
    /// Its name then.
    pub to: QueueName,
}

impl Operation for RenameQueue {
    /// The queue's number.
    type Output = i32;
    const STATEMENT: StatementId = StatementId::RenameQueue;

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

/// Clears away one page of ids: jobs of nameless queues, and ended ones past their retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneJobs {
    /// From where on; the last page's [`PrunedPage::upto`].
    pub after: Option<Uuid>,
    /// How many jobs to look at.
    pub page: usize,
    /// Only jobs of this nameless queue.
    pub queue_id: Option<i32>,
}

/// What became of one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrunedPage {
    /// Where the next page begins; none when this was the last.
    pub upto: Option<Uuid>,
    /// How many jobs were looked at.
    pub seen: u64,
    /// How many jobs were deleted.
    pub deleted: u64,
}

impl Operation for PruneJobs {
    type Output = PrunedPage;
    const STATEMENT: StatementId = StatementId::PruneJobs;

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

/// Drops nameless queues without jobs. Answers how many of those it looked at remain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteEmptyQueues {
    /// Only this one; all when none is given.
    pub queue_id: Option<i32>,
}

impl Operation for DeleteEmptyQueues {
    type Output = u64;
    const STATEMENT: StatementId = StatementId::DeleteEmptyQueues;

    fn params(&self) -> Params<'_> {
        vec![self.queue_id.map_or(Value::Null(Type::Int4), Value::Int4)]
    }

    fn interpret(self, rows: &Rows) -> Result<u64, Error> {
        let mut row = rows.only(Self::STATEMENT)?;
        let _dropped: i64 = row.read()?;
        row.count()
    }
}
