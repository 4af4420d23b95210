//! The options of an enqueue.

use crate::lease::{MAX_DESCRIPTION_BYTES, MAX_KEY_BYTES, check_text};
use crate::{Codec, Error, RetryPolicy, Timestamp, TraceContext};
use std::time::Duration;

/// The state in which a job starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum InitialState {
    /// Pending; not claimed while its queue is paused.
    #[default]
    Auto,
    /// The same as `Auto`: a paused queue takes precedence.
    Pending,
    /// Paused, even if its queue is not, until the queue is resumed.
    Paused,
}

/// The properties of a new job besides its payload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EnqueueOptions {
    /// The state in which the job starts.
    pub initial_state: InitialState,
    /// The priority; higher comes first (default 0).
    pub priority: i32,
    /// A text for humans, at most 8 KiB.
    pub description: Option<String>,
    /// While this job reserves the key, no other job with the same key can be on the queue. A job that has expired no
    /// longer does, unless `key_hold` says so. 1 to 1,000 bytes.
    pub key: Option<String>,
    /// How long the key is reserved (default: until the job has ended).
    pub key_hold: KeyHold,
    /// What to do when another job has reserved the key (default: keep that job).
    pub on_conflict: OnConflict,
    /// When the job becomes ready (default: at once).
    pub run_at: Option<RunAt>,
    /// How the payload is encoded (default JSON).
    pub codec: Codec,
    /// How often and how soon soft failures are retried (default: the queue's setting).
    pub retry: RetryPolicy,
    /// How long the job may wait for its first attempt, from its enqueue on; after that it has failed (default: for
    /// ever).
    pub expires_in: Option<Duration>,
    /// How long an attempt may take, 1 ms to 1 year (default: the queue's setting).
    pub timeout: Option<Duration>,
    /// The span in which the job is enqueued (default: what an observer returns, otherwise none).
    pub trace: Option<TraceContext>,
}

impl EnqueueOptions {
    /// Sets the state in which the job starts.
    pub fn initial_state(mut self, initial_state: InitialState) -> Self {
        self.initial_state = initial_state;
        self
    }

    /// Sets the priority; higher comes first.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the description.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Sets the key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets how long the key is reserved.
    pub fn key_hold(mut self, key_hold: KeyHold) -> Self {
        self.key_hold = key_hold;
        self
    }

    /// Sets what to do when another job has reserved the key.
    pub fn on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.on_conflict = on_conflict;
        self
    }

    /// Sets when the job becomes ready.
    pub fn run_at(mut self, run_at: RunAt) -> Self {
        self.run_at = Some(run_at);
        self
    }

    /// Sets how the payload is encoded.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Sets how many soft failures of this job are retried.
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.retry.max_retries = Some(max_retries);
        self
    }

    /// Sets the delays before retries of this job, 1 to 64 of them; the last one repeats.
    pub fn backoff(mut self, backoff: Vec<Duration>) -> Self {
        self.retry.backoff = Some(backoff);
        self
    }

    /// Sets the jitter of this job's delays, 0 to 100 percent.
    pub fn jitter_percent(mut self, jitter_percent: u8) -> Self {
        self.retry.jitter_percent = Some(jitter_percent);
        self
    }

    /// Sets how long the job may wait for its first attempt. If no worker has started it by then, whatever the reason,
    /// it has failed, with the reason `expired`.
    pub fn expires_in(mut self, expires_in: Duration) -> Self {
        self.expires_in = Some(expires_in);
        self
    }

    /// Sets how long an attempt may take. A runner asks the handler to stop then; see
    /// [`QueueSettings::timeout`](crate::QueueSettings::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the span in which the job is enqueued. The first attempt belongs to its trace; see [`JobTrace`].
    ///
    /// [`JobTrace`]: crate::JobTrace
    pub fn trace(mut self, trace: TraceContext) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Returns whether the job starts paused.
    pub fn is_paused(&self) -> bool {
        self.initial_state == InitialState::Paused
    }

    /// Checks the limits of the options, so that the database will not refuse them.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for the first value that breaks a rule.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(description) = &self.description {
            check_text("the description", description, MAX_DESCRIPTION_BYTES)?;
        }
        if let Some(key) = &self.key {
            check_text("the key", key, MAX_KEY_BYTES)?;
            if let KeyHold::Until(until) = self.key_hold {
                check_run_at(RunAt::At(until))?;
            }
            if key.is_empty() {
                return Err(Error::invalid("the key", "is empty"));
            }
        }
        self.run_at.map_or(Ok(()), check_run_at)?;
        self.timeout.map_or(Ok(()), check_timeout)?;
        self.check_expiry()?;
        self.retry.check()
    }
}

impl EnqueueOptions {
    fn check_expiry(&self) -> Result<(), Error> {
        let invalid = |problem| Err(Error::invalid("the time to expire", problem));
        match (self.expires_in, self.run_at) {
            (Some(Duration::ZERO), _) => invalid("is zero: the job could never start"),
            (Some(time), _) if time > crate::time::THOUSAND_YEARS => invalid("is over 1,000 years"),
            (Some(time), Some(RunAt::In(delay))) if time <= delay => invalid("ends before the job is due"),
            _ => Ok(()),
        }
    }
}

/// Checks the timeout of a job or of a queue.
pub(crate) fn check_timeout(timeout: Duration) -> Result<(), Error> {
    const YEAR: Duration = Duration::from_secs(366 * 86_400);
    match (Duration::from_millis(1)..=YEAR).contains(&timeout) {
        true => Ok(()),
        false => Err(Error::invalid(format!("a timeout of {timeout:?}"), "is not between 1 ms and one year")),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_the_database_would_refuse_is_refused_before_it_is_sent() {
        let text = |length| Some("x".repeat(length));
        for options in [
            EnqueueOptions { description: text(8_193), ..EnqueueOptions::default() },
            EnqueueOptions { description: Some("a\0b".to_owned()), ..EnqueueOptions::default() },
            EnqueueOptions { key: text(1_001), ..EnqueueOptions::default() },
            EnqueueOptions { key: text(0), ..EnqueueOptions::default() },
            EnqueueOptions { key: Some("a\0b".to_owned()), ..EnqueueOptions::default() },
            EnqueueOptions { run_at: Some(RunAt::At(Timestamp::INFINITY)), ..EnqueueOptions::default() },
            EnqueueOptions { run_at: Some(RunAt::At(Timestamp::NEG_INFINITY)), ..EnqueueOptions::default() },
            EnqueueOptions { run_at: Some(RunAt::In(Duration::MAX)), ..EnqueueOptions::default() },
            EnqueueOptions::default().max_retries(1_000_001),
            EnqueueOptions::default().backoff(Vec::new()),
            EnqueueOptions::default().jitter_percent(101),
        ] {
            assert!(matches!(options.check(), Err(Error::Invalid { .. })), "{options:?}");
        }
        let valid = EnqueueOptions {
            description: text(8_192),
            key: text(1_000),
            run_at: Some(RunAt::In(Duration::ZERO)),
            ..EnqueueOptions::default()
        };
        assert_eq!(valid.check(), Ok(()));
    }
}
