//! Claiming jobs, and releasing the jobs of a claim whose reply was lost.

use crate::job::{read_codec, read_count};
use crate::settings::read_lease_and_backoff;
use crate::statement::{ConnectionClass, Declaration, roles};
use crate::time::from_ms;
use crate::wire::{AnyShape, Row, Rows, Type, Value, column};
use crate::{Backoff, ClaimedJob, Error, Lease, Operation, Params, RetryPolicy, StatementId, Timestamp};
use bytes::Bytes;
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimReply {
    /// The settings of each queue; a queue that was deleted is missing.
    pub queues: Vec<QueueReading>,
    /// The time until the next waiting job of any queue is due, at least zero; `None` if no job waits.
    pub next_due: Option<Duration>,
    /// The jobs, in the order of the lines and of their positions.
    pub jobs: Vec<ClaimedJob>,
}

impl ClaimReply {
    /// Returns whether the claim stopped at a limit, so that its lines may have more ready jobs.
    pub(crate) fn is_full(&self, claim: &Claim) -> bool {
        let bytes: usize = self.jobs.iter().map(|job| job.payload.len()).sum();
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
    type Output = ClaimReply;
    const STATEMENT: StatementId = StatementId::Claim;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("claim.sql"), ConnectionClass::Hot, roles::WORK).human_text(5);
    const COLUMNS: &'static [Type] = &[
        Type::Uuid,
        Type::Int4,
        Type::Bool,
        Type::Int8,
        Type::Int4,
        Type::Int8Array,
        Type::Int2,
        Type::Int8,
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
        vec![
            Value::Int4Array(column(&self.lines, |line| line.queue_id)),
            Value::Int4Array(column(&self.lines, |line| line.priority)),
            Value::Int8Array(column(&self.lines, |line| line.cursor)),
            Value::Int8(i64::try_from(self.limit).unwrap_or(i64::MAX)),
            Value::Int8(self.lease),
            Value::Text(&self.worker),
            self.due_bound.map_or(Value::Null(Type::Timestamp), Value::Timestamp),
        ]
    }

    fn interpret(self, rows: &Rows) -> Result<ClaimReply, Error> {
        let mut reply = ClaimReply { queues: Vec::new(), next_due: None, jobs: Vec::with_capacity(rows.len()) };
        for mut row in rows.iter(Self::STATEMENT) {
            match row.read::<Option<Uuid>>()? {
                None => read_queue(&mut row, &mut reply)?,
                Some(id) => reply.jobs.push(read_job(&mut row, Lease { job: id, number: self.lease })?),
            }
        }
        let rank = |job: &ClaimedJob| {
            self.lines.iter().position(|line| (line.queue_id, line.priority) == (job.queue_id, job.priority))
        };
        reply.jobs.sort_by_cached_key(|job| (rank(job), job.seq));
        Ok(reply)
    }
}

fn read_queue(row: &mut Row<'_>, reply: &mut ClaimReply) -> Result<(), Error> {
    let (queue_id, paused) = (row.read()?, row.read()?);
    let (lease, backoff) = read_lease_and_backoff(row)?;
    reply.queues.push(QueueReading { queue_id, paused, lease, backoff });
    reply.next_due = row.read::<Option<i64>>()?.map(from_ms);
    Ok(())
}

fn read_job(row: &mut Row<'_>, lease: Lease) -> Result<ClaimedJob, Error> {
    let queue_id = row.read()?;
    let (_paused, unreadable_ms): (Option<bool>, Option<i64>) = (row.read()?, row.read()?);
    let retry = read_retry_policy(row)?;
    let _due_ms: Option<i64> = row.read()?;
    let job = read_claimed_rest(row, lease, queue_id, retry)?;
    Ok(ClaimedJob { unreadable_for: unreadable_ms.map(from_ms), ..job })
}

/// Reads `max_retries, backoff_ms, jitter_percent` of a job or a schedule.
pub(crate) fn read_retry_policy(row: &mut Row<'_>) -> Result<RetryPolicy, Error> {
    Ok(RetryPolicy {
        max_retries: row.read::<Option<i32>>()?.and_then(|retries| u32::try_from(retries).ok()),
        backoff: row.read::<Option<AnyShape>>()?.map(|table| table.0.into_iter().map(from_ms).collect()),
        jitter_percent: row.read::<Option<i16>>()?.and_then(|percent| u8::try_from(percent).ok()),
    })
}

/// Reads the columns from `priority` on.
pub(super) fn read_claimed_rest(
    row: &mut Row<'_>,
    lease: Lease,
    queue_id: i32,
    retry: RetryPolicy,
) -> Result<ClaimedJob, Error> {
    Ok(ClaimedJob {
        lease,
        queue_id,
        retry,
        unreadable_for: None,
        priority: row.read()?,
        seq: row.read()?,
        attempt: read_count(row)?,
        retry_count: read_count(row)?,
        created_at: row.read()?,
        codec: read_codec(row)?,
        description: row.read()?,
        key: row.read()?,
        // A missing payload cannot be decoded either. The job is offered again later, and the claim goes on.
        payload: row.read::<Option<Bytes>>()?.unwrap_or_default(),
    })
}

/// Releases all jobs that a claim with a lost reply has leased. Returns how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReleaseClaim {
    /// The lease number of the claim.
    pub lease: i64,
}

impl Operation for ReleaseClaim {
    type Output = u64;
    const STATEMENT: StatementId = StatementId::ReleaseClaim;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("release_claim.sql"), ConnectionClass::Hot, roles::WORK);
    const COLUMNS: &'static [Type] = &[Type::Int8];

    fn params(&self) -> Params<'_> {
        vec![Value::Int8(self.lease)]
    }

    fn interpret(self, rows: &Rows) -> Result<u64, Error> {
        rows.only(Self::STATEMENT)?.count()
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
