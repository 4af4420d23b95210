//! Copying a job.

use super::item::{DESCRIPTION, keyed_item_params};
use super::{odd, only};
use crate::statement::{Declaration, roles};
use crate::wire::{Rows, Value, columns};
use crate::{Error, NewJob, Operation, Params, StatementId};
use uuid::Uuid;

/// Inserts a new job with the payload of another. The payload is stored once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyJob {
    /// The id of the job whose payload is shared.
    pub source: Uuid,
    /// The new job. Its own payload, codec, delays and jitter have no effect: they are those of the source. So are the
    /// priority if it is 0, and the description, the number of retries and the timeout if it has none. Key, pause, due
    /// time and time to expire are not copied. A key is reserved while the copy is active.
    pub job: NewJob,
}

impl Operation for CopyJob {
    type Row = CopyRow;
    /// The id of the queue.
    type Output = i32;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::CopyJob, include_str!("copy_job.sql"), roles::OPERATE)
            .human_text(DESCRIPTION);

    fn params(&self) -> Params<'_> {
        let item = keyed_item_params(std::slice::from_ref(&self.job));
        item.into_iter().chain([Value::Uuid(self.source)]).collect()
    }

    fn interpret(&self, rows: &Rows) -> Result<i32, Error> {
        match only::<Self>(rows)? {
            CopyRow { outcome: 0, .. } => Err(Error::QueueNotFound(self.job.queue.to_string())),
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
