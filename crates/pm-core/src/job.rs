//! Jobs, as they are put in, claimed and shown.

use crate::lease::{MAX_DESCRIPTION_BYTES, MAX_KEY_BYTES, check_text};
use crate::wire::Row;
use crate::{Backoff, Codec, Error, Lease, QueueName, State, Timestamp};
use bytes::Bytes;
use std::time::Duration;
use uuid::Uuid;

/// The largest payload, in bytes; what is larger is refused before anything is sent.
pub const MAX_PAYLOAD_BYTES: usize = 1_000_000_000;

/// A job to be put on a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// Made by the client, so that sending the job twice means once.
    pub id: Uuid,
    /// Where it goes.
    pub queue: QueueName,
    /// What the handler gets.
    pub payload: Bytes,
    /// Everything else.
    pub options: JobOptions,
}

/// What may be said of a job besides its payload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobOptions {
    /// How the payload is written.
    pub codec: Codec,
    /// Higher first.
    pub priority: i32,
    /// Whether this job alone waits until its queue is resumed.
    pub paused: bool,
    /// For people; at most 8 KiB.
    pub description: Option<String>,
    /// When to start, if not at once.
    pub run_at: Option<RunAt>,
    /// Keeps another job with the same key off the queue; 1 to 1,000 bytes.
    pub key: Option<String>,
    /// For how long the key is held.
    pub key_hold: KeyHold,
    /// What to do when another job holds the key.
    pub on_conflict: OnConflict,
    /// How many soft failures of this job are retried, if not as many as its queue says.
    pub max_retries: Option<u32>,
    /// The delays of this job, if not its queue's.
    pub backoff: Option<Vec<Duration>>,
    /// The jitter of this job's delays in percent, if not its queue's.
    pub jitter_percent: Option<u8>,
}

/// For how long a key keeps other jobs off its queue. A job that is deleted lets go of its key, also when the retention of its
/// queue deletes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyHold {
    /// Until its job has finished or failed.
    #[default]
    WhileActive,
    /// Until its job has ended, and at least until this time.
    Until(Timestamp),
    /// Until its job is deleted.
    ForEver,
}

/// What to do when another job holds the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// Keep the other job; its id is returned.
    #[default]
    Keep,
    /// Make the other job what this one would have been, under its id, if it has not started; else keep it.
    ///
    /// A job has started when a worker claimed it and did not release it: one that waits for a retry or was restarted
    /// after an attempt has; one that was claimed ahead and released has not.
    Replace,
    /// Refuse.
    Refuse,
}

/// When a job becomes due, in the years 1 to 9999 and within 1,000 years. The database's clock decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunAt {
    /// At this time.
    At(Timestamp),
    /// So long after the database hears of it.
    In(Duration),
}

impl NewJob {
    /// Returns whether the job can be sent at all.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] says what breaks which rule.
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

    /// Returns whether the job may replace the one that holds its key.
    pub fn replaces(&self) -> bool {
        self.options.on_conflict == OnConflict::Replace && self.options.key.is_some()
    }

    /// Returns the priority of the line that the job is on at once, none when it is due later.
    pub fn ready_line(&self) -> Option<i32> {
        match self.options.run_at {
            None => Some(self.options.priority),
            Some(RunAt::In(delay)) => delay.is_zero().then_some(self.options.priority),
            // Whether that time has come only the database knows.
            Some(RunAt::At(_)) => None,
        }
    }

    /// Returns about how many bytes the job takes in a statement.
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

/// A job in a worker's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedJob {
    /// The right to work on it.
    pub lease: Lease,
    /// Where it was found.
    pub queue_id: i32,
    /// Higher first.
    pub priority: i32,
    /// Its position for the line.
    pub seq: i64,
    /// How often the job was claimed, this time included.
    pub attempt: u32,
    /// Soft failures since it was created or last restarted.
    pub retry_count: u32,
    /// When it was put on a queue.
    pub created_at: Timestamp,
    /// How its payload is written.
    pub codec: Codec,
    /// For people.
    pub description: Option<String>,
    /// Its key.
    pub key: Option<String>,
    /// What the handler gets.
    pub payload: Bytes,
    /// For how long workers have not been able to decode its payload; none when this is the first try, or the last one
    /// ended otherwise.
    pub unreadable_for: Option<Duration>,
    /// Its own retries, if not its queue's.
    pub max_retries: Option<u32>,
    /// Its own delays, if not its queue's.
    pub backoff: Option<Vec<Duration>>,
    /// Its own jitter in percent, if not its queue's.
    pub jitter_percent: Option<u8>,
}

impl ClaimedJob {
    /// Returns a job that has nothing but its lease.
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

    /// Returns the backoff that holds for this job on a queue with the given one.
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
    /// Where it is.
    pub queue: String,
    /// What it is doing.
    pub state: State,
    /// Higher first.
    pub priority: i32,
    /// How often it was claimed.
    pub attempt: u32,
    /// Soft failures since it was created or last restarted.
    pub retry_count: u32,
    /// How many soft failures are retried.
    pub max_retries: u32,
    /// How its payload is written.
    pub codec: Codec,
    /// When it was put on a queue.
    pub created_at: Timestamp,
    /// When it becomes due, if that is still to come.
    pub run_at: Option<Timestamp>,
    /// When it finished or failed.
    pub ended_at: Option<Timestamp>,
    /// When its lease ends.
    pub lease_expires_at: Option<Timestamp>,
    /// The number of its lease.
    pub lease: Option<i64>,
    /// Who claimed it last.
    pub worker: Option<String>,
    /// Its key.
    pub key: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Why its last attempt failed.
    pub reason: Option<String>,
    /// The size of its payload.
    pub payload_bytes: u64,
    /// The database's time when this was read, for "due in 24 min".
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
    // Another was written by someone else. Nothing runs such a job, and a restart mends it, as with one that failed.
    Ok(State::from_code(row.read()?).unwrap_or(State::Failed))
}

pub(crate) fn read_codec(row: &mut Row<'_>) -> Result<Codec, Error> {
    Ok(Codec::from_code(row.read()?))
}

pub(crate) fn read_count(row: &mut Row<'_>) -> Result<u32, Error> {
    // A negative one was written by someone else, and is no reason not to see the job.
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
    fn a_state_that_someone_else_wrote_reads_as_failed() {
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
        let fine = JobOptions {
            description: text(8_192),
            key: text(1_000),
            run_at: Some(RunAt::In(Duration::ZERO)),
            ..JobOptions::default()
        };
        assert_eq!(job(fine).check(), Ok(()));
    }
}
