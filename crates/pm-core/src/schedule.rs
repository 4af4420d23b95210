//! Schedules: jobs that are made again and again.

use crate::job::read_codec;
use crate::lease::{MAX_DESCRIPTION_BYTES, check_text};
use crate::op::read_backoff_overrides;
use crate::wire::Row;
use crate::{Codec, Cron, Error, JobOptions, QueueName, ScheduleName, Timestamp};
use bytes::Bytes;
use std::fmt;
use std::time::Duration;
use uuid::Uuid;

/// The largest payload of a schedule, in bytes: each of its jobs has a copy.
pub const MAX_SCHEDULE_PAYLOAD_BYTES: usize = 100_000;

/// A tick that nobody fired for longer than this counts as missed.
pub const TICK_GRACE: Duration = Duration::from_secs(60);

/// What becomes of ticks that nobody fired in time, because no process was there to do it.
///
/// Ticks in a pause are not missed: there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Missed {
    /// They are dropped; so is every tick that is over 60 s late ([`TICK_GRACE`]).
    Skip,
    /// The latest one is fired and stands for all of them.
    #[default]
    Once,
    /// The latest so many are fired, 1 to 100, a job each; earlier ones are dropped.
    All(u16),
    /// One that this version does not know, by its number: its schedule is left to a version that does.
    Unknown(i16),
}

impl Missed {
    /// The most ticks that are fired at once.
    pub const MOST: u16 = 100;

    pub(crate) fn code(self) -> (i16, Option<i16>) {
        match self {
            Missed::Skip => (0, None),
            Missed::Once => (1, None),
            Missed::All(most) => (2, i16::try_from(most).ok()),
            Missed::Unknown(code) => (code, None),
        }
    }

    fn from_code(code: i16, limit: Option<i16>) -> Self {
        match (code, limit.map(u16::try_from)) {
            (0, _) => Missed::Skip,
            (1, _) => Missed::Once,
            (2, Some(Ok(most))) => Missed::All(most),
            (code, _) => Missed::Unknown(code),
        }
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missed::Skip => f.write_str("skip"),
            Missed::Once => f.write_str("once"),
            Missed::All(most) => write!(f, "all:{most}"),
            Missed::Unknown(_) => f.write_str("unknown"),
        }
    }
}

/// What becomes of a tick while the job of the tick before has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Overlap {
    /// It is fired all the same.
    #[default]
    Allow,
    /// It is dropped. Of several ticks that are due together, only the latest is fired.
    Skip,
    /// One that this version does not know, by its number: its schedule is left to a version that does.
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

    fn from_code(code: i16) -> Self {
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

/// Reads `missed, missed_limit, overlap`.
pub(crate) fn read_policies(row: &mut Row<'_>) -> Result<(Missed, Overlap), Error> {
    let (missed, limit, overlap) = (row.read()?, row.read()?, row.read()?);
    Ok((Missed::from_code(missed, limit), Overlap::from_code(overlap)))
}

/// A schedule to be made, or to take the place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSchedule {
    /// Its name, by which it is found and replaced.
    pub name: ScheduleName,
    /// Where its jobs go.
    pub queue: QueueName,
    /// When it fires.
    pub cron: Cron,
    /// What becomes of missed ticks.
    pub missed: Missed,
    /// What becomes of ticks that come too soon.
    pub overlap: Overlap,
    /// What the handlers get, each time.
    pub payload: Bytes,
    /// What else is said of its jobs; key and due time are the schedule's to make.
    pub options: JobOptions,
}

impl NewSchedule {
    /// Returns whether the schedule can be sent at all.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] says what breaks which rule.
    pub fn check(&self) -> Result<(), Error> {
        let options = &self.options;
        if self.payload.len() > MAX_SCHEDULE_PAYLOAD_BYTES {
            let size = self.payload.len();
            let problem = format!("is over {MAX_SCHEDULE_PAYLOAD_BYTES}");
            return Err(Error::invalid(format!("a schedule's payload of {size} bytes"), problem));
        }
        if let Missed::All(most) = self.missed
            && !(1..=Missed::MOST).contains(&most)
        {
            let problem = format!("is not between 1 and {}", Missed::MOST);
            return Err(Error::invalid(format!("a number of {most} missed ticks to fire"), problem));
        }
        if matches!(self.missed, Missed::Unknown(_)) || matches!(self.overlap, Overlap::Unknown(_)) {
            return Err(Error::invalid("a schedule", "has a policy that only a newer version knows"));
        }
        if options.key.is_some() || options.run_at.is_some() || options.paused {
            return Err(Error::invalid("a schedule", "makes the key and the due time of its jobs, and none is paused"));
        }
        if let Some(description) = &options.description {
            check_text("the description", description, MAX_DESCRIPTION_BYTES)?;
        }
        options.max_retries.map_or(Ok(()), crate::backoff::check_retries)?;
        options.backoff.as_deref().map_or(Ok(()), crate::backoff::check_table)?;
        options.jitter_percent.map_or(Ok(()), crate::backoff::check_jitter)
    }
}

