//! Claiming jobs, and releasing the jobs of a claim whose reply was lost.

use super::{RetryColumns, each, odd};
use crate::lease::latest_lease_end;
use crate::operation::operation;
use crate::statement::{Declaration, roles};
use crate::time::from_ms;
use crate::wire::{Parameter, Rows, Value, column, columns};
use crate::{Backoff, ClaimedJob, Error, Lease, LeasedColumns, Operation, Params, StatementId, Timestamp};
use std::time::Duration;
use uuid::Uuid;

/// Leases the next jobs of some lines. It stops after `limit` jobs, or at the job whose payload completes 16 MiB
/// ([`Claim::MAX_BYTES`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The lines, in the order in which jobs are taken from them; at most 64.
    pub lines: Vec<LineCursor>,
    /// The maximum number of jobs.
    pub limit: usize,
    /// The number of all these leases: random bits, see [`Lease::number_from`].
    pub lease: i64,
    /// The human-readable name of the worker.
    pub worker: String,
    /// No waiting job is due before this time, as far as is known: the search for the next due time starts here.
    pub due_bound: Option<Timestamp>,
}

impl Claim {
    /// A claim stops at the job whose payload completes this many bytes, so it can always return one job.
    pub const MAX_BYTES: usize = 16 << 20;
}

/// A line (one priority of one queue), and where the search for ready jobs starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineCursor {
    /// The id of the queue.
    pub queue_id: i32,
    /// The priority.
    pub priority: i32,
    /// Jobs up to and including this position are skipped.
    pub cursor: i64,
}

/// The jobs that a claim leased, and the settings of their queues.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClaimReply {
    /// The settings of each queue; a queue that was deleted is missing.
    pub queues: Vec<QueueReading>,
    /// The time until the next waiting job of any queue is due, at least zero; `None` if no job waits.
    pub next_due: Option<Duration>,
    /// When the statement began, by the database's clock; `None` if none of the queues exists any more.
    pub claimed_at: Option<Timestamp>,
    /// The jobs, in the order of the lines and of their positions.
    pub jobs: Vec<ClaimedJob>,
}

impl ClaimReply {
    /// Returns whether the claim stopped at a limit, so that its lines may have more ready jobs.
    pub(crate) fn is_full(&self, claim: &Claim) -> bool {
        let bytes: usize = self.jobs.iter().map(|job| job.payload().len()).sum();
        self.jobs.len() >= claim.limit || bytes >= Claim::MAX_BYTES
    }
}

/// The settings of a queue, as read by a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueReading {
    /// The id of the queue.
    pub queue_id: i32,
    /// Whether it is paused.
    pub paused: bool,
    /// The length of its leases.
    pub lease: Duration,
    /// How soft failures of its jobs are retried.
    pub backoff: Backoff,
}

impl Operation for Claim {
    type Row = ClaimRow;
    type Output = ClaimReply;
    const DECLARATION: Declaration =
        Declaration::hot(StatementId::Claim, include_str!("claim.sql"), roles::WORK).human_text(5);

    fn params(&self) -> Params<'_> {
        vec![
            column(&self.lines, |line| line.queue_id),
            column(&self.lines, |line| line.priority),
            column(&self.lines, |line| line.cursor),
            self.limit.param(),
            Value::Int8(self.lease),
            Value::Text(&self.worker),
            self.due_bound.param(),
        ]
    }

    fn interpret(&self, rows: &Rows) -> Result<ClaimReply, Error> {
        let mut reply = ClaimReply { jobs: Vec::with_capacity(rows.len()), ..ClaimReply::default() };
        for row in each::<Self>(rows) {
            let ClaimRow { id, queue_id, paused, lease_ms, retries, due_ms, claimed_at, job } = row?;
            match (id, paused, lease_ms, job) {
                (None, Some(paused), Some(lease_ms), _) => {
                    let backoff = retries.of_queue().ok_or_else(|| odd::<Self>("a queue without settings"))?;
                    reply.queues.push(QueueReading { queue_id, paused, lease: from_ms(lease_ms), backoff });
                    reply.next_due = due_ms.map(from_ms);
                    reply.claimed_at = claimed_at;
                }
                (Some(id), _, unreadable_ms, Some(columns)) => {
                    let lease = Lease { job: id, number: self.lease };
                    let (unreadable_for, retry) = (unreadable_ms.map(from_ms), retries.overrides());
                    let latest_end = Timestamp::INFINITY;
                    reply.jobs.push(ClaimedJob { lease, queue_id, unreadable_for, retry, latest_end, columns });
                }
                _ => return Err(odd::<Self>("neither a queue nor a job")),
            }
        }
        for job in reply.jobs.iter_mut().filter(|job| job.columns.timeout.is_some()) {
            job.latest_end = latest_lease_end(reply.claimed_at, job.columns.timeout);
        }
        let rank = |job: &ClaimedJob| {
            self.lines.iter().position(|line| (line.queue_id, line.priority) == (job.queue_id, job.columns.priority))
        };
        reply.jobs.sort_by_cached_key(|job| (rank(job), job.columns.seq));
        Ok(reply)
    }
}

columns! {
    /// A queue with its settings; or a job, if it has an id, with its own retries. `lease_ms` of a job is for how long
    /// its payload has been unreadable.
    pub struct ClaimRow {
        pub id: Option<Uuid>,
        pub queue_id: i32,
        pub paused: Option<bool>,
        pub lease_ms: Option<i64>,
        pub retries: RetryColumns,
        pub due_ms: Option<i64>,
        pub claimed_at: Option<Timestamp>,
        pub job: Option<LeasedColumns>,
    }
}

/// Releases all jobs that a claim with a lost reply has leased. Returns how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReleaseClaim {
    /// The lease number of the claim.
    pub lease: i64,
}

operation! {
    ReleaseClaim: only u64;
    Declaration::hot(StatementId::ReleaseClaim, include_str!("release_claim.sql"), roles::WORK);
    fn params(&self) -> Params<'_> {
        vec![Value::Int8(self.lease)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_stops_at_the_documented_size() {
        assert!(Claim::DECLARATION.sql.contains(&format!("bytes_so_far - bytes < {})", Claim::MAX_BYTES)));
    }
}
