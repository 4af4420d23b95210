//! Deleting and renaming queues, and pruning ended jobs past their retention.

use super::{at_most_one, only};
use crate::statement::{Declaration, roles};
use crate::wire::{Parameter, Rows, Value, columns};
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
    type Row = i32;
    /// The id of the queue.
    type Output = i32;
    const DECLARATION: Declaration = Declaration::operator(
        StatementId::BeginQueueDeletion,
        include_str!("begin_queue_deletion.sql"),
        roles::OPERATE,
    );

    fn params(&self) -> Params<'_> {
        vec![Value::Text(self.name.as_str())]
    }

    fn interpret(&self, rows: &Rows) -> Result<i32, Error> {
        at_most_one::<Self>(rows)?.ok_or_else(|| Error::QueueNotFound(self.name.to_string()))
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
    type Row = i32;
    /// The id of the queue.
    type Output = i32;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::RenameQueue, include_str!("rename_queue.sql"), roles::OPERATE);

    fn params(&self) -> Params<'_> {
        vec![Value::Text(self.from.as_str()), Value::Text(self.to.as_str())]
    }

    fn interpret(&self, rows: &Rows) -> Result<i32, Error> {
        at_most_one::<Self>(rows)?.ok_or_else(|| Error::QueueNotFound(self.from.to_string()))
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

columns! {
    /// The result of pruning one page.
    #[derive(Copy)]
    pub struct PrunedPage {
        /// How many jobs were read.
        pub seen: u64,
        /// The last id of the page; `None` if this was the last page.
        pub upto: Option<Uuid>,
        /// How many jobs were deleted.
        pub deleted: u64,
    }
}

impl PruneJobs {
    /// The number of jobs that one statement reads, as a rule.
    pub const PAGE: usize = 5_000;
}

impl Operation for PruneJobs {
    type Row = PrunedPage;
    type Output = PrunedPage;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::PruneJobs, include_str!("prune_jobs.sql"), roles::OPERATE);

    fn params(&self) -> Params<'_> {
        vec![self.after.param(), self.page.param(), self.queue_id.param()]
    }

    fn interpret(&self, rows: &Rows) -> Result<PrunedPage, Error> {
        let page = only::<Self>(rows)?;
        Ok(PrunedPage { upto: page.upto.filter(|_| page.seen >= self.page as u64), ..page })
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
    type Row = DeletedQueues;
    type Output = u64;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::DeleteEmptyQueues, include_str!("delete_empty_queues.sql"), roles::OPERATE);

    fn params(&self) -> Params<'_> {
        vec![self.queue_id.param()]
    }

    fn interpret(&self, rows: &Rows) -> Result<u64, Error> {
        Ok(only::<Self>(rows)?.remaining)
    }
}

columns! {
    /// How many queues were deleted, and how many remain to be.
    pub struct DeletedQueues {
        pub queues: u64,
        pub remaining: u64,
    }
}
