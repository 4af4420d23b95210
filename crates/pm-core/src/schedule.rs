//! Schedules, which enqueue jobs by cron.

use crate::wire::{Column, Columns, Row, RowsBuilder, Type, columns, stored};
use crate::{Codec, Cron, EnqueueOptions, Error, KeyHold, OnConflict, QueueName, RetryPolicy, ScheduleName, Timestamp};
use bytes::Bytes;
use std::fmt;
use std::time::Duration;
use uuid::Uuid;

/// The maximum size of a schedule's payload, in bytes. Each of its jobs has a copy.
pub const MAX_SCHEDULE_PAYLOAD_BYTES: usize = 100_000;

/// A tick that has not been fired for longer than this is missed.
pub const TICK_GRACE: Duration = Duration::from_secs(60);

/// What to do with missed ticks: those that were not fired in time because no process was running.
///
/// A paused schedule has no ticks, so it misses none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Missed {
    /// Drop every tick that is over 60 s late ([`TICK_GRACE`]).
    Skip,
    /// Fire the latest one only.
    #[default]
    Once,
    /// Fire the latest 1 to 100 of them, each with a job, and drop earlier ones.
    All(u16),
    /// A policy that this version does not know, with its number. Such a schedule is fired by newer versions only.
    Unknown(i16),
}

impl Missed {
    /// The maximum number of ticks that are fired at once.
    pub const MOST: u16 = 100;

    pub(crate) fn code(self) -> (i16, Option<i16>) {
        match self {
            Missed::Skip => (0, None),
            Missed::Once => (1, None),
            Missed::All(limit) => (2, i16::try_from(limit).ok()),
            Missed::Unknown(code) => (code, None),
        }
    }

    /// Returns the policy that is stored as this number and limit.
    pub fn from_code(code: i16, limit: Option<i16>) -> Self {
        match (code, limit.map(u16::try_from)) {
            (0, _) => Missed::Skip,
            (1, _) => Missed::Once,
            (2, Some(Ok(limit))) => Missed::All(limit),
            (code, _) => Missed::Unknown(code),
        }
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missed::Skip => f.write_str("skip"),
            Missed::Once => f.write_str("once"),
            Missed::All(limit) => write!(f, "all:{limit}"),
            Missed::Unknown(_) => f.write_str("unknown"),
        }
    }
}

/// What to do with a tick if the job of the previous tick has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Overlap {
    /// Fire it.
    #[default]
    Allow,
    /// Drop it. Of several ticks that are due together, only the latest is fired.
    Skip,
    /// A policy that this version does not know, with its number. Such a schedule is fired by newer versions only.
    Unknown(i16),
}

impl Overlap {
    pub(crate) fn code(self) -> i16 {
        match self {
            Overlap::Allow => 0,
            Overlap::Skip => 1,
            Overlap::Unknown(code) => code,
        }
    }

    /// Returns the policy that is stored as this number.
    pub fn from_code(code: i16) -> Self {
        let known = [Overlap::Allow, Overlap::Skip].into_iter().find(|overlap| overlap.code() == code);
        known.unwrap_or(Overlap::Unknown(code))
    }
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Overlap::Allow => "allow",
            Overlap::Skip => "skip",
            Overlap::Unknown(_) => "unknown",
        })
    }
}

/// Two columns: the policy, and the limit that some have.
impl Columns for Missed {
    const COLUMNS: &'static [Column] =
        &[Column { name: "missed", ty: Type::Int2 }, Column { name: "missed_limit", ty: Type::Int2 }];

    fn read(row: &mut Row<'_>) -> Result<Self, Error> {
        Ok(Missed::from_code(row.read()?, row.read()?))
    }

    fn write(&self, reply: &mut RowsBuilder) {
        let (code, limit) = self.code();
        code.write(reply);
        limit.write(reply);
    }
}

stored! {
    Overlap as i16: |column| Some(Overlap::from_code(column)), |value| value.code();
}

