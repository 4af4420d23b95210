//! Fetching one job by its id.

use super::claim::{read_claimed_rest, read_retry_policy};
use crate::settings::read_lease_and_backoff;
use crate::statement::{ConnectionClass, Declaration, roles};
use crate::time::from_ms;
use crate::wire::{Rows, Type, Value};
use crate::{Backoff, ClaimedJob, Error, Lease, Operation, Params, StatementId};
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

/// A job fetched by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedJob {
    /// The job.
    pub job: ClaimedJob,
    /// The name of its queue.
    pub queue: String,
    /// The length of the lease.
    pub length: Duration,
    /// How its queue retries soft failures.
    pub backoff: Backoff,
}

impl Operation for FetchJob {
    type Output = Option<FetchedJob>;
    const STATEMENT: StatementId = StatementId::FetchJob;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("fetch_job.sql"), ConnectionClass::Hot, roles::WORK).human_text(2);
    const COLUMNS: &'static [Type] = &[
        Type::Uuid,
        Type::Int4,
        Type::Text,
        Type::Int8,
        Type::Int4,
        Type::Int8Array,
        Type::Int2,
        Type::Int4,
        Type::Int8,
        Type::Int4,
        Type::Int4,
        Type::Timestamp,
        Type::Int2,
        Type::Text,
        Type::Text,
        Type::Bytes,
    ];

    fn params(&self) -> Params<'_> {
        vec![Value::Uuid(self.lease.job), Value::Int8(self.lease.number), Value::Text(&self.worker)]
    }

    fn interpret(self, rows: &Rows) -> Result<Option<FetchedJob>, Error> {
        let (mut queue, mut job) = (None, None);
        for mut row in rows.iter(Self::STATEMENT) {
            let id: Option<Uuid> = row.read()?;
            let queue_id: i32 = row.read()?;
            if id.is_none() {
                let name: String = row.read()?;
                queue = Some((name, read_lease_and_backoff(&mut row)?));
            } else {
                let (_name, unreadable_ms): (Option<String>, Option<i64>) = (row.read()?, row.read()?);
                let retry = read_retry_policy(&mut row)?;
                let fetched = read_claimed_rest(&mut row, self.lease, queue_id, retry)?;
                job = Some(ClaimedJob { unreadable_for: unreadable_ms.map(from_ms), ..fetched });
            }
        }
        Ok(queue.zip(job).map(|((queue, (length, backoff)), job)| FetchedJob { job, queue, length, backoff }))
    }
}
