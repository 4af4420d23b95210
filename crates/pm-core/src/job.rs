//! Jobs as they are enqueued, claimed and shown.

use crate::wire::columns;
use crate::{
    Codec, EnqueueOptions, Error, JobTrace, Lease, OnConflict, QueueName, RetryPolicy, RunAt, State, Timestamp,
    TraceContext,
};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The maximum size of a payload, in bytes. Larger ones are refused before anything is sent.
pub const MAX_PAYLOAD_BYTES: usize = 1_000_000_000;

/// A job to be enqueued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// Its id, chosen by the client, so that a job sent twice is inserted once.
    pub id: Uuid,
    /// Its queue.
    pub queue: QueueName,
    /// The encoded payload, at most [`MAX_PAYLOAD_BYTES`].
    pub payload: Bytes,
    /// All other attributes.
    pub options: EnqueueOptions,
}

impl NewJob {
    /// Checks the limits of the payload and the options, so that the database will not refuse them.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for the first value that breaks a rule.
    pub fn check(&self) -> Result<(), Error> {
        if self.payload.len() > MAX_PAYLOAD_BYTES {
            let size = self.payload.len();
            return Err(Error::invalid(format!("a payload of {size} bytes"), format!("is over {MAX_PAYLOAD_BYTES}")));
        }
        self.options.check()
    }

    /// Returns whether the job replaces the one that has reserved its key.
    pub fn replaces(&self) -> bool {
        self.options.on_conflict == OnConflict::Replace && self.options.key.is_some()
    }

    /// Returns the priority of the line that the job is put in at once, or `Some(None)` if it may be due later. Returns
    /// `None` if the job is paused, which no worker needs to know.
    pub fn ready_line(&self) -> Option<Option<i32>> {
        if self.options.is_paused() {
            return None;
        }
        Some(match self.options.run_at {
            None => Some(self.options.priority),
            Some(RunAt::In(delay)) => delay.is_zero().then_some(self.options.priority),
            // Only the database knows whether that time has come.
            Some(RunAt::At(_)) => None,
        })
    }

    /// Returns the approximate size of the job in a statement, in bytes.
    pub fn weight(&self) -> usize {
        let EnqueueOptions { description, key, trace, .. } = &self.options;
        let texts = [description.as_deref(), key.as_deref(), trace.as_ref().map(TraceContext::as_str)];
        100 + self.payload.len() + texts.into_iter().flatten().map(str::len).sum::<usize>()
    }
}

/// A claimed job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedJob {
    /// Its lease.
    pub lease: Lease,
    /// The id of its queue.
    pub queue_id: i32,
    /// For how long workers have been unable to decode its payload; `None` unless the last attempt ended that way.
    pub unreadable_for: Option<Duration>,
    /// Its own retry policy.
    pub retry: RetryPolicy,
    /// When its lease ends at the latest, however often it is extended: 30 s after its timeout, counted from the claim.
    /// [`Timestamp::INFINITY`] if it has no timeout.
    pub latest_end: Timestamp,
    /// What else was read of it.
    pub columns: LeasedColumns,
}

columns! {
    /// The columns that are read of every leased job.
    pub struct LeasedColumns {
        /// Its priority.
        pub priority: i32,
        /// Its position in the line of its queue and priority.
        pub seq: i64,
        /// How often the job was claimed, this claim included.
        pub attempt: u32,
        /// The soft failures since it was created or last restarted.
        pub retry_count: u32,
        /// How often a worker has put it off since it was created or last restarted; `None` if it never was put off.
        pub snoozes: Option<u32>,
        /// How long this attempt may take; `None` for any time.
        pub timeout: Option<Duration> as "timeout_ms",
        /// When it was enqueued.
        pub created_at: Timestamp,
        /// The codec of its payload.
        pub codec: Codec,
        /// Its human-readable description.
        pub description: Option<String>,
        /// Its key.
        pub key: Option<String>,
        /// Its trace, as it is stored; see [`ClaimedJob::trace`].
        pub trace: Option<Box<str>>,
        /// Its encoded payload, if it is stored.
        pub payload: Option<Bytes>,
    }
}

