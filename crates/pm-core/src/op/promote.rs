//! Promoting jobs that are due.

use super::only;
use crate::statement::{Declaration, roles};
use crate::time::from_ms;
use crate::wire::{Parameter, Rows, columns};
use crate::{Error, Operation, Params, StatementId, Timestamp};
use std::time::Duration;

/// Gives waiting jobs that are due a position in their line, earliest first. About 9 µs per job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promote {
    /// The maximum number of jobs.
    pub limit: usize,
    /// No waiting job is due before this time, as far as is known: the search starts here.
    pub bound: Option<Timestamp>,
}

/// The result of a promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promoted {
    /// How many jobs were promoted.
    pub promoted: u64,
    /// The latest due time among them, which is the next bound while batches are full; `None` if there were none.
    pub upto: Option<Timestamp>,
    /// The time until the next waiting job is due; `None` if none waits.
    pub next_due: Option<Duration>,
}

impl Promote {
    /// The number of jobs that one statement promotes at most, as a rule.
    pub const BATCH: usize = 1_000;
}

impl Operation for Promote {
    type Row = PromoteRow;
    type Output = Promoted;
    const DECLARATION: Declaration = Declaration::hot(StatementId::Promote, include_str!("promote.sql"), roles::WORK);

    fn params(&self) -> Params<'_> {
        vec![self.limit.param(), self.bound.param()]
    }

    fn interpret(&self, rows: &Rows) -> Result<Promoted, Error> {
        let PromoteRow { promoted, upto, next_ms } = only::<Self>(rows)?;
        Ok(Promoted { promoted, upto, next_due: next_ms.map(from_ms) })
    }
}

columns! {
    /// The result of a promotion.
    pub struct PromoteRow {
        pub promoted: u64,
        pub upto: Option<Timestamp>,
        pub next_ms: Option<i64>,
    }
}
