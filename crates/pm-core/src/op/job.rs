//! Reading jobs.

use crate::job::{JobMetadata, read_codec, read_count, read_state};
use crate::lease::Ending;
use crate::statement::Definition;
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

pub(crate) const LIST_JOBS: Definition = Definition {
    sql: include_str!("list_jobs.sql"),
    params: &[Type::Text, Type::Int2, Type::Uuid, Type::Int8],
    columns: JOB_COLUMNS,
};
pub(crate) const JOB: Definition =
    Definition { sql: include_str!("job.sql"), params: &[Type::Uuid], columns: JOB_COLUMNS };
pub(crate) const PAYLOAD: Definition =
    Definition { sql: include_str!("payload.sql"), params: &[Type::Uuid], columns: &[Type::Int2, Type::Bytes] };
pub(crate) const RESOLVE_SUFFIX: Definition = Definition {
    sql: include_str!("resolve_suffix.sql"),
    params: &[Type::Text, Type::Int8],
    columns: &[Type::Uuid, Type::Text, Type::Int2],
};
pub(crate) const ATTEMPTS: Definition = Definition {
    sql: include_str!("attempts.sql"),
    params: &[Type::Uuid],
    columns: &[Type::Int4, Type::Timestamp, Type::Int2, Type::Text, Type::Text],
};

/// Lists jobs, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListJobs {
    /// Which.
    pub filter: JobFilter,
}

/// Which jobs to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFilter {
    /// Only jobs of this queue.
    pub queue: Option<QueueName>,
    /// Only jobs in this state, as shown.
    pub state: Option<State>,
    /// Only jobs older than this one: the last id of the page before.
    pub after: Option<Uuid>,
    /// How many at most; 100 by default.
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

/// Reads one job, if it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetJob {
    /// Its id.
    pub id: Uuid,
}

impl Operation for GetJob {
    type Output = Option<JobMetadata>;
    const STATEMENT: StatementId = StatementId::Job;

    fn params(&self) -> Params<'_> {
        vec![Value::Uuid(self.id)]
    }

    fn interpret(self, rows: &Rows) -> Result<Option<JobMetadata>, Error> {
        rows.at_most_one(Self::STATEMENT)?.map(|mut row| JobMetadata::read(&mut row)).transpose()
    }
}

/// Reads the payload of one job, if it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// The job's id.
    pub id: Uuid,
}

/// A payload as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPayload {
    /// How it is written.
    pub codec: Codec,
    /// What is written.
    pub bytes: Bytes,
}

impl Operation for Payload {
    type Output = Option<StoredPayload>;
    const STATEMENT: StatementId = StatementId::Payload;

    fn params(&self) -> Params<'_> {
        vec![Value::Uuid(self.id)]
    }

    fn interpret(self, rows: &Rows) -> Result<Option<StoredPayload>, Error> {
        let Some(mut row) = rows.at_most_one(Self::STATEMENT)? else { return Ok(None) };
        Ok(Some(StoredPayload { codec: read_codec(&mut row)?, bytes: row.read()? }))
    }
}

/// Finds jobs by the last digits of their ids. Answers at most 11: ten to show, one to know that there are more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolveSuffix {
    /// The digits.
    pub suffix: IdSuffix,
    /// Only among so many of the newest jobs; all when `None`, which reads the whole table.
    pub newest: Option<usize>,
}

/// A job that a suffix fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobMatch {
    /// Its id.
    pub id: Uuid,
    /// Where it is.
    pub queue: String,
    /// What it is doing.
    pub state: State,
}

impl Operation for ResolveSuffix {
    type Output = Vec<JobMatch>;
    const STATEMENT: StatementId = StatementId::ResolveSuffix;

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

/// Lists the attempts of a job that ended otherwise than in success, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// The job's id.
    pub id: Uuid,
}

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttemptRecord {
    /// Which claim of the job it was, from 1.
    pub attempt: u32,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How.
    pub ending: Ending,
    /// Who had it.
    pub worker: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

impl Operation for Attempts {
    type Output = Vec<AttemptRecord>;
    const STATEMENT: StatementId = StatementId::Attempts;

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
