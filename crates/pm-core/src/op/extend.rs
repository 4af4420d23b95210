//! Extending leases.

use super::{all, index_of};
use crate::statement::{Declaration, roles};
use crate::time::from_ms;
use crate::wire::{Rows, column, columns, optional_column};
use crate::{Error, Lease, Operation, Params, StatementId, Timestamp};
use std::time::Duration;

/// Extends leases to a full length from now, but never beyond their latest end; never shortens one. Returns an outcome
/// per lease, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extend {
    /// The leases, sorted by job id, which is the order of locking.
    pub items: Vec<ExtendItem>,
}

/// A lease to be extended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtendItem {
    /// The lease.
    pub lease: Lease,
    /// As [`ClaimedJob::latest_end`](crate::ClaimedJob::latest_end); `None` for no such end.
    pub latest_end: Option<Timestamp>,
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
        vec![
            column(&self.items, |item| item.lease.job),
            column(&self.items, |item| item.lease.number),
            optional_column(&self.items, |item| item.latest_end),
        ]
    }

    fn interpret(&self, rows: &Rows) -> Result<Vec<Extended>, Error> {
        let mut outcomes = vec![Extended::Lost; self.items.len()];
        for ExtendRow { ordinal, remaining_ms, is_cancelled } in all::<Self>(rows)? {
            outcomes[index_of::<Self>(ordinal, self.items.len())?] =
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