/// A schedule to be created, or to replace the one with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSchedule {
    /// Its unique name.
    pub name: ScheduleName,
    /// The queue of its jobs.
    pub queue: QueueName,
    /// When it fires.
    pub cron: Cron,
    /// What to do with missed ticks.
    pub missed: Missed,
    /// What to do with a tick if the previous job has not ended.
    pub overlap: Overlap,
    /// The encoded payload of its jobs, at most [`MAX_SCHEDULE_PAYLOAD_BYTES`].
    pub payload: Bytes,
    /// The options of its jobs, without key, due time and pause: the schedule itself sets the keys.
    pub options: EnqueueOptions,
}

impl NewSchedule {
    /// Checks the limits of the schedule, so that the database will not refuse it.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for the first value that breaks a rule.
    pub fn check(&self) -> Result<(), Error> {
        let options = &self.options;
        if self.payload.len() > MAX_SCHEDULE_PAYLOAD_BYTES {
            let size = self.payload.len();
            let problem = format!("is over {MAX_SCHEDULE_PAYLOAD_BYTES}");
            return Err(Error::invalid(format!("a schedule's payload of {size} bytes"), problem));
        }
        if let Missed::All(limit) = self.missed
            && !(1..=Missed::MOST).contains(&limit)
        {
            let problem = format!("is not between 1 and {}", Missed::MOST);
            return Err(Error::invalid(format!("a limit of {limit} missed ticks"), problem));
        }
        if matches!(self.missed, Missed::Unknown(_)) || matches!(self.overlap, Overlap::Unknown(_)) {
            return Err(Error::invalid("a schedule", "has a policy that only a newer version knows"));
        }
        if options.key.is_some() || options.run_at.is_some() || options.is_paused() {
            return Err(Error::invalid("a schedule", "cannot have a key or a due time for its jobs, nor pause them"));
        }
        if options.key_hold != KeyHold::default() || options.on_conflict != OnConflict::default() {
            return Err(Error::invalid("a schedule", "cannot change what the keys of its jobs do"));
        }
        if options.expires_in.is_some() || options.timeout.is_some() {
            let problem = "cannot give its jobs a time to expire or a timeout; set the timeout of the queue";
            return Err(Error::invalid("a schedule", problem));
        }
        if options.trace.is_some() {
            return Err(Error::invalid("a schedule", "cannot have a trace: each of its jobs begins one"));
        }
        options.check()
    }
}

columns! {
    /// A schedule as it is shown.
    pub struct ScheduleMetadata {
        /// Its name.
        pub name: String,
        /// The name of the queue of its jobs.
        pub queue: String,
        /// Its cron expression.
        pub cron: String,
        /// The time zone of the expression.
        pub zone: String,
        /// What to do with missed ticks.
        pub missed: Missed,
        /// What to do with a tick if the previous job has not ended.
        pub overlap: Overlap,
        /// Whether it is paused.
        pub paused: bool,
        /// When it fires next, by the database's clock: in the past while no process fires it, `None` while it is
        /// paused.
        pub next_tick: Option<Timestamp>,
        /// The latest tick that enqueued a job.
        pub last_tick: Option<Timestamp>,
        /// The id of that job, which may have been deleted.
        pub last_job: Option<Uuid>,
        /// The priority of its jobs; jobs with a higher one are claimed first.
        pub priority: i32,
        /// The description of its jobs.
        pub description: Option<String>,
        /// The retry policy of its jobs.
        pub retry: RetryPolicy,
        /// The codec of its payload.
        pub codec: Codec,
        /// The size of its payload, in bytes.
        pub payload_bytes: u64,
        /// Its encoded payload, if the schedule was read by its name.
        pub payload: Option<Bytes>,
        /// How often it was changed, its creation included.
        pub revision: i64,
        /// The database's time when this was read.
        pub read_at: Timestamp,
    }
}

/// An instant at which a schedule fires. It is part of the key of the job: `nightly@2026-03-29T01:00:00Z`.
///
/// So a handler knows its tick and has an idempotency key that is the same in every attempt, and no two jobs of one
/// tick can be active at the same time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick {
    /// The schedule's name.
    pub schedule: String,
    /// The instant.
    pub at: Timestamp,
}

