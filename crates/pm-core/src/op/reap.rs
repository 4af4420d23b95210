//! Reaping expired leases.

use super::only;
use crate::statement::{Declaration, roles};
use crate::time::from_ms;
use crate::wire::{Parameter, Rows, Value, columns};
use crate::{Error, Operation, Params, StatementId};
use std::time::Duration;

/// Soft-fails expired leases, with the reason `lease expired`, and fails jobs that have not started by their time to
/// expire, with the reason `expired`. The cost grows with the jobs in progress, not the backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reap {
    /// The maximum number of leases, and of jobs to expire.
    pub limit: usize,
    /// Random bits that spread the retries over the jitter.
    pub seed: i64,
}

/// The result of a reap.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// How many leases were reaped.
    pub reaped: u64,
    /// How many jobs had not started by their time to expire, and have failed.
    pub expired: u64,
    /// The time until the next lease or waiting job expires, at least zero; `None` if none will.
    pub next_expiry: Option<Duration>,
}

impl Reaped {
    /// Returns whether there may be more: the statement reached a limit of [`Reap::BATCH`].
    pub fn is_full(&self) -> bool {
        self.reaped.max(self.expired) >= Reap::BATCH as u64
    }
}

impl Reap {
    /// The number of leases that one statement reaps at most, as a rule.
    pub const BATCH: usize = 500;
}

impl Operation for Reap {
    type Row = ReapRow;
    type Output = Reaped;
    const DECLARATION: Declaration = Declaration::hot(StatementId::Reap, include_str!("reap.sql"), roles::WORK);

    fn params(&self) -> Params<'_> {
        vec![self.limit.param(), Value::Int8(self.seed)]
    }

    fn interpret(&self, rows: &Rows) -> Result<Reaped, Error> {
        let ReapRow { reaped, expired, next_ms } = only::<Self>(rows)?;
        Ok(Reaped { reaped, expired, next_expiry: next_ms.map(from_ms) })
    }
}

columns! {
    /// The result of a reap.
    pub struct ReapRow {
        pub reaped: u64,
        pub expired: u64,
        pub next_ms: Option<i64>,
    }
}
