//! Operations on schedules: set, list, pause, fire.

use crate::sending::CoreEntropy;
use crate::{EnqueueOptions, Error, Queue};
use pm_core::machine::Entropy;
use pm_core::op::{DeleteSchedule, DueSchedules, FireSchedules, HoldSchedule, ListSchedules, SetSchedule};
use pm_core::{Cron, Missed, NewSchedule, Overlap, QueueName, ScheduleMetadata, ScheduleName};
use serde::Serialize;
use std::time::Duration;

/// How often a resume is tried when another session changes the schedule at the same time.
const MAX_TRIES: u32 = 5;

/// A cron rule and the properties of the jobs that it creates, besides their payload.
///
/// [`Cron`] describes the expression, and what happens when clocks change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Schedule {
    /// The queue on which the jobs are put.
    pub queue: String,
    /// The cron expression, with five fields: minute, hour, day of the month, month, weekday.
    pub cron: String,
    /// The IANA time zone of the expression (default `UTC`).
    pub zone: String,
    /// What to do with ticks that were not fired in time (default: only the latest is fired).
    pub missed: Missed,
    /// What to do with a tick while the job of the previous tick has not ended (default: fire it).
    pub overlap: Overlap,
    /// The options of the jobs. A key, what it does, a due time, a pause and a trace are refused.
    pub options: EnqueueOptions,
}

impl Schedule {
    /// Returns a schedule that puts a job on `queue` whenever the time in UTC matches `cron`.
    pub fn new(queue: impl Into<String>, cron: impl Into<String>) -> Self {
        Schedule {
            queue: queue.into(),
            cron: cron.into(),
            zone: "UTC".to_owned(),
            missed: Missed::default(),
            overlap: Overlap::default(),
            options: EnqueueOptions::default(),
        }
    }

    /// Sets the time zone, `Europe/Berlin` for example.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = zone.into();
        self
    }

    /// Sets what to do with ticks that were not fired in time.
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// Sets what to do with a tick while the job of the previous tick has not ended.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// Sets the options of the jobs: priority, description, codec, retries. The schedule itself sets their keys.
    pub fn options(mut self, options: EnqueueOptions) -> Self {
        self.options = options;
        self
    }

    /// Returns the core's form of the schedule, with its payload encoded.
    fn into_core<T: Serialize>(self, name: ScheduleName, payload: &T) -> Result<NewSchedule, Error> {
        let written = crate::codec::encode(self.options.codec, payload)?;
        Ok(NewSchedule {
            name,
            queue: QueueName::new(&self.queue)?,
            cron: Cron::new(&self.cron, &self.zone)?,
            missed: self.missed,
            overlap: self.overlap,
            payload: written.bytes,
            options: self.options.codec(written.codec),
        })
    }
}

impl Queue {
    /// Creates a schedule, or replaces the one of this name; returns whether it was created.
    ///
    /// From the next tick on, every tick puts one job with a copy of this payload on the queue. Streams fire schedules
    /// unless [`StreamOptions::reaper`](crate::StreamOptions::reaper) is off, and so do [`Queue::run_reaper`] and
    /// `pm reap`; if none of them runs, no tick is fired. However many processes fire schedules, each tick creates one
    /// job. Its key is its [`Tick`](pm_core::Tick).
    ///
    /// Call it at every start of a program. While expression and zone stay the same, so does the next tick, and ticks
    /// that were missed while the program was down are still treated as `missed` says. A paused schedule stays paused.
    /// Runs two statements, the first of which reads the database's time.
    ///
    /// # Errors
    ///
    /// `Invalid` for a bad name (the rule is that for queues), expression, zone or policy, or a payload over 100 kB;
    /// `QueueNotFound`; `Payload` when the payload cannot be encoded.
    pub async fn set_schedule<T: Serialize>(&self, name: &str, schedule: Schedule, payload: T) -> Result<bool, Error> {
        let new = schedule.into_core(ScheduleName::new(name)?, &payload)?;
        drop(payload);
        new.check()?;
        let now = self.execute(ListSchedules { name: Some(new.name.clone()) }).await?.now;
        let made = self.execute(SetSchedule::new(new, now)?).await?;
        self.notify_of_tick().await;
        Ok(made)
    }

