//! Fetching one job by its id.

use super::{RetryColumns, all, odd};
use crate::lease::{latest_lease_end, lease_length};
use crate::statement::{Declaration, roles};
use crate::time::from_ms;
use crate::wire::{Rows, Value, columns};
use crate::{Backoff, ClaimedJob, Error, Lease, LeasedColumns, Operation, Params, StatementId, TakenJob, Timestamp};
use std::time::Duration;
use uuid::Uuid;

/// Leases one job by its id, if it is ready and its queue is not paused. Returns `None` if it is not, or does not
/// exist, or another transaction has locked it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchJob {
    /// The lease to be made: the job's id, and a number from [`Lease::number_from`].
    pub lease: Lease,
    /// The human-readable name of the worker.
    pub worker: String,
}

impl Operation for FetchJob {
    type Row = FetchRow;
    /// The job, the length of its lease, and how its queue retries soft failures.
    type Output = Option<(TakenJob, Duration, Backoff)>;
    const DECLARATION: Declaration =
        Declaration::hot(StatementId::FetchJob, include_str!("fetch_job.sql"), roles::WORK).human_text(2);

    fn params(&self) -> Params<'_> {
        vec![Value::Uuid(self.lease.job), Value::Int8(self.lease.number), Value::Text(&self.worker)]
    }

    fn interpret(&self, rows: &Rows) -> Result<Self::Output, Error> {
        let (mut of_queue, mut fetched) = (None, None);
        for row in all::<Self>(rows)? {
            let FetchRow { id, queue_id, name, lease_ms, retries, claimed_at, job } = row;
            match (id, name, lease_ms, job) {
                (None, Some(name), Some(lease_ms), _) => {
                    let backoff = retries.of_queue().ok_or_else(|| odd::<Self>("a queue without settings"))?;
                    of_queue = Some((name, from_ms(lease_ms), backoff, claimed_at));
                }
                (Some(_), _, unreadable_ms, Some(columns)) => {
                    let (unreadable_for, retry) = (unreadable_ms.map(from_ms), retries.overrides());
                    let latest_end = Timestamp::INFINITY;
                    fetched =
                        Some(ClaimedJob { lease: self.lease, queue_id, unreadable_for, retry, latest_end, columns });
                }
                _ => return Err(odd::<Self>("neither a queue nor a job")),
            }
        }
        Ok(of_queue.zip(fetched).map(|((queue, length, backoff, claimed_at), mut job)| {
            let length = lease_length(length, job.columns.timeout);
            job.latest_end = latest_lease_end(claimed_at, job.columns.timeout);
            let (queue, max_retries) = (queue.into(), job.retry.on(&backoff).max_retries());
            (TakenJob { job, queue, max_retries }, length, backoff)
        }))
    }
}

columns! {
    /// The queue with its name and settings; or the job, if it has an id, as in a [claim](super::ClaimRow).
    pub struct FetchRow {
        pub id: Option<Uuid>,
        pub queue_id: i32,
        pub name: Option<String>,
        pub lease_ms: Option<i64>,
        pub retries: RetryColumns,
        pub claimed_at: Option<Timestamp>,
        pub job: Option<LeasedColumns>,
    }
}
