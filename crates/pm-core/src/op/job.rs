//! Reading jobs.

use crate::job::JobMetadata;
use crate::lease::Ending;
use crate::operation::operation;
use crate::statement::{Declaration, roles};
use crate::wire::{Parameter, Value, columns};
use crate::{Codec, IdSuffix, Params, State, StatementId, Timestamp};
use bytes::Bytes;
use uuid::Uuid;

/// Lists jobs, newest first, without their payloads.
///
/// The cost grows with the rows that are read until the limit is met, up to the whole table; for failed jobs it is that
/// of the limit per queue, and for those in progress it grows with their number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListJobs {
    /// Which jobs, and how many.
    pub filter: JobFilter,
}

/// Which jobs to list. Jobs are listed newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobFilter {
    /// Only jobs of the queue of this name, which is not checked here.
    pub queue: Option<String>,
    /// Only jobs in this state; [`State::Paused`] also means the pending jobs of a paused queue.
    pub state: Option<State>,
    /// Only jobs older than this one. To get the next page, give the last id of the page before.
    pub after: Option<Uuid>,
    /// The maximum number of jobs to return (default 100).
    pub limit: usize,
}

impl Default for JobFilter {
    fn default() -> Self {
        JobFilter { queue: None, state: None, after: None, limit: 100 }
    }
}

impl JobFilter {
    /// Lists only jobs of this queue.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Lists only jobs in this state.
    pub fn state(mut self, state: State) -> Self {
        self.state = Some(state);
        self
    }

    /// Lists only jobs older than this one.
    pub fn after(mut self, after: Uuid) -> Self {
        self.after = Some(after);
        self
    }

    /// Sets the maximum number of jobs to return.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

operation! {
    ListJobs: all JobMetadata;
    Declaration::operator(StatementId::ListJobs, include_str!("list_jobs.sql"), roles::READ);
    fn params(&self) -> Params<'_> {
        let filter = &self.filter;
        vec![
            filter.queue.as_deref().param(),
            filter.state.map(|state| state.code()).param(),
            filter.after.param(),
            filter.limit.param(),
        ]
    }
}

/// Reads one job without its payload; `None` if it does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: Uuid,
}

operation! {
    Job: at_most_one JobMetadata;
    Declaration::hot(StatementId::Job, include_str!("job.sql"), roles::READ);
    fn params(&self) -> Params<'_> {
        vec![Value::Uuid(self.id)]
    }
}

/// Reads the payload of one job; `None` if the job does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// The job's id.
    pub id: Uuid,
}

columns! {
    /// A payload as it is stored.
    pub struct StoredPayload {
        /// The codec.
        pub codec: Codec,
        /// The encoded payload.
        pub bytes: Bytes as "payload",
    }
}

operation! {
    Payload: at_most_one StoredPayload;
    Declaration::hot(StatementId::Payload, include_str!("payload.sql"), roles::READ);
    fn params(&self) -> Params<'_> {
        vec![Value::Uuid(self.id)]
    }
}

/// Reads the result of one job, as JSON; `None` if the job has none or does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobResult {
    /// The job's id.
    pub id: Uuid,
}

operation! {
    JobResult: at_most_one String;
    Declaration::hot(StatementId::JobResult, include_str!("job_result.sql"), roles::READ);
    fn params(&self) -> Params<'_> {
        vec![Value::Uuid(self.id)]
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

operation! {
    ResolveSuffix: all JobMetadata;
    Declaration::operator(StatementId::ResolveSuffix, include_str!("resolve_suffix.sql"), roles::READ);
    fn params(&self) -> Params<'_> {
        vec![Value::Text(self.suffix.digits()), self.newest.param()]
    }
}

/// Lists the recorded attempts of a job, oldest first. A release is not recorded, and a commit only if the job was
/// restarted later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// The job's id.
    pub id: Uuid,
}

columns! {
    /// A recorded attempt.
    pub struct AttemptRecord {
        /// The number of the claim, from 1.
        pub attempt: u32,
        /// When it ended.
        pub ended_at: Timestamp,
        /// How it ended.
        pub ending: Ending as "verdict",
        /// The name of its worker.
        pub worker: Option<String>,
        /// Why it ended, if it failed.
        pub reason: Option<String>,
    }
}

operation! {
    Attempts: all AttemptRecord;
    Declaration::hot(StatementId::Attempts, include_str!("attempts.sql"), roles::READ);
    fn params(&self) -> Params<'_> {
        vec![Value::Uuid(self.id)]
    }
}
