//! Extending leases.

use super::{all, index_of};
use crate::statement::{Declaration, roles};
use crate::time::from_ms;
use crate::wire::{Rows, column, columns};
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
    Remains {
        /// The time that remains.
        time: Duration,
        /// Whether the job is to be cancelled.
        is_cancelled: bool,
    },
    /// It was not extended, because another transaction has locked the job. It may be extended later.
    Locked,
    /// The lease has ended.
    Lost,
}

impl Operation for Extend {
    type Row = ExtendRow;
    type Output = Vec<Extended>;
    const DECLARATION: Declaration = Declaration::extend(StatementId::Extend, include_str!("extend.sql"), roles::WORK);

    fn params(&self) -> Params<'_> {
        vec![column(&self.leases, |lease| lease.job), column(&self.leases, |lease| lease.number)]
    }

    fn interpret(&self, rows: &Rows) -> Result<Vec<Extended>, Error> {
        let mut outcomes = vec![Extended::Lost; self.leases.len()];
        for ExtendRow { ordinal, remaining_ms, is_cancelled } in all::<Self>(rows)? {
            outcomes[index_of::<Self>(ordinal, self.leases.len())?] =
                remaining_ms.map_or(Extended::Locked, |ms| Extended::Remains { time: from_ms(ms), is_cancelled });
        }
        Ok(outcomes)
    }
}

columns! {
    /// The number of a lease, what remains of it (null if the job is locked), and whether the job is to be cancelled.
    pub struct ExtendRow {
        pub ordinal: i64,
        pub remaining_ms: Option<i64>,
        pub is_cancelled: bool,
    }
}
