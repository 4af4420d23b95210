//! Queues and their settings.

use super::count::show_count;
use super::output::{Json, List, Show};
use super::table::{Colour, Column, Table};
use super::value::Value;
use crate::duration::{show_duration, whole_ms};
use pm_core::State;
use pm_driver_tokio_postgres::{QueueSettings, QueueSummary};
use std::time::Duration;

impl Json for QueueSummary {
    fn json(&self) -> Value {
        let jobs = State::ALL.map(|state| (state.name(), Value::number(self.count(state).jobs)));
        let estimated = State::ALL.into_iter().filter(|state| self.count(*state).is_estimate);
        Value::named([
            ("name", self.name.as_str().into()),
            ("paused", self.paused.into()),
            ("jobs", Value::named(jobs)),
            // The states whose count is an estimate.
            ("estimated", Value::list(estimated.map(State::name))),
            ("settings", self.settings.json()),
        ])
    }
}

impl Show for QueueSummary {
    fn yaml(&self) -> Value {
        let jobs = State::ALL.map(|state| (state.name(), Value::plain(show_count(self.count(state)))));
        Value::named([
            ("name", self.name.as_str().into()),
            ("paused", self.paused.into()),
            ("jobs", Value::named(jobs)),
            ("settings", self.settings.yaml()),
        ])
    }
}

impl List for QueueSummary {
    fn table(queues: &[Self]) -> Table {
        queue_table(&queues.iter().collect::<Vec<_>>())
    }
}

/// Returns the table of `queue ls`.
pub(super) fn queue_table(queues: &[&QueueSummary]) -> Table {
    let counts = |state: State| queues.iter().map(move |queue| show_count(queue.count(state)));
    Table::new(vec![
        Column::new("queue", queues.iter().map(|queue| queue.name.clone())).may_be_cut(),
        Column::states(queues.iter().map(|queue| queue.paused)),
        Column::numbers("pending", counts(State::Pending)),
        Column::numbers("paused", counts(State::Paused)),
        Column::numbers("in progress", counts(State::InProgress)),
        Column::numbers("finished", counts(State::Finished)),
        Column::numbers("failed", counts(State::Failed))
            .coloured(|count| if count == "0" { Colour::Plain } else { Colour::Red }),
    ])
}

/// Returns the settings, each with its name and value for programs, and then as the options of `queue set` take it.
fn settings(QueueSettings { lease, backoff, retain, timeout, .. }: &QueueSettings) -> [[(&'static str, Value); 2]; 6] {
    let (retries, jitter) = (backoff.max_retries(), backoff.jitter_percent());
    let (lease_ms, retain_ms) = (whole_ms(*lease), retain.map(whole_ms));
    let forever = || "forever".to_owned();
    [
        [("lease_ms", Value::number(lease_ms)), ("lease", Value::plain(show_duration(*lease)))],
        [("retries", Value::number(retries)), ("retries", Value::number(retries))],
        [("backoff_ms", backoff_ms(backoff.table())), ("backoff", show_backoff(backoff.table()))],
        [("jitter_percent", Value::number(jitter)), ("jitter", Value::plain(format!("{jitter}%")))],
        // For programs `null` means forever.
        [
            ("retain_ms", retain_ms.map(Value::number).into()),
            ("retain", Value::plain(retain.map_or_else(forever, show_duration))),
        ],
        [
            ("timeout_ms", timeout.map(whole_ms).map(Value::number).into()),
            ("timeout", Value::plain(timeout.map_or_else(forever, show_duration))),
        ],
    ]
}

impl Json for QueueSettings {
    fn json(&self) -> Value {
        Value::named(settings(self).map(|[of_programs, _]| of_programs))
    }
}

impl Show for QueueSettings {
    fn yaml(&self) -> Value {
        Value::named(settings(self).map(|[_, of_options]| of_options))
    }
}

pub(super) fn backoff_ms(table: &[Duration]) -> Value {
    Value::list(table.iter().map(|delay| Value::number(whole_ms(*delay))))
}

pub(super) fn show_backoff(table: &[Duration]) -> Value {
    Value::plain(table.iter().copied().map(show_duration).collect::<Vec<_>>().join(","))
}
