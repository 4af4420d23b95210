//! Jobs as they are enqueued, claimed and shown.

use crate::lease::{MAX_DESCRIPTION_BYTES, MAX_KEY_BYTES, check_text};
use crate::wire::Row;
use crate::{Backoff, Codec, Error, Lease, QueueName, State, Timestamp};
use bytes::Bytes;
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
    pub options: JobOptions,
}

/// The optional attributes of a new job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobOptions {
    /// The codec of the payload.
    pub codec: Codec,
    /// The priority; jobs with a higher one are claimed first.
    pub priority: i32,
    /// Whether this job is paused until its queue is resumed.
    pub paused: bool,
    /// A human-readable description of at most 8 KiB.
    pub description: Option<String>,
    /// When the job becomes due; `None` is at once.
    pub run_at: Option<RunAt>,
    /// A key that keeps another job with the same key out of the queue: 1 to 1,000 bytes.
    pub key: Option<String>,
    /// For how long the job reserves its key.
    pub key_hold: KeyHold,
    /// What to do if another job has reserved the key.
    pub on_conflict: OnConflict,
    /// How many soft failures are retried; `None` follows the queue's setting.
    pub max_retries: Option<u32>,
    /// The delays before retries; `None` follows the queue's setting.
    pub backoff: Option<Vec<Duration>>,
    /// The jitter of the delays, in percent; `None` follows the queue's setting.
    pub jitter_percent: Option<u8>,
}

/// For how long a job reserves its key. Deleting the job frees the key, also when the queue's retention deletes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyHold {
    /// Until the job has finished or failed.
    #[default]
    WhileActive,
    /// Until the job has ended, and at least until this time.
    Until(Timestamp),
    /// Until the job is deleted.
    ForEver,
}

/// What an enqueue does if another job has reserved the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// Enqueue nothing and return the id of the other job.
    #[default]
    Keep,
    /// Replace the payload and options of the other job, which keeps its id, if it has not started; otherwise keep it.
    ///
    /// A job has started if a worker has claimed it and not released it. So a job that waits for a retry, or was
    /// restarted after an attempt, has started; one that was prefetched and released has not.
    Replace,
    /// Fail with a key conflict.
    Refuse,
}

/// When a job becomes due, by the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunAt {
    /// At this time, in the years 1 to 9999.
    At(Timestamp),
    /// This long after the database inserts it, at most 1,000 years.
    In(Duration),
}

impl NewJob {
    /// Checks the limits of the payload and the options, so that the database will not refuse them.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for the first value that breaks a rule.
    pub fn check(&self) -> Result<(), Error> {
        let options = &self.options;
        if self.payload.len() > MAX_PAYLOAD_BYTES {
            let size = self.payload.len();
            return Err(Error::invalid(format!("a payload of {size} bytes"), format!("is over {MAX_PAYLOAD_BYTES}")));
        }
        if let Some(description) = &options.description {
            check_text("the description", description, MAX_DESCRIPTION_BYTES)?;
        }
        if let Some(key) = &options.key {
            check_text("the key", key, MAX_KEY_BYTES)?;
            if let KeyHold::Until(until) = options.key_hold {
                check_run_at(RunAt::At(until))?;
            }
            if key.is_empty() {
                return Err(Error::invalid("the key", "is empty"));
            }
        }
        options.run_at.map_or(Ok(()), check_run_at)?;
        options.max_retries.map_or(Ok(()), crate::backoff::check_retries)?;
        options.backoff.as_deref().map_or(Ok(()), crate::backoff::check_table)?;
        options.jitter_percent.map_or(Ok(()), crate::backoff::check_jitter)
    }

    /// Returns whether the job replaces the one that has reserved its key.
    pub fn replaces(&self) -> bool {
        self.options.on_conflict == OnConflict::Replace && self.options.key.is_some()
    }

