//! What operators and programs do with schedules: set, list, pause, fire.

use crate::link::CoreEntropy;
use crate::{Error, Queue};
use pm_core::machine::Entropy;
use pm_core::op::{DeleteSchedule, DueSchedules, FireSchedules, HoldSchedule, ListSchedules, SetSchedule};
use pm_core::{Codec, Cron, JobOptions, Missed, NewSchedule, Overlap, QueueName, ScheduleMetadata, ScheduleName};
use serde::Serialize;
use std::time::Duration;

/// How often a resume is reckoned anew when someone changes the schedule meanwhile.
const MOST_TRIES: u32 = 5;

/// When jobs are to be made by themselves, and what is said of them besides their payload.
///
/// The expression and the rule for clocks that change are those of [`Cron`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Schedule {
    /// Where the jobs go.
    pub queue: String,
    /// Five fields: minute, hour, day of the month, month, weekday.
    pub cron: String,
    /// The IANA time zone whose clock the fields name (default `UTC`).
    pub zone: String,
    /// What becomes of ticks that nobody fired in time (default: the latest stands for all of them).
    pub missed: Missed,
    /// What becomes of a tick while the job of the one before has not ended (default: it is fired all the same).
    pub overlap: Overlap,
    /// The priority of the jobs; higher first (default 0).
    pub priority: i32,
    /// The description of the jobs; at most 8 KiB.
    pub description: Option<String>,
    /// How the payload is written (default JSON).
    pub codec: Codec,
    /// How many soft failures of a job are retried, if not as many as the queue says.
    pub max_retries: Option<u32>,
    /// The delays before retries, if not the queue's; the last one repeats.
    pub backoff: Option<Vec<Duration>>,
    /// The jitter of the delays in percent, if not the queue's.
    pub jitter_percent: Option<u8>,
}

impl Schedule {
    /// Returns a schedule that puts jobs on `queue` whenever the clock of UTC fits `cron`.
    pub fn new(queue: impl Into<String>, cron: impl Into<String>) -> Self {
        Schedule {
            queue: queue.into(),
            cron: cron.into(),
            zone: "UTC".to_owned(),
            missed: Missed::default(),
            overlap: Overlap::default(),
            priority: 0,
            description: None,
            codec: Codec::default(),
            max_retries: None,
            backoff: None,
            jitter_percent: None,
        }
    }

    /// Changes the time zone, `Europe/Berlin` for example.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = zone.into();
        self
    }

    /// Changes what becomes of ticks that nobody fired in time.
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// Changes what becomes of a tick while the job of the one before has not ended.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// Changes the priority of the jobs; higher first.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Changes the description of the jobs.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Changes how the payload is written.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Changes how many soft failures of a job are retried.
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.max_retries = Some(max_retries);
        self
    }

    /// Changes the delays before retries of the jobs, 1 to 64 of them.
    pub fn backoff(mut self, backoff: Vec<Duration>) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// Changes the jitter of these delays, 0 to 100 percent.
    pub fn jitter_percent(mut self, jitter_percent: u8) -> Self {
        self.jitter_percent = Some(jitter_percent);
        self
    }

    /// Returns the schedule as the core has it, with its payload written.
    fn into_core<T: Serialize>(self, name: ScheduleName, payload: &T) -> Result<NewSchedule, Error> {
        let written = crate::codec::encode(self.codec, payload)?;
        let options = JobOptions {
            codec: written.codec,
            priority: self.priority,
            description: self.description,
            max_retries: self.max_retries,
            backoff: self.backoff,
            jitter_percent: self.jitter_percent,
            ..JobOptions::default()
        };
        Ok(NewSchedule {
            name,
            queue: QueueName::new(&self.queue)?,
            cron: Cron::new(&self.cron, &self.zone)?,
            missed: self.missed,
            overlap: self.overlap,
            payload: written.bytes,
            options,
        })
    }
}

