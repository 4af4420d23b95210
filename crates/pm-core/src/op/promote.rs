//! Promoting jobs that are due.

use crate::statement::{ConnectionClass, Declaration, roles};
use crate::time::from_ms;
use crate::wire::{Rows, Type, Value};
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
    type Output = Promoted;
    const STATEMENT: StatementId = StatementId::Promote;
    const DECLARATION: Declaration = Declaration::new(include_str!("promote.sql"), ConnectionClass::Hot, roles::WORK);
    const COLUMNS: &'static [Type] = &[Type::Int8, Type::Timestamp, Type::Int8];

    fn params(&self) -> Params<'_> {
        vec![
            Value::Int8(i64::try_from(self.limit).unwrap_or(i64::MAX)),
            self.bound.map_or(Value::Null(Type::Timestamp), Value::Timestamp),
        ]
    }

    fn interpret(self, rows: &Rows) -> Result<Promoted, Error> {
        let mut row = rows.only(Self::STATEMENT)?;
        let promoted = row.count()?;
        Ok(Promoted { promoted, upto: row.read()?, next_due: row.read::<Option<i64>>()?.map(from_ms) })
    }
}