    /// Returns all schedules, sorted by name, without their payloads.
    ///
    /// A policy that only a newer version knows is returned as `Unknown`; only that version fires such a schedule.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn list_schedules(&self) -> Result<Vec<ScheduleMetadata>, Error> {
        Ok(self.execute(ListSchedules::default()).await?.schedules)
    }

    /// Returns a schedule with its payload, if it exists.
    ///
    /// # Errors
    ///
    /// `Invalid` for a bad name.
    pub async fn schedule(&self, name: &str) -> Result<Option<ScheduleMetadata>, Error> {
        let name = Some(ScheduleName::new(name)?);
        Ok(self.execute(ListSchedules { name }).await?.schedules.pop())
    }

    /// Pauses a schedule, so that it has no ticks until it is resumed; returns whether it exists.
    ///
    /// Jobs that it has created are not affected.
    ///
    /// # Errors
    ///
    /// `Invalid` for a bad name.
    pub async fn pause_schedule(&self, name: &str) -> Result<bool, Error> {
        self.execute(HoldSchedule::pause(ScheduleName::new(name)?)).await
    }

    /// Resumes a paused schedule from its next tick after now; returns whether it exists.
    ///
    /// Ticks during the pause do not count as missed. A schedule that is not paused is left as it is.
    ///
    /// # Errors
    ///
    /// `Invalid` for a bad name; `Database` when other sessions change the schedule during each of five tries.
    pub async fn resume_schedule(&self, name: &str) -> Result<bool, Error> {
        let name = ScheduleName::new(name)?;
        for _ in 0..MAX_TRIES {
            let found = self.execute(ListSchedules { name: Some(name.clone()) }).await?.schedules.pop();
            let Some(found) = found else { return Ok(false) };
            let Some(resume) = HoldSchedule::resume(&found)? else { return Ok(true) };
            if self.execute(resume).await? {
                self.notify_of_tick().await;
                return Ok(true);
            }
        }
        let message = format!("other sessions keep changing schedule {:?}", name.as_str());
        Err(Error::new(crate::ErrorKind::Database, message))
    }

    /// Deletes a schedule; returns whether it existed. Jobs that it has created stay.
    ///
    /// # Errors
    ///
    /// `Invalid` for a bad name.
    pub async fn delete_schedule(&self, name: &str) -> Result<bool, Error> {
        self.execute(DeleteSchedule { name: ScheduleName::new(name)? }).await
    }

    /// Creates the jobs of ticks that are due; returns how many, and the time until the next tick.
    ///
    /// The time is `None` when no schedule has a further tick. Streams fire schedules automatically. Concurrent calls
    /// create each job once. The cost is about 30 µs per schedule that is due.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn fire_schedules(&self) -> Result<(u64, Option<Duration>), Error> {
        let (mut made, mut due) = (0, DueSchedules::default());
        loop {
            let reply = self.execute(due).await?;
            let mut entropy = CoreEntropy(&*self.link().randomness);
            let fire = FireSchedules::of(&reply, || entropy.next_u64());
            if fire.is_empty()
                && let Some(beyond) = due.beyond(&reply)
            {
                due = beyond;
                continue;
            }
            due = DueSchedules::default();
            let fired = if fire.is_empty() { None } else { Some(self.execute(fire).await?) };
            made += fired.map_or(0, |fired| fired.jobs);
            if fired.is_none_or(|fired| fired.schedules == 0) {
                // Another session is firing the schedules that are still due, or this version cannot read them.
                self.notify_idle(made).await;
                return Ok((made, reply.next_tick));
            }
        }
    }

    /// Notifies idle workers, which then learn the time of the next tick.
    async fn notify_of_tick(&self) {
        self.notify_idle(1).await;
    }
}
