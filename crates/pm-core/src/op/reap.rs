//! Ending the leases of holders who are gone.

use crate::statement::Definition;
use crate::time::from_ms;
use crate::wire::{Rows, Type, Value};
use crate::{Error, Operation, Params, StatementId};
use std::time::Duration;

pub(crate) const REAP: Definition =
    Definition { sql: include_str!("reap.sql"), params: &[Type::Int8, Type::Int8], columns: &[Type::Int8, Type::Int8] };

/// Soft-fails leases that expired, with the reason `lease expired`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reap {
    /// How many at most.
    pub limit: usize,
    /// Random bits that scatter delays within the jitter.
    pub seed: i64,
}

/// What a reap did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// How many leases it ended.
    pub reaped: u64,
    /// The time until the next lease ends; `None` when nothing is in progress.
    pub next_expiry: Option<Duration>,
}

impl Operation for Reap {
    type Output = Reaped;
    const STATEMENT: StatementId = StatementId::Reap;

    fn params(&self) -> Params<'_> {
        vec![Value::Int8(i64::try_from(self.limit).unwrap_or(i64::MAX)), Value::Int8(self.seed)]
    }

    fn interpret(self, rows: &Rows) -> Result<Reaped, Error> {
        let mut row = rows.only(Self::STATEMENT)?;
        let reaped = row.count()?;
        Ok(Reaped { reaped, next_expiry: row.read::<Option<i64>>()?.map(from_ms) })
    }
}
