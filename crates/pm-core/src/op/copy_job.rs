//! Copying a job.

use super::{odd, only};
use crate::statement::{Declaration, roles};
use crate::wire::{Parameter, Rows, Value, columns};
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
    type Row = CopyRow;
    /// The id of the queue.
    type Output = i32;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::CopyJob, include_str!("copy_job.sql"), roles::OPERATE).human_text(4);

    fn params(&self) -> Params<'_> {
        let options = &self.options;
        let (at, delay) = match options.run_at {
            Some(RunAt::At(at)) => (Some(at), None),
            Some(RunAt::In(delay)) => (None, Some(delay)),
            None => (None, None),
        };
        vec![
            Value::Uuid(self.source),
            Value::Uuid(self.id),
            Value::Text(self.queue.as_str()),
            self.priority.param(),
            options.description.as_deref().param(),
            options.key.as_deref().param(),
            options.retry.max_retries.map(|retries| retries as i32).param(),
            Value::Bool(options.is_paused()),
            at.param(),
            delay.param(),
        ]
    }

    fn interpret(&self, rows: &Rows) -> Result<i32, Error> {
        match only::<Self>(rows)? {
            CopyRow { outcome: 0, .. } => Err(Error::QueueNotFound(self.queue.to_string())),
            CopyRow { outcome: 1, .. } => Err(Error::JobNotFound(self.source)),
            CopyRow { outcome: 2, queue_id: Some(queue_id) } => Ok(queue_id),
            CopyRow { outcome, .. } => Err(odd::<Self>(format!("outcome {outcome}"))),
        }
    }
}

columns! {
    /// The outcome of a copy, and the id of the queue of the new job.
    pub struct CopyRow {
        pub outcome: i16,
        pub queue_id: Option<i32>,
    }
}
