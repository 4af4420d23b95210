//! Copying a job.

use crate::statement::{ConnectionClass, Declaration, roles};
use crate::time::whole_ms;
use crate::wire::{Rows, Type, Value};
use crate::{EnqueueOptions, Error, Operation, Params, QueueName, RunAt, StatementId};
use uuid::Uuid;

/// Inserts a new job with the payload of another. The payload is stored once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyJob {
    /// The id of the job whose payload is shared.
    pub source: Uuid,
    /// The id of the new job, chosen by the client, so that a copy sent twice is inserted once.
    pub id: Uuid,
    /// The queue of the new job.
    pub queue: QueueName,
    /// The priority of the new job; `None` for that of the source.
    pub priority: Option<i32>,
    /// The options of the new job. Without a description or a maximum of retries it gets those of the source. Key,
    /// pause and due time are not copied. The other options have no effect: codec, delays and jitter are those of the
    /// source, and a key is reserved while the copy is active.
    pub options: EnqueueOptions,
}

impl Operation for CopyJob {
    /// The id of the queue.
    type Output = i32;
    const STATEMENT: StatementId = StatementId::CopyJob;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("copy_job.sql"), ConnectionClass::Operator, roles::OPERATE).human_text(4);
    const COLUMNS: &'static [Type] = &[Type::Int2, Type::Int4];

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
            options.retry.max_retries.map_or(Value::Null(Type::Int4), |retries| Value::Int4(retries as i32)),
            Value::Bool(options.is_paused()),
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
