//! Cancelling jobs, and learning which jobs are to be cancelled.

use super::bulk::{BulkReply, BulkRow, Precondition, read_bulk};
use super::{all, index_of};
use crate::statement::{Declaration, roles};
use crate::wire::{Rows, Value, column, columns};
use crate::{Error, Lease, Operation, Params, Reason, StatementId};
use uuid::Uuid;

/// Cancels jobs: those that wait have failed, those in progress are asked to stop. Jobs that have ended are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelJobs {
    /// The ids; at most 1,000.
    pub ids: Vec<Uuid>,
    /// Whether jobs in progress lose their leases at once and have failed too.
    pub force: bool,
    /// Why they are cancelled.
    pub reason: Reason,
    /// What the jobs must still be.
    pub precondition: Precondition,
}

impl Operation for CancelJobs {
    type Row = BulkRow;
    type Output = BulkReply;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::CancelJobs, include_str!("cancel_jobs.sql"), roles::OPERATE).human_text(5);

    fn params(&self) -> Params<'_> {
        let cancel = vec![Value::Bool(self.force), Value::Text(self.reason.as_str())];
        [self.precondition.params(&self.ids), cancel].concat()
    }

    fn interpret(&self, rows: &Rows) -> Result<BulkReply, Error> {
        read_bulk::<Self>(self.ids.len(), rows)
    }
}

/// Reads which of some leases are of jobs that are to be cancelled, and which have ended: an operator has taken them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelRequests {
    /// The leases; at most 500.
    pub leases: Vec<Lease>,
}

/// The result of a look for cancel requests, as indexes of leases.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Requested {
    /// Those whose jobs are to be cancelled.
    pub cancelled: Vec<usize>,
    /// Those that have ended.
    pub ended: Vec<usize>,
}

impl Operation for CancelRequests {
    type Row = RequestRow;
    type Output = Requested;
    const DECLARATION: Declaration =
        Declaration::hot(StatementId::CancelRequests, include_str!("cancel_requests.sql"), roles::WORK);

    fn params(&self) -> Params<'_> {
        vec![column(&self.leases, |lease| lease.job), column(&self.leases, |lease| lease.number)]
    }

    fn interpret(&self, rows: &Rows) -> Result<Requested, Error> {
        let mut requested = Requested::default();
        for RequestRow { ordinal, has_ended } in all::<Self>(rows)? {
            let list = if has_ended { &mut requested.ended } else { &mut requested.cancelled };
            list.push(index_of::<Self>(ordinal, self.leases.len())?);
        }
        Ok(requested)
    }
}

columns! {
    /// The number of a lease, and whether it has ended; otherwise its job is to be cancelled.
    pub struct RequestRow {
        pub ordinal: i64,
        pub has_ended: bool,
    }
}