impl Tick {
    /// Returns the tick in the key of a job; `None` for a key of another form.
    ///
    /// A key of the same form that was set by a user cannot be distinguished.
    pub fn from_key(key: &str) -> Option<Tick> {
        let (schedule, at) = key.rsplit_once('@')?;
        let at: jiff::Timestamp = at.parse().ok()?;
        let tick = Tick { schedule: schedule.to_owned(), at: Timestamp::from_unix_us(at.as_microsecond()) };
        (tick.key() == key).then_some(tick)
    }

    /// Returns the key of the job that this tick enqueues.
    pub fn key(&self) -> String {
        let at = jiff::Timestamp::from_microsecond(self.at.unix_us()).unwrap_or(jiff::Timestamp::MAX);
        format!("{}@{at}", self.schedule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_job_contains_its_tick() {
        let tick = Tick { schedule: "n@ghtly".to_owned(), at: Timestamp::from_unix_us(1_774_746_000_000_000) };
        assert_eq!(tick.key(), "n@ghtly@2026-03-29T01:00:00Z");
        assert_eq!(Tick::from_key(&tick.key()), Some(tick));
        for other in ["", "nightly", "@", "nightly@", "nightly@noon", "a@2026-03-29T03:00:00+02:00", "a@2026-03-29"] {
            assert_eq!(Tick::from_key(other), None, "{other}");
        }
    }

    #[test]
    fn policies_round_trip() {
        for missed in [Missed::Skip, Missed::Once, Missed::All(1), Missed::All(100)] {
            let (code, limit) = missed.code();
            assert_eq!(Missed::from_code(code, limit), missed);
        }
        for (code, limit) in [(3, None), (2, None), (2, Some(-1)), (-1, Some(1))] {
            assert_eq!(Missed::from_code(code, limit), Missed::Unknown(code));
        }
        assert_eq!([0, 1, 2].map(Overlap::from_code), [Overlap::Allow, Overlap::Skip, Overlap::Unknown(2)]);
    }

    #[test]
    fn a_schedule_that_the_database_would_refuse_is_refused_before_it_is_sent() {
        let valid = NewSchedule {
            name: ScheduleName::new("nightly").unwrap(),
            queue: QueueName::new("tasks").unwrap(),
            cron: Cron::new("@daily", "UTC").unwrap(),
            missed: Missed::All(100),
            overlap: Overlap::Skip,
            payload: Bytes::from(vec![0; MAX_SCHEDULE_PAYLOAD_BYTES]),
            options: EnqueueOptions { description: Some("x".repeat(8_192)), ..EnqueueOptions::default() },
        };
        assert_eq!(valid.check(), Ok(()));
        let with = |options: EnqueueOptions| NewSchedule { options, ..valid.clone() };
        let payload = Bytes::from(vec![0; MAX_SCHEDULE_PAYLOAD_BYTES + 1]);
        for bad in [
            NewSchedule { payload, ..valid.clone() },
            NewSchedule { missed: Missed::All(0), ..valid.clone() },
            NewSchedule { missed: Missed::All(101), ..valid.clone() },
            NewSchedule { missed: Missed::Unknown(3), ..valid.clone() },
            NewSchedule { overlap: Overlap::Unknown(2), ..valid.clone() },
            with(EnqueueOptions { description: Some("x".repeat(8_193)), ..EnqueueOptions::default() }),
            with(EnqueueOptions { key: Some("k".to_owned()), ..EnqueueOptions::default() }),
            with(EnqueueOptions { run_at: Some(crate::RunAt::In(Duration::ZERO)), ..EnqueueOptions::default() }),
            with(EnqueueOptions::default().initial_state(crate::InitialState::Paused)),
            with(EnqueueOptions::default().key_hold(KeyHold::ForEver)),
            with(EnqueueOptions::default().on_conflict(OnConflict::Replace)),
            with(EnqueueOptions::default().max_retries(1_000_001)),
            with(EnqueueOptions::default().backoff(Vec::new())),
            with(EnqueueOptions::default().jitter_percent(101)),
        ] {
            assert!(matches!(bad.check(), Err(Error::Invalid { .. })), "{bad:?}");
        }
    }
}
