//! Reaping expired leases.

use crate::statement::{ConnectionClass, Declaration, roles};
use crate::time::from_ms;
use crate::wire::{Rows, Type, Value};
use crate::{Error, Operation, Params, StatementId};
use std::time::Duration;

/// Soft-fails expired leases, with the reason `lease expired`. The cost grows with the jobs in progress, not the
/// backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reap {
    /// The maximum number of leases.
    pub limit: usize,
    /// Random bits that spread the retries over the jitter.
    pub seed: i64,
}

/// The result of a reap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// How many leases were reaped.
    pub reaped: u64,
    /// The time until the next lease expires, at least zero; `None` if no job is in progress.
    pub next_expiry: Option<Duration>,
}

impl Reap {
    /// The number of leases that one statement reaps at most, as a rule.
    pub const BATCH: usize = 500;
}

impl Operation for Reap {
    type Output = Reaped;
    const STATEMENT: StatementId = StatementId::Reap;
    const DECLARATION: Declaration = Declaration::new(include_str!("reap.sql"), ConnectionClass::Hot, roles::WORK);
    const COLUMNS: &'static [Type] = &[Type::Int8, Type::Int8];

    fn params(&self) -> Params<'_> {
        vec![Value::Int8(i64::try_from(self.limit).unwrap_or(i64::MAX)), Value::Int8(self.seed)]
    }

    fn interpret(self, rows: &Rows) -> Result<Reaped, Error> {
        let mut row = rows.only(Self::STATEMENT)?;
        let reaped = row.count()?;
        Ok(Reaped { reaped, next_expiry: row.read::<Option<i64>>()?.map(from_ms) })
    }
}
