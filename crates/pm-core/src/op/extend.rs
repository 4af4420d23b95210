//! Extending leases.

use super::read_index;
use crate::statement::{ConnectionClass, Declaration, roles};
use crate::time::from_ms;
use crate::wire::{Rows, Type, Value, column};
use crate::{Error, Lease, Operation, Params, StatementId};
use std::time::Duration;

/// Extends leases to a full length from now; never shortens one. Returns an outcome per lease, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extend {
    /// The leases, sorted by job id, which is the order of locking.
    pub leases: Vec<Lease>,
}

/// The outcome of the extension of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extended {
    /// The lease is valid for this long, measured by the database.
    Remains(Duration),
    /// It was not extended, because another transaction has locked the job. It may be extended later.
    Locked,
    /// The lease has ended.
    Lost,
}

impl Operation for Extend {
    type Output = Vec<Extended>;
    const STATEMENT: StatementId = StatementId::Extend;
    const DECLARATION: Declaration = Declaration::new(include_str!("extend.sql"), ConnectionClass::Extend, roles::WORK);
    const COLUMNS: &'static [Type] = &[Type::Int8, Type::Int8];

    fn params(&self) -> Params<'_> {
        vec![
            Value::UuidArray(column(&self.leases, |lease| lease.job)),
            Value::Int8Array(column(&self.leases, |lease| lease.number)),
        ]
    }

    fn interpret(self, rows: &Rows) -> Result<Vec<Extended>, Error> {
        let mut outcomes = vec![Extended::Lost; self.leases.len()];
        for mut row in rows.iter(Self::STATEMENT) {
            let index = read_index(&mut row, outcomes.len())?;
            let remaining_ms: Option<i64> = row.read()?;
            outcomes[index] = remaining_ms.map_or(Extended::Locked, |ms| Extended::Remains(from_ms(ms)));
        }
        Ok(outcomes)
    }
}
