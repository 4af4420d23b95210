//! Giving waiting jobs their place in the line when they are due.

use crate::statement::Definition;
use crate::time::from_ms;
use crate::wire::{Rows, Type, Value};
use crate::{Error, Operation, Params, StatementId, Timestamp};
use std::time::Duration;

pub(crate) const PROMOTE: Definition = Definition {
    sql: include_str!("promote.sql"),
    params: &[Type::Int8, Type::Timestamp],
    columns: &[Type::Int8, Type::Timestamp, Type::Int8],
};

/// Gives waiting jobs that are due a place in their line, earliest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promote {
    /// How many at most.
    pub limit: usize,
    /// Due times before this are known to be none.
    pub bound: Option<Timestamp>,
}

/// What a promotion did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promoted {
    /// How many jobs it promoted.
    pub promoted: u64,
    /// The latest due time among them: the next bound while batches are full.
    pub upto: Option<Timestamp>,
    /// The time until the next waiting job is due.
    pub next_due: Option<Duration>,
}

impl Operation for Promote {
    type Output = Promoted;
    const STATEMENT: StatementId = StatementId::Promote;

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