/// A claimed job with the name of its queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenJob {
    /// The job.
    pub job: ClaimedJob,
    /// The name of its queue when it was claimed.
    pub queue: Arc<str>,
    /// How many of its soft failures are retried.
    pub max_retries: u32,
}

impl ClaimedJob {
    /// Returns its encoded payload.
    pub fn payload(&self) -> &Bytes {
        static MISSING: Bytes = Bytes::new();
        // A missing payload cannot be decoded either. The job is offered again later, and the claim goes on.
        self.columns.payload.as_ref().unwrap_or(&MISSING)
    }

    /// Returns how this attempt relates to the span in which the job was enqueued; `None` if that is not known.
    pub fn trace(&self) -> Option<JobTrace> {
        let is_first_attempt = self.columns.attempt == 1 && self.columns.snoozes.is_none();
        JobTrace::from_stored(self.columns.trace.as_deref()?, is_first_attempt)
    }

    /// Returns a job with this lease and position, and otherwise default values.
    #[cfg(test)]
    pub(crate) fn for_tests(lease: Lease, seq: i64) -> ClaimedJob {
        let columns = LeasedColumns {
            priority: 0,
            seq,
            attempt: 1,
            retry_count: 0,
            snoozes: None,
            timeout: None,
            created_at: Timestamp::from_unix_us(0),
            codec: Codec::Json,
            description: None,
            key: None,
            trace: None,
            payload: None,
        };
        ClaimedJob {
            lease,
            queue_id: 1,
            unreadable_for: None,
            retry: RetryPolicy::default(),
            latest_end: Timestamp::INFINITY,
            columns,
        }
    }
}

columns! {
    /// A job as it is shown, without its payload.
    pub struct JobMetadata {
        /// Its id.
        pub id: Uuid,
        /// The name of its queue.
        pub queue: String as "name",
        /// Its state.
        pub state: State,
        /// Its priority; jobs with a higher one are claimed first.
        pub priority: i32,
        /// How often it was claimed.
        pub attempt: u32,
        /// The soft failures since it was created or last restarted.
        pub retry_count: u32,
        /// How often a worker has put it off since it was created or last restarted.
        pub snoozes: u32,
        /// How many soft failures are retried.
        pub max_retries: u32,
        /// The codec of its payload.
        pub codec: Codec,
        /// When it was enqueued.
        pub created_at: Timestamp,
        /// When it becomes due, if it is scheduled.
        pub run_at: Option<Timestamp>,
        /// When it fails if it has not started by then.
        pub expires_at: Option<Timestamp>,
        /// How long an attempt may take; `None` for any time.
        pub timeout: Option<Duration> as "timeout_ms",
        /// When it finished or failed.
        pub ended_at: Option<Timestamp>,
        /// When it was cancelled; its handler has been asked to stop since then, if it is in progress.
        pub cancelled_at: Option<Timestamp>,
        /// Why it was cancelled.
        pub cancel_reason: Option<String>,
        /// When its lease expires, if it is in progress.
        pub lease_expires_at: Option<Timestamp>,
        /// The number of its lease, if it is in progress.
        pub lease: Option<i64>,
        /// The name of the worker that claimed it last.
        pub worker: Option<String>,
        /// Its key.
        pub key: Option<String>,
        /// Its human-readable description.
        pub description: Option<String>,
        /// Why its last attempt failed.
        pub reason: Option<String>,
        /// The span in which it was enqueued: a traceparent and a tracestate of W3C, after `link ` for a copy and a
        /// restarted job.
        pub trace: Option<String>,
        /// How far its handler has come, as the handler reported it: JSON, at most 8 KiB.
        pub progress: Option<String>,
        /// The size of its payload, in bytes.
        pub payload_bytes: u64,
        /// The size of its result, in bytes as it is stored; `None` if it has none.
        pub result_bytes: Option<u64>,
        /// The database's time when this was read, to compute relative times.
        pub read_at: Timestamp,
    }
}