impl Queue {
    /// Makes a schedule, or puts it in the place of the one of that name; returns whether it was made.
    ///
    /// From its next tick on, whichever process looks first puts a job with a copy of this payload on the queue: every
    /// running stream does so, [`Queue::run_reaper`] and `pm reap`; without any of them, nothing is fired. Each tick
    /// makes one job, however many look. Its key is the [`Tick`](pm_core::Tick) that made it.
    ///
    /// To be called at every start of a program: while expression and zone stay the same, so does the next tick, and a
    /// tick that was missed meanwhile is still treated as the policy says. A schedule that is paused stays so. Two
    /// statements, the first of which asks for the database's time.
    ///
    /// # Errors
    ///
    /// `Invalid` for a bad name (as for queues), expression, zone or policy, or a payload over 100 kB; `QueueNotFound`;
    /// `Payload` when the payload cannot be written.
    pub async fn set_schedule<T: Serialize>(&self, name: &str, schedule: Schedule, payload: T) -> Result<bool, Error> {
        let new = schedule.into_core(ScheduleName::new(name)?, &payload)?;
        drop(payload);
        new.check()?;
        let now = self.run(ListSchedules { name: Some(new.name.clone()) }).await?.now;
        let made = self.run(SetSchedule::new(new, now)?).await?;
        self.wake_for_tick().await;
        Ok(made)
    }

    /// Returns all schedules by name, without their payloads.
    ///
    /// A policy that only a newer version knows is told as `Unknown`; such a schedule is fired by that version alone.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn list_schedules(&self) -> Result<Vec<ScheduleMetadata>, Error> {
        Ok(self.run(ListSchedules::default()).await?.schedules)
    }

    /// Returns a schedule with its payload, if it exists.
    ///
    /// # Errors
    ///
    /// `Invalid` for a bad name.
    pub async fn schedule(&self, name: &str) -> Result<Option<ScheduleMetadata>, Error> {
        let name = Some(ScheduleName::new(name)?);
        Ok(self.run(ListSchedules { name }).await?.schedules.pop())
    }

    /// Pauses a schedule: it has no ticks until it is resumed; returns whether there is one of that name.
    ///
    /// Jobs it has made go on.
    ///
    /// # Errors
    ///
    /// `Invalid` for a bad name.
    pub async fn pause_schedule(&self, name: &str) -> Result<bool, Error> {
        self.run(HoldSchedule::pause(ScheduleName::new(name)?)).await
    }

    /// Lets a paused schedule go on, from its next tick after now; returns whether there is one of that name.
    ///
    /// What would have been ticks in the pause does not count as missed. One that is not paused is left as it is.
    ///
    /// # Errors
    ///
    /// `Invalid` for a bad name; `Database` when someone keeps changing the schedule.
    pub async fn resume_schedule(&self, name: &str) -> Result<bool, Error> {
        let name = ScheduleName::new(name)?;
        for _ in 0..MOST_TRIES {
            let found = self.run(ListSchedules { name: Some(name.clone()) }).await?.schedules.pop();
            let Some(found) = found else { return Ok(false) };
            let Some(resume) = HoldSchedule::resume(&found)? else { return Ok(true) };
            if self.run(resume).await? {
                self.wake_for_tick().await;
                return Ok(true);
            }
        }
        Err(Error::new(crate::ErrorKind::Database, format!("schedule {:?} keeps being changed", name.as_str())))
    }

    /// Deletes a schedule; returns whether there was one of that name. The jobs it has made stay.
    ///
    /// # Errors
    ///
    /// `Invalid` for a bad name.
    pub async fn delete_schedule(&self, name: &str) -> Result<bool, Error> {
        self.run(DeleteSchedule { name: ScheduleName::new(name)? }).await
    }

    /// Makes the jobs of ticks that have come; returns how many, and the time until the next tick.
    ///
    /// `None` when no schedule has a tick to come. Streams do this by themselves. Two at once make each job once. About
    /// 30 µs a schedule that is due.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn fire_schedules(&self) -> Result<(u64, Option<Duration>), Error> {
        let (mut made, mut look) = (0, DueSchedules::default());
        loop {
            let reply = self.run(look).await?;
            let mut entropy = CoreEntropy(&*self.link().randomness);
            let fire = FireSchedules::of(&reply, || entropy.next_u64());
            if fire.is_empty()
                && let Some(beyond) = look.beyond(&reply)
            {
                look = beyond;
                continue;
            }
            look = DueSchedules::default();
            let fired = if fire.is_empty() { None } else { Some(self.run(fire).await?) };
            made += fired.map_or(0, |fired| fired.jobs);
            if fired.is_none_or(|fired| fired.schedules == 0) {
                // What is due and was not fired, someone else fires at this moment, or cannot be read by this version.
                self.notify_idle(made).await;
                return Ok((made, reply.next_tick));
            }
        }
    }

    /// Tells workers that there is a tick to wait for.
    async fn wake_for_tick(&self) {
        self.notify_idle(1).await;
    }
}
