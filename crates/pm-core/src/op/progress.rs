//! Storing how far jobs have come.

use super::{all, index_of};
use crate::statement::{Declaration, roles};
use crate::wire::{Rows, column};
use crate::{Error, JsonText, Lease, Operation, Params, StatementId};

/// The progress of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressItem {
    /// The lease under which its handler works.
    pub lease: Lease,
    /// How far it has come.
    pub progress: JsonText,
}

/// Stores how far jobs have come, under their leases. About 8 µs per job in batches of 500.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetProgress {
    /// The jobs, at most 500, sorted by job id, which is the order of locking.
    pub items: Vec<ProgressItem>,
}

impl Operation for SetProgress {
    /// The number of an item that was skipped.
    type Row = i64;
    /// The indexes of the items that were skipped, because another transaction has locked their jobs.
    type Output = Vec<usize>;
    const DECLARATION: Declaration =
        Declaration::hot(StatementId::SetProgress, include_str!("set_progress.sql"), roles::WORK);

    fn params(&self) -> Params<'_> {
        let items = &self.items;
        vec![
            column(items, |item| item.lease.job),
            column(items, |item| item.lease.number),
            column(items, |item| item.progress.as_str()),
        ]
    }

    fn interpret(&self, rows: &Rows) -> Result<Vec<usize>, Error> {
        all::<Self>(rows)?.into_iter().map(|ordinal| index_of::<Self>(ordinal, self.items.len())).collect()
    }
}