    /// Returns the priority of the job's line if it is ready at once, or `None` if it may be due later.
    pub fn ready_line(&self) -> Option<i32> {
        match self.options.run_at {
            None => Some(self.options.priority),
            Some(RunAt::In(delay)) => delay.is_zero().then_some(self.options.priority),
            // Only the database knows whether that time has come.
            Some(RunAt::At(_)) => None,
        }
    }

    /// Returns the approximate size of the job in a statement, in bytes.
    pub fn weight(&self) -> usize {
        let texts = [&self.options.description, &self.options.key];
        100 + self.payload.len() + texts.into_iter().flatten().map(String::len).sum::<usize>()
    }
}

fn check_run_at(run_at: RunAt) -> Result<(), Error> {
    const YEARS_1_TO_9999_US: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;
    match run_at {
        RunAt::At(at) if !YEARS_1_TO_9999_US.contains(&at.unix_us()) => {
            Err(Error::invalid("the due time", "is not in the years 1 to 9999"))
        }
        RunAt::In(delay) if delay > crate::time::THOUSAND_YEARS => {
            Err(Error::invalid("the due time", "is over 1,000 years from now"))
        }
        RunAt::At(_) | RunAt::In(_) => Ok(()),
    }
}

/// A claimed job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedJob {
    /// Its lease.
    pub lease: Lease,
    /// The id of its queue.
    pub queue_id: i32,
    /// Its priority.
    pub priority: i32,
    /// Its position in the line of its queue and priority.
    pub seq: i64,
    /// How often the job was claimed, this claim included.
    pub attempt: u32,
    /// The soft failures since it was created or last restarted.
    pub retry_count: u32,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// The codec of its payload.
    pub codec: Codec,
    /// Its human-readable description.
    pub description: Option<String>,
    /// Its key.
    pub key: Option<String>,
    /// Its encoded payload.
    pub payload: Bytes,
    /// For how long workers have been unable to decode its payload; `None` unless the last attempt ended that way.
    pub unreadable_for: Option<Duration>,
    /// How many soft failures are retried; `None` follows the queue's setting.
    pub max_retries: Option<u32>,
    /// The delays before retries; `None` follows the queue's setting.
    pub backoff: Option<Vec<Duration>>,
    /// The jitter of the delays, in percent; `None` follows the queue's setting.
    pub jitter_percent: Option<u8>,
}

impl ClaimedJob {
    /// Returns a job with this lease and otherwise default values.
    #[cfg(test)]
    pub(crate) fn for_tests(lease: Lease) -> ClaimedJob {
        ClaimedJob {
            lease,
            queue_id: 1,
            priority: 0,
            seq: 1,
            attempt: 1,
            retry_count: 0,
            created_at: Timestamp::from_unix_us(0),
            codec: Codec::Json,
            description: None,
            key: None,
            payload: Bytes::new(),
            unreadable_for: None,
            max_retries: None,
            backoff: None,
            jitter_percent: None,
        }
    }

    /// Returns the backoff of this job: its own values, and those of `queue` where it has none.
    pub(crate) fn effective_backoff(&self, queue: &Backoff) -> Backoff {
        let table = self.backoff.clone().unwrap_or_else(|| queue.table().to_vec());
        let max_retries = self.max_retries.unwrap_or(queue.max_retries());
        let jitter = self.jitter_percent.unwrap_or(queue.jitter_percent());
        Backoff::new(table, max_retries, jitter).unwrap_or_else(|_| queue.clone())
    }

    pub(crate) fn has_own_backoff(&self) -> bool {
        self.max_retries.is_some() || self.backoff.is_some() || self.jitter_percent.is_some()
    }
}

/// A job as it is shown, without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobMetadata {
    /// Its id.
    pub id: Uuid,
    /// The name of its queue.
    pub queue: String,
    /// Its state.
    pub state: State,
    /// Its priority; jobs with a higher one are claimed first.
    pub priority: i32,
    /// How often it was claimed.
    pub attempt: u32,
    /// The soft failures since it was created or last restarted.
    pub retry_count: u32,
    /// How many soft failures are retried.
    pub max_retries: u32,
    /// The codec of its payload.
    pub codec: Codec,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When it becomes due, if it is scheduled.
    pub run_at: Option<Timestamp>,
    /// When it finished or failed.
    pub ended_at: Option<Timestamp>,
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
    /// The size of its payload, in bytes.
    pub payload_bytes: u64,
    /// The database's time when this was read, to compute relative times.
    pub read_at: Timestamp,
}

