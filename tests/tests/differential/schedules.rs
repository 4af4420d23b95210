//! Actions on schedules.

use crate::action::{SCHEDULES, ScheduleAction, TICK_KEY};
use crate::history::{HALF_MINUTE, History, name};
use pm_core::op::{
    DeleteSchedule, DueReply, DueSchedules, FireSchedules, HoldSchedule, ListSchedules, ScheduleReading, SetSchedule,
};
use pm_core::{
    Codec, Cron, EnqueueOptions, Missed, NewSchedule, Operation, Overlap, RetryPolicy, ScheduleMetadata, ScheduleName,
    Value,
};
use std::time::Duration;

/// What was read of schedules, for later use by stale actions.
#[derive(Default)]
pub(crate) struct Readings {
    listed: Option<ScheduleReading>,
    found: [Option<ScheduleMetadata>; SCHEDULES],
    due: Option<DueReply>,
    /// The key of the last tick that was found due.
    pub(crate) key: Option<String>,
}

impl History<'_> {
    pub(crate) async fn schedule(&mut self, action: &ScheduleAction) -> Result<(), String> {
        match action {
            ScheduleAction::Set { .. } => self.set(action).await,
            ScheduleAction::Pause(schedule) => self.run(&HoldSchedule::pause(named(*schedule))).await.map(drop),
            ScheduleAction::Resume { schedule, stale } => {
                if !*stale || self.readings.found[*schedule].is_none() {
                    let rows = self.listed(Some(*schedule)).await?;
                    self.readings.found[*schedule] = rows.schedules.into_iter().next();
                }
                let Some(found) = &self.readings.found[*schedule] else { return Ok(()) };
                let Some(resume) = HoldSchedule::resume(found).expect("its expression is valid") else { return Ok(()) };
                self.run(&resume).await.map(drop)
            }
            ScheduleAction::Delete(schedule) => self.run(&DeleteSchedule { name: named(*schedule) }).await.map(drop),
            ScheduleAction::List => {
                self.readings.listed = Some(self.listed(None).await?);
                Ok(())
            }
            ScheduleAction::Due { limit, skip } => self.look_for_due(DueSchedules { limit: *limit, skip: *skip }).await,
            ScheduleAction::Fire { stale, taken } => self.fire(*stale, *taken).await,
        }
    }

    async fn set(&mut self, action: &ScheduleAction) -> Result<(), String> {
        let ScheduleAction::Set { schedule, queue, every, missed, skips_overlap, look, stale } = action else {
            return Ok(());
        };
        if !*stale || self.readings.listed.is_none() {
            self.readings.listed = Some(self.listed(Some(*schedule)).await?);
        }
        let now = self.readings.listed.as_ref().expect("it was read above").now;
        let expression = format!("{schedule}-59/{} * * * *", [3, 9, 15][*every]);
        let mut options = EnqueueOptions::default().codec(Codec::Raw).priority([0, 5][*look % 2]);
        options.description = (*look == 1).then(|| "described".to_owned());
        options.retry = RetryPolicy {
            max_retries: (*look == 2).then_some(1),
            jitter_percent: (*look == 1).then_some(0),
            backoff: (*look == 3).then(|| vec![Duration::ZERO, HALF_MINUTE * 8]),
        };
        let new = NewSchedule {
            name: named(*schedule),
            queue: name(*queue),
            cron: Cron::new(&expression, "UTC").expect("the expression is valid"),
            missed: [Missed::Skip, Missed::Once, Missed::All(1), Missed::All(2), Missed::All(100)][*missed as usize],
            overlap: if *skips_overlap { Overlap::Skip } else { Overlap::Allow },
            payload: format!("payload of {schedule}").into(),
            options,
        };
        let set = SetSchedule::new(new, now).expect("it is in range");
        self.run(&set).await.map(drop)
    }

    /// Fires what is due, or what was due at an earlier read, whether that was fired or not.
    async fn fire(&mut self, stale: bool, taken: Option<usize>) -> Result<(), String> {
        if !stale || self.readings.due.is_none() {
            self.look_for_due(DueSchedules::default()).await?;
        }
        if let Some(queue) = taken {
            self.enqueue_keyed(queue, TICK_KEY).await?;
        }
        let due = self.readings.due.as_ref().expect("it was read above");
        let drawn = &mut self.drawn;
        let fire = FireSchedules::of(due, || {
            *drawn += 1;
            drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        if let [.., Value::UuidArray(ids), _, _] = &fire.params()[..] {
            // Only the latest few, so that older jobs are used again too.
            self.ids.extend(ids.iter().flatten().rev().take(3));
        }
        self.run(&fire).await.map(drop)
    }

    async fn look_for_due(&mut self, look: DueSchedules) -> Result<(), String> {
        let rows = self.run(&look).await?.ok_or("no reply")?;
        let due = look.interpret(&rows).map_err(|error| error.to_string())?;
        if let Some(Value::TextArray(keys)) = FireSchedules::of(&due, || 0).params().last() {
            self.readings.key = keys.last().cloned().flatten().map(Into::into).or(self.readings.key.take());
        }
        self.readings.due = Some(due);
        Ok(())
    }

    async fn listed(&self, schedule: Option<usize>) -> Result<ScheduleReading, String> {
        let list = ListSchedules { name: schedule.map(named) };
        let rows = self.run(&list).await?.ok_or("no reply")?;
        list.interpret(&rows).map_err(|error| error.to_string())
    }
}

fn named(schedule: usize) -> ScheduleName {
    ScheduleName::new(&format!("schedule {schedule}")).expect("the name is valid")
}