/// A schedule as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScheduleMetadata {
    /// Its name.
    pub name: String,
    /// Where its jobs go.
    pub queue: String,
    /// Its cron expression.
    pub cron: String,
    /// The time zone whose clock the expression names.
    pub zone: String,
    /// What becomes of missed ticks.
    pub missed: Missed,
    /// What becomes of ticks that come too soon.
    pub overlap: Overlap,
    /// Whether it rests until it is resumed.
    pub paused: bool,
    /// When it fires next, by the database's clock; in the past while nobody fires. None while it is paused.
    pub next_tick: Option<Timestamp>,
    /// The latest tick that made a job.
    pub last_tick: Option<Timestamp>,
    /// That job, which may be gone by now.
    pub last_job: Option<Uuid>,
    /// The priority of its jobs; higher first.
    pub priority: i32,
    /// The description of its jobs.
    pub description: Option<String>,
    /// How many soft failures of its jobs are retried, if not as many as the queue says.
    pub max_retries: Option<u32>,
    /// The delays of its jobs, if not the queue's.
    pub backoff: Option<Vec<Duration>>,
    /// The jitter of these delays in percent, if not the queue's.
    pub jitter_percent: Option<u8>,
    /// How its payload is written.
    pub codec: Codec,
    /// The size of its payload in bytes.
    pub payload_bytes: u64,
    /// Its payload, when the schedule was asked for by its name.
    pub payload: Option<Bytes>,
    /// How often people changed it, itself counted.
    pub revision: i64,
    /// The database's time when this was read.
    pub read_at: Timestamp,
}

impl ScheduleMetadata {
    /// Reads the columns of `list_schedules.sql` after the first two.
    pub(crate) fn read(row: &mut Row<'_>, read_at: Timestamp, name: String) -> Result<Self, Error> {
        let (queue, cron, zone) = (row.read()?, row.read()?, row.read()?);
        let (missed, overlap) = read_policies(row)?;
        let (paused, next_tick, last_tick, last_job) = (row.read()?, row.read()?, row.read()?, row.read()?);
        let (priority, description) = (row.read()?, row.read()?);
        let (max_retries, backoff, jitter_percent) = read_backoff_overrides(row)?;
        Ok(ScheduleMetadata {
            name,
            queue,
            cron,
            zone,
            missed,
            overlap,
            paused,
            next_tick,
            last_tick,
            last_job,
            priority,
            description,
            max_retries,
            backoff,
            jitter_percent,
            codec: read_codec(row)?,
            payload_bytes: row.count()?,
            payload: row.read()?,
            revision: row.read()?,
            read_at,
        })
    }
}

/// One moment at which a schedule fires. The key of the job it makes says which: `nightly@2026-03-29T01:00:00Z`.
///
/// So a handler knows its tick, has a name for what it does that is the same in every attempt, and no second job for
/// the tick can be active beside it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick {
    /// The schedule's name.
    pub schedule: String,
    /// When.
    pub at: Timestamp,
}

impl Tick {
    /// Returns the tick that the key of a job names; `None` for a key of another form.
    ///
    /// A key of the same form that a user made up cannot be told apart.
    pub fn from_key(key: &str) -> Option<Tick> {
        let (schedule, at) = key.rsplit_once('@')?;
        let at: jiff::Timestamp = at.parse().ok()?;
        let tick = Tick { schedule: schedule.to_owned(), at: Timestamp::from_unix_us(at.as_microsecond()) };
        (tick.key() == key).then_some(tick)
    }

    /// Returns the key of the job that this tick makes.
    pub fn key(&self) -> String {
        let at = jiff::Timestamp::from_microsecond(self.at.unix_us()).unwrap_or(jiff::Timestamp::MAX);
        format!("{}@{at}", self.schedule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_which_tick_made_the_job() {
        let tick = Tick { schedule: "n@ghtly".to_owned(), at: Timestamp::from_unix_us(1_774_746_000_000_000) };
        assert_eq!(tick.key(), "n@ghtly@2026-03-29T01:00:00Z");
        assert_eq!(Tick::from_key(&tick.key()), Some(tick));
        for other in ["", "nightly", "@", "nightly@", "nightly@noon", "a@2026-03-29T03:00:00+02:00", "a@2026-03-29"] {
            assert_eq!(Tick::from_key(other), None, "{other}");
        }
    }

    #[test]
    fn policies_are_read_back() {
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
    fn a_schedule_that_cannot_be_kept_is_refused_before_it_is_sent() {
        let fine = NewSchedule {
            name: ScheduleName::new("nightly").unwrap(),
            queue: QueueName::new("tasks").unwrap(),
            cron: Cron::new("@daily", "UTC").unwrap(),
            missed: Missed::All(100),
            overlap: Overlap::Skip,
            payload: Bytes::from(vec![0; MAX_SCHEDULE_PAYLOAD_BYTES]),
            options: JobOptions { description: Some("x".repeat(8_192)), ..JobOptions::default() },
        };
        assert_eq!(fine.check(), Ok(()));
        let with = |options: JobOptions| NewSchedule { options, ..fine.clone() };
        let payload = Bytes::from(vec![0; MAX_SCHEDULE_PAYLOAD_BYTES + 1]);
        for bad in [
            NewSchedule { payload, ..fine.clone() },
            NewSchedule { missed: Missed::All(0), ..fine.clone() },
            NewSchedule { missed: Missed::All(101), ..fine.clone() },
            NewSchedule { missed: Missed::Unknown(3), ..fine.clone() },
            NewSchedule { overlap: Overlap::Unknown(2), ..fine.clone() },
            with(JobOptions { description: Some("x".repeat(8_193)), ..JobOptions::default() }),
            with(JobOptions { key: Some("k".to_owned()), ..JobOptions::default() }),
            with(JobOptions { run_at: Some(crate::RunAt::In(Duration::ZERO)), ..JobOptions::default() }),
            with(JobOptions { paused: true, ..JobOptions::default() }),
            with(JobOptions { max_retries: Some(1_000_001), ..JobOptions::default() }),
            with(JobOptions { backoff: Some(Vec::new()), ..JobOptions::default() }),
            with(JobOptions { jitter_percent: Some(101), ..JobOptions::default() }),
        ] {
            assert!(matches!(bad.check(), Err(Error::Invalid { .. })), "{bad:?}");
        }
    }
}