impl JobMetadata {
    /// Reads the columns of `job_columns.sql`.
    pub(crate) fn read(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(JobMetadata {
            id: row.read()?,
            queue: row.read()?,
            state: read_state(row)?,
            priority: row.read()?,
            attempt: read_count(row)?,
            retry_count: read_count(row)?,
            max_retries: read_count(row)?,
            codec: read_codec(row)?,
            created_at: row.read()?,
            run_at: row.read()?,
            ended_at: row.read()?,
            lease_expires_at: row.read()?,
            lease: row.read()?,
            worker: row.read()?,
            key: row.read()?,
            description: row.read()?,
            reason: row.read()?,
            payload_bytes: row.read::<Option<i64>>()?.map_or(0, |bytes| bytes.unsigned_abs()),
            read_at: row.read()?,
        })
    }
}

pub(crate) fn read_state(row: &mut Row<'_>) -> Result<State, Error> {
    // pm never writes another code. No worker runs such a job and a restart repairs it, as with a failed one.
    Ok(State::from_code(row.read()?).unwrap_or(State::Failed))
}

pub(crate) fn read_codec(row: &mut Row<'_>) -> Result<Codec, Error> {
    Ok(Codec::from_code(row.read()?))
}

pub(crate) fn read_count(row: &mut Row<'_>) -> Result<u32, Error> {
    // pm never writes a negative count; one must not prevent the job from being read.
    Ok(u32::try_from(row.read::<i32>()?).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rows, StatementId};

    fn job(options: JobOptions) -> NewJob {
        NewJob { id: Uuid::nil(), queue: QueueName::new("tasks").unwrap(), payload: Bytes::new(), options }
    }

    #[test]
    fn an_unknown_state_is_read_as_failed() {
        let read = |code: i16| {
            let mut rows = Rows::builder(1);
            rows.push(Some(&code.to_be_bytes()));
            read_state(&mut rows.finish().only(StatementId::Job).unwrap()).unwrap()
        };
        assert_eq!([-1, 0, 3, 9].map(read), [State::Failed, State::Pending, State::Failed, State::Failed]);
    }

    #[test]
    fn a_job_that_the_database_would_refuse_is_refused_before_it_is_sent() {
        let text = |length| Some("x".repeat(length));
        for options in [
            JobOptions { description: text(8_193), ..JobOptions::default() },
            JobOptions { description: Some("a\0b".to_owned()), ..JobOptions::default() },
            JobOptions { key: text(1_001), ..JobOptions::default() },
            JobOptions { key: text(0), ..JobOptions::default() },
            JobOptions { key: Some("a\0b".to_owned()), ..JobOptions::default() },
            JobOptions { run_at: Some(RunAt::At(Timestamp::INFINITY)), ..JobOptions::default() },
            JobOptions { run_at: Some(RunAt::At(Timestamp::NEG_INFINITY)), ..JobOptions::default() },
            JobOptions { run_at: Some(RunAt::In(Duration::MAX)), ..JobOptions::default() },
            JobOptions { max_retries: Some(1_000_001), ..JobOptions::default() },
            JobOptions { backoff: Some(Vec::new()), ..JobOptions::default() },
            JobOptions { jitter_percent: Some(101), ..JobOptions::default() },
        ] {
            assert!(matches!(job(options.clone()).check(), Err(Error::Invalid { .. })), "{options:?}");
        }
        let valid = JobOptions {
            description: text(8_192),
            key: text(1_000),
            run_at: Some(RunAt::In(Duration::ZERO)),
            ..JobOptions::default()
        };
        assert_eq!(job(valid).check(), Ok(()));
    }
}
