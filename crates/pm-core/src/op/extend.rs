//! Extending leases.

use super::read_position;
use crate::statement::Definition;
use crate::time::from_ms;
use crate::wire::{Rows, Type, Value, column};
use crate::{Error, Lease, Operation, Params, StatementId};
use std::time::Duration;

pub(crate) const EXTEND: Definition = Definition {
    sql: include_str!("extend.sql"),
    params: &[Type::UuidArray, Type::Int8Array],
    columns: &[Type::Int8, Type::Int8],
};

/// Extends leases to a full length from now; never shortens one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extend {
    /// The leases, sorted by job id, which is the order of locking.
    pub leases: Vec<Lease>,
}

/// What became of a lease by an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extended {
    /// So much of it remains, counted by the database.
    Remains(Duration),
    /// Someone's transaction has the job's row locked: it was not extended, and may be later.
    Locked,
    /// It is over.
    Lost,
}

impl Operation for Extend {
    type Output = Vec<Extended>;
    const STATEMENT: StatementId = StatementId::Extend;

    fn params(&self) -> Params<'_> {
        vec![
            Value::UuidArray(column(&self.leases, |lease| lease.job)),
            Value::Int8Array(column(&self.leases, |lease| lease.number)),
        ]
    }

    fn interpret(self, rows: &Rows) -> Result<Vec<Extended>, Error> {
        let mut remaining = vec![Extended::Lost; self.leases.len()];
        for mut row in rows.iter(Self::STATEMENT) {
            let position = read_position(&mut row, remaining.len())?;
            let remaining_ms: Option<i64> = row.read()?;
            remaining[position] = remaining_ms.map_or(Extended::Locked, |ms| Extended::Remains(from_ms(ms)));
        }
        Ok(remaining)
    }
}
