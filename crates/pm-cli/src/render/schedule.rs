//! Schedules.

use super::output::{Json, List, Show};
use super::payload::decode;
use super::queue::{backoff_ms, show_backoff};
use super::table::{Column, Table};
use super::time::{local, local_and_relative, relative, utc};
use super::value::Value;
use pm_core::Timestamp;
use pm_driver_tokio_postgres::{RawPayload, ScheduleMetadata};

impl Json for ScheduleMetadata {
    fn json(&self) -> Value {
        let more = Value::named([
            ("next_tick", self.next_tick.and_then(utc).into()),
            ("last_tick", self.last_tick.and_then(utc).into()),
            ("last_job", self.last_job.map(Value::plain).into()),
            ("priority", Value::number(self.priority)),
            ("description", self.description.as_deref().into()),
            // `null` for the queue's setting.
            ("max_retries", self.retry.max_retries.map(Value::number).into()),
            ("backoff_ms", self.retry.backoff.as_deref().map(backoff_ms).into()),
            ("codec", self.codec.name().into()),
            ("payload_bytes", Value::number(self.payload_bytes)),
        ]);
        rule(self).and(more).and(payload(self))
    }
}

impl Show for ScheduleMetadata {
    fn yaml(&self) -> Value {
        let time = |time: Timestamp| Value::plain(local_and_relative(time, self.read_at));
        let more = Value::present([
            ("next_tick", self.next_tick.map(time).into()),
            ("last_tick", self.last_tick.map(time).into()),
            ("last_job", self.last_job.map(Value::plain).into()),
            ("priority", Value::number(self.priority)),
            ("description", self.description.as_deref().into()),
            ("max_retries", self.retry.max_retries.map(Value::number).into()),
            ("backoff", self.retry.backoff.as_deref().map(show_backoff).into()),
        ]);
        rule(self).and(more).and(payload(self))
    }
}

/// Returns the entries that say when the schedule fires, and where.
fn rule(schedule: &ScheduleMetadata) -> Value {
    Value::named([
        ("name", schedule.name.as_str().into()),
        ("queue", schedule.queue.as_str().into()),
        ("cron", schedule.cron.as_str().into()),
        ("zone", schedule.zone.as_str().into()),
        ("missed", Value::plain(schedule.missed)),
        ("overlap", Value::plain(schedule.overlap)),
        ("paused", schedule.paused.into()),
    ])
}

/// Returns the entry of the payload, which lists do not read; the reason when it cannot be decoded.
fn payload(schedule: &ScheduleMetadata) -> Value {
    let payload = schedule.payload.clone().map(|bytes| decode(&RawPayload { codec: schedule.codec, bytes }));
    Value::named(payload.map(|decoded| ("payload", decoded.unwrap_or_else(Value::Text))))
}

impl List for ScheduleMetadata {
    fn table(schedules: &[Self]) -> Table {
        let column = |text: fn(&ScheduleMetadata) -> String| schedules.iter().map(text);
        let tick = |title, tick: fn(&ScheduleMetadata) -> Option<Timestamp>| {
            let near = |schedule: &ScheduleMetadata| tick(schedule).map(|at| relative(at, schedule.read_at));
            Column::new(title, schedules.iter().map(|schedule| tick(schedule).map(local).unwrap_or_default()))
                .or_shorter(schedules.iter().map(|schedule| near(schedule).unwrap_or_default()))
        };
        Table::new(vec![
            Column::new("schedule", column(|schedule| schedule.name.clone())).may_be_cut(),
            Column::new("queue", column(|schedule| schedule.queue.clone())).may_be_cut(),
            Column::new("cron", column(|schedule| schedule.cron.clone())),
            Column::new("zone", column(|schedule| schedule.zone.clone())).may_be_cut(),
            Column::states(schedules.iter().map(|schedule| schedule.paused)),
            tick("next tick", |schedule| schedule.next_tick),
            tick("last tick", |schedule| schedule.last_tick),
        ])
    }
}

/// Returns when the schedule fires next, as part of a sentence.
pub(crate) fn next_tick(schedule: &ScheduleMetadata) -> String {
    match schedule.next_tick {
        Some(at) => format!("next tick {}", local_and_relative(at, schedule.read_at)),
        None if schedule.paused => "it is paused".to_owned(),
        None => "it has no more ticks".to_owned(),
    }
}
