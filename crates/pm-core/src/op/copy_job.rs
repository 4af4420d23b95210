//! A new job with the payload of another.

use crate::statement::Definition;
use crate::time::whole_ms;
use crate::wire::{Rows, Type, Value};
use crate::{Error, JobOptions, Operation, Params, QueueName, RunAt, StatementId};
use uuid::Uuid;

pub(crate) const COPY_JOB: Definition = Definition {
    sql: include_str!("copy_job.sql"),
    params: &[
        Type::Uuid,
        Type::Uuid,
        Type::Text,
        Type::Int4,
        Type::Text,
        Type::Text,
        Type::Int4,
        Type::Bool,
        Type::Timestamp,
        Type::Int8,
    ],
    columns: &[Type::Int2, Type::Int4],
};

/// Makes a new job with the payload of another, stored once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyJob {
    /// The job whose payload is shared.
    pub source: Uuid,
    /// The new job's id, made by the client.
    pub id: Uuid,
    /// Where it goes.
    pub queue: QueueName,
    /// Its priority, if not the source's.
    pub priority: Option<i32>,
    /// Of these, description and retries are inherited unless given; key, pause and due time are the copy's own; the
    /// others have no effect: codec, delays and jitter are the source's, and a key is held while the copy is active.
    pub options: JobOptions,
}

impl Operation for CopyJob {
    /// The queue's number.
    type Output = i32;
    const STATEMENT: StatementId = StatementId::CopyJob;

    fn params(&self) -> Params<'_> {
        let options = &self.options;
        let (at, delay) = match options.run_at {
            Some(RunAt::At(at)) => (Value::Timestamp(at), Value::Null(Type::Int8)),
            Some(RunAt::In(delay)) => (Value::Null(Type::Timestamp), Value::Int8(whole_ms(delay))),
            None => (Value::Null(Type::Timestamp), Value::Null(Type::Int8)),
        };
        vec![
            Value::Uuid(self.source),
            Value::Uuid(self.id),
            Value::Text(self.queue.as_str()),
            self.priority.map_or(Value::Null(Type::Int4), Value::Int4),
            options.description.as_deref().map_or(Value::Null(Type::Text), Value::Text),
            options.key.as_deref().map_or(Value::Null(Type::Text), Value::Text),
            options.max_retries.map_or(Value::Null(Type::Int4), |retries| Value::Int4(retries as i32)),
            Value::Bool(options.paused),
            at,
            delay,
        ]
    }

    fn interpret(self, rows: &Rows) -> Result<i32, Error> {
        let mut row = rows.only(Self::STATEMENT)?;
        match row.read::<i16>()? {
            0 => Err(Error::QueueNotFound(self.queue.to_string())),
            1 => Err(Error::JobNotFound(self.source)),
            2 => row.read(),
            odd => Err(row.odd(format!("outcome {odd}"))),
        }
    }
}
