//! Schedules.

use super::payload::decode;
use super::queue::whole_ms;
use super::table::{Colour, Column, Table};
use super::time::{local, local_and_relative, relative, utc};
use super::value::Value;
use crate::duration::show_duration;
use pm_core::Timestamp;
use pm_driver_tokio_postgres::{RawPayload, ScheduleMetadata};
use serde::Serialize;

/// A schedule as JSON. The names are documented: do not change them. Times are RFC 3339 in UTC.
#[derive(Serialize)]
pub(crate) struct ScheduleView {
    name: String,
    queue: String,
    cron: String,
    zone: String,
    missed: String,
    overlap: String,
    paused: bool,
    next_tick: Option<String>,
    last_tick: Option<String>,
    last_job: Option<String>,
    priority: i32,
    description: Option<String>,
    /// `null` for the queue's setting.
    max_retries: Option<u32>,
    backoff_ms: Option<Vec<u64>>,
    codec: &'static str,
    payload_bytes: u64,
    /// Not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Value>,
    #[serde(skip)]
    schedule: ScheduleMetadata,
}

impl ScheduleView {
    /// Returns the view of a schedule.
    pub(crate) fn new(schedule: ScheduleMetadata) -> Self {
        let payload = schedule.payload.clone().map(|bytes| decode(&RawPayload { codec: schedule.codec, bytes }));
        ScheduleView {
            name: schedule.name.clone(),
            queue: schedule.queue.clone(),
            cron: schedule.cron.clone(),
            zone: schedule.zone.clone(),
            missed: schedule.missed.to_string(),
            overlap: schedule.overlap.to_string(),
            paused: schedule.paused,
            next_tick: schedule.next_tick.and_then(utc),
            last_tick: schedule.last_tick.and_then(utc),
            last_job: schedule.last_job.map(|id| id.to_string()),
            priority: schedule.priority,
            description: schedule.description.clone(),
            max_retries: schedule.retry.max_retries,
            backoff_ms: schedule.retry.backoff.as_ref().map(|table| table.iter().copied().map(whole_ms).collect()),
            codec: schedule.codec.name(),
            payload_bytes: schedule.payload_bytes,
            payload: payload.map(|decoded| decoded.unwrap_or_else(Value::Text)),
            schedule,
        }
    }

    /// Returns when it fires next, as part of a sentence.
    pub(crate) fn next(&self) -> String {
        match self.schedule.next_tick {
            Some(at) => format!("next tick {}", local_and_relative(at, self.schedule.read_at)),
            None if self.paused => "it is paused".to_owned(),
            None => "it has no more ticks".to_owned(),
        }
    }

    /// Returns the schedule as YAML for humans.
    pub(crate) fn yaml(&self) -> Value {
        let schedule = &self.schedule;
        let time = |time: Timestamp| Value::plain(local_and_relative(time, schedule.read_at));
        let mut entries = vec![
            ("name", Value::text(&self.name)),
            ("queue", Value::text(&self.queue)),
            ("cron", Value::text(&self.cron)),
            ("zone", Value::text(&self.zone)),
            ("missed", Value::plain(&self.missed)),
            ("overlap", Value::plain(&self.overlap)),
            ("paused", Value::Bool(self.paused)),
        ];
        entries.extend(schedule.next_tick.map(|at| ("next_tick", time(at))));
        entries.extend(schedule.last_tick.map(|at| ("last_tick", time(at))));
        entries.extend(self.last_job.as_ref().map(|id| ("last_job", Value::plain(id))));
        entries.push(("priority", Value::plain(self.priority)));
        entries.extend(self.description.clone().map(|description| ("description", Value::Text(description))));
        entries.extend(self.max_retries.map(|retries| ("max_retries", Value::plain(retries))));
        let backoff =
            schedule.retry.backoff.as_ref().map(|table| table.iter().copied().map(show_duration).collect::<Vec<_>>());
        entries.extend(backoff.map(|table| ("backoff", Value::plain(table.join(",")))));
        entries.extend(self.payload.clone().map(|payload| ("payload", payload)));
        Value::named(entries)
    }
}

/// Returns the table of `schedule ls`.
pub(crate) fn schedule_table(schedules: &[ScheduleView]) -> Table {
    let column = |text: fn(&ScheduleView) -> String| schedules.iter().map(text);
    let relative_to_now =
        |at: Option<Timestamp>, view: &ScheduleView| at.map_or(String::new(), |at| relative(at, view.schedule.read_at));
    let next = schedules.iter().map(|view| relative_to_now(view.schedule.next_tick, view));
    let last = schedules.iter().map(|view| relative_to_now(view.schedule.last_tick, view));
    Table::new(vec![
        Column::new("schedule", column(|view| view.name.clone())).may_be_cut(),
        Column::new("queue", column(|view| view.queue.clone())).may_be_cut(),
        Column::new("cron", column(|view| view.cron.clone())),
        Column::new("zone", column(|view| view.zone.clone())).may_be_cut(),
        Column::new("state", column(|view| if view.paused { "paused" } else { "active" }.to_owned()))
            .coloured(|state| if state == "paused" { Colour::Magenta } else { Colour::Plain }),
        Column::new("next tick", column(|view| view.schedule.next_tick.map_or(String::new(), local))).or_shorter(next),
        Column::new("last tick", column(|view| view.schedule.last_tick.map_or(String::new(), local))).or_shorter(last),
    ])
}
