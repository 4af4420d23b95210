//! Reading jobs.

use crate::job::{JobMetadata, read_codec, read_count, read_state};
use crate::lease::Ending;
use crate::statement::{ConnectionClass, Declaration, roles};
use crate::wire::{Rows, Type, Value};
use crate::{Codec, Error, IdSuffix, Operation, Params, QueueName, State, StatementId, Timestamp};
use bytes::Bytes;
use uuid::Uuid;

const JOB_COLUMNS: &[Type] = &[
    Type::Uuid,
    Type::Text,
    Type::Int2,
    Type::Int4,
    Type::Int4,
    Type::Int4,
    Type::Int4,
    Type::Int2,
    Type::Timestamp,
    Type::Timestamp,
    Type::Timestamp,
    Type::Timestamp,
    Type::Int8,
    Type::Text,
    Type::Text,
    Type::Text,
    Type::Text,
    Type::Int8,
    Type::Timestamp,
];

/// Lists jobs, newest first, without their payloads.
///
/// The cost grows with the rows that are read until the limit is met, up to the whole table; for failed jobs it is that
/// of the limit per queue, and for those in progress it grows with their number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListJobs {
    /// Which jobs, and how many.
    pub filter: JobFilter,
}

/// Which jobs to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFilter {
    /// Only jobs of this queue.
    pub queue: Option<QueueName>,
    /// Only jobs in this state, as shown.
    pub state: Option<State>,
    /// Only jobs older than this one: the last id of the previous page.
    pub after: Option<Uuid>,
    /// The maximum number of jobs (default 100).
    pub limit: usize,
}

impl Default for JobFilter {
    fn default() -> Self {
        JobFilter { queue: None, state: None, after: None, limit: 100 }
    }
}

impl Operation for ListJobs {
    type Output = Vec<JobMetadata>;
    const STATEMENT: StatementId = StatementId::ListJobs;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("list_jobs.sql"), ConnectionClass::Operator, roles::READ);
    const COLUMNS: &'static [Type] = JOB_COLUMNS;

    fn params(&self) -> Params<'_> {
        let filter = &self.filter;
        vec![
            filter.queue.as_ref().map_or(Value::Null(Type::Text), |queue| Value::Text(queue.as_str())),
            filter.state.map_or(Value::Null(Type::Int2), |state| Value::Int2(state.code())),
            filter.after.map_or(Value::Null(Type::Uuid), Value::Uuid),
            Value::Int8(i64::try_from(filter.limit).unwrap_or(i64::MAX)),
        ]
    }

    fn interpret(self, rows: &Rows) -> Result<Vec<JobMetadata>, Error> {
        rows.iter(Self::STATEMENT).map(|mut row| JobMetadata::read(&mut row)).collect()
    }
}

/// Reads one job without its payload; `None` if it does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: Uuid,
}

impl Operation for Job {
    type Output = Option<JobMetadata>;
    const STATEMENT: StatementId = StatementId::Job;
    const DECLARATION: Declaration = Declaration::new(include_str!("job.sql"), ConnectionClass::Hot, roles::READ);
    const COLUMNS: &'static [Type] = JOB_COLUMNS;

    fn params(&self) -> Params<'_> {
        vec![Value::Uuid(self.id)]
    }

    fn interpret(self, rows: &Rows) -> Result<Option<JobMetadata>, Error> {
        rows.at_most_one(Self::STATEMENT)?.map(|mut row| JobMetadata::read(&mut row)).transpose()
    }
}

/// Reads the payload of one job; `None` if the job does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// The job's id.
    pub id: Uuid,
}

/// A payload as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPayload {
    /// The codec.
    pub codec: Codec,
    /// The encoded payload.
    pub bytes: Bytes,
}

impl Operation for Payload {
    type Output = Option<StoredPayload>;
    const STATEMENT: StatementId = StatementId::Payload;
    const DECLARATION: Declaration = Declaration::new(include_str!("payload.sql"), ConnectionClass::Hot, roles::READ);
    const COLUMNS: &'static [Type] = &[Type::Int2, Type::Bytes];

    fn params(&self) -> Params<'_> {
        vec![Value::Uuid(self.id)]
    }

    fn interpret(self, rows: &Rows) -> Result<Option<StoredPayload>, Error> {
        let Some(mut row) = rows.at_most_one(Self::STATEMENT)? else { return Ok(None) };
        Ok(Some(StoredPayload { codec: read_codec(&mut row)?, bytes: row.read()? }))
    }
}

/// Finds jobs by the last digits of their ids. Returns at most 11: ten to show, and one to indicate that there are
/// more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolveSuffix {
    /// The last digits.
    pub suffix: IdSuffix,
    /// How many of the newest jobs to search; `None` searches all, which reads the whole table.
    pub newest: Option<usize>,
}

/// A job whose id ends in a suffix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobMatch {
    /// Its id.
    pub id: Uuid,
    /// The name of its queue.
    pub queue: String,
    /// Its state.
    pub state: State,
}

impl Operation for ResolveSuffix {
    type Output = Vec<JobMatch>;
    const STATEMENT: StatementId = StatementId::ResolveSuffix;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("resolve_suffix.sql"), ConnectionClass::Operator, roles::READ);
    const COLUMNS: &'static [Type] = &[Type::Uuid, Type::Text, Type::Int2];

    fn params(&self) -> Params<'_> {
        let newest = self.newest.map(|newest| i64::try_from(newest).unwrap_or(i64::MAX));
        vec![Value::Text(self.suffix.digits()), newest.map_or(Value::Null(Type::Int8), Value::Int8)]
    }

    fn interpret(self, rows: &Rows) -> Result<Vec<JobMatch>, Error> {
        let read = |mut row: crate::wire::Row<'_>| {
            Ok(JobMatch { id: row.read()?, queue: row.read()?, state: read_state(&mut row)? })
        };
        rows.iter(Self::STATEMENT).map(read).collect()
    }
}

/// Lists the recorded attempts of a job, oldest first. A release is not recorded, and a commit only if the job was
/// restarted later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// The job's id.
    pub id: Uuid,
}

/// A recorded attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttemptRecord {
    /// The number of the claim, from 1.
    pub attempt: u32,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How it ended.
    pub ending: Ending,
    /// The name of its worker.
    pub worker: Option<String>,
    /// Why it ended, if it failed.
    pub reason: Option<String>,
}

impl Operation for Attempts {
    type Output = Vec<AttemptRecord>;
    const STATEMENT: StatementId = StatementId::Attempts;
    const DECLARATION: Declaration = Declaration::new(include_str!("attempts.sql"), ConnectionClass::Hot, roles::READ);
    const COLUMNS: &'static [Type] = &[Type::Int4, Type::Timestamp, Type::Int2, Type::Text, Type::Text];

    fn params(&self) -> Params<'_> {
        vec![Value::Uuid(self.id)]
    }

    fn interpret(self, rows: &Rows) -> Result<Vec<AttemptRecord>, Error> {
        let read = |mut row: crate::wire::Row<'_>| {
            let (attempt, ended_at, code) = (read_count(&mut row)?, row.read()?, row.read()?);
            let ending = Ending::from_code(code).ok_or_else(|| row.odd(format!("verdict {code}")))?;
            Ok(AttemptRecord { attempt, ended_at, ending, worker: row.read()?, reason: row.read()? })
        };
        rows.iter(Self::STATEMENT).map(read).collect()
    }
}
