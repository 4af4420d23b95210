//! Queues and their settings.

use super::table::{Colour, Column, Table};
use super::value::Value;
use crate::duration::show_duration;
use pm_core::State;
use pm_driver_tokio_postgres::{Count, QueueSettings, QueueSummary};
use serde::Serialize;
use std::borrow::Borrow;
use std::time::Duration;

/// A queue as JSON. The names are documented: do not change them.
#[derive(Serialize)]
pub(crate) struct QueueView {
    name: String,
    paused: bool,
    jobs: JobCounts,
    /// The states whose count is an estimate.
    estimated: Vec<&'static str>,
    settings: SettingsView,
}

#[derive(Serialize)]
struct JobCounts {
    pending: u64,
    paused: u64,
    in_progress: u64,
    finished: u64,
    failed: u64,
}

/// The settings of a queue as JSON.
#[derive(Serialize)]
pub(crate) struct SettingsView {
    lease_ms: u64,
    retries: u32,
    backoff_ms: Vec<u64>,
    jitter_percent: u8,
    /// `null` means forever.
    retain_ms: Option<u64>,
}

impl QueueView {
    /// Returns the view of a queue.
    pub(crate) fn new(queue: &QueueSummary) -> Self {
        let jobs = |state: State| queue.count(state).jobs;
        QueueView {
            name: queue.name.clone(),
            paused: queue.paused,
            jobs: JobCounts {
                pending: jobs(State::Pending),
                paused: jobs(State::Paused),
                in_progress: jobs(State::InProgress),
                finished: jobs(State::Finished),
                failed: jobs(State::Failed),
            },
            estimated: State::ALL.iter().filter(|state| queue.count(**state).is_estimate).map(|it| it.name()).collect(),
            settings: SettingsView::new(&queue.settings),
        }
    }

    /// Returns the queue as YAML for humans.
    pub(crate) fn yaml(&self) -> Value {
        let jobs = State::ALL.iter().map(|state| (state.name(), Value::plain(self.count(*state)))).collect();
        Value::named(vec![
            ("name", Value::text(&self.name)),
            ("paused", Value::Bool(self.paused)),
            ("jobs", Value::named(jobs)),
            ("settings", self.settings.yaml()),
        ])
    }

    /// Returns the number of jobs in a state, with `~` for an estimate.
    fn count(&self, state: State) -> String {
        let jobs = match state {
            State::Pending => self.jobs.pending,
            State::Paused => self.jobs.paused,
            State::InProgress => self.jobs.in_progress,
            State::Finished => self.jobs.finished,
            State::Failed => self.jobs.failed,
        };
        show_count(Count { jobs, is_estimate: self.estimated.contains(&state.name()) })
    }
}

impl SettingsView {
    /// Returns the view of the settings of a queue.
    pub(crate) fn new(settings: &QueueSettings) -> Self {
        SettingsView {
            lease_ms: whole_ms(settings.lease),
            retries: settings.backoff.max_retries(),
            backoff_ms: settings.backoff.table().iter().copied().map(whole_ms).collect(),
            jitter_percent: settings.backoff.jitter_percent(),
            retain_ms: settings.retain.map(whole_ms),
        }
    }

    /// Returns the settings as YAML for humans, in the form that the options of `queue set` take.
    pub(crate) fn yaml(&self) -> Value {
        let show = |ms: u64| show_duration(Duration::from_millis(ms));
        let backoff: Vec<_> = self.backoff_ms.iter().copied().map(show).collect();
        Value::named(vec![
            ("lease", Value::plain(show(self.lease_ms))),
            ("retries", Value::plain(self.retries)),
            ("backoff", Value::plain(backoff.join(","))),
            ("jitter", Value::plain(format!("{}%", self.jitter_percent))),
            ("retain", Value::plain(self.retain_ms.map_or("forever".to_owned(), show))),
        ])
    }
}

/// Returns the table of `queue ls`.
pub(crate) fn queue_table<Q: Borrow<QueueView>>(queues: &[Q]) -> Table {
    let queues: Vec<&QueueView> = queues.iter().map(Borrow::borrow).collect();
    let counts = |state: State| queues.iter().map(move |queue| queue.count(state));
    Table::new(vec![
        Column::new("queue", queues.iter().map(|queue| queue.name.clone())).may_be_cut(),
        Column::new("state", queues.iter().map(|queue| if queue.paused { "paused" } else { "active" }.to_owned()))
            .coloured(|state| if state == "paused" { Colour::Magenta } else { Colour::Plain }),
        Column::numbers("pending", counts(State::Pending)),
        Column::numbers("paused", counts(State::Paused)),
        Column::numbers("in progress", counts(State::InProgress)),
        Column::numbers("finished", counts(State::Finished)),
        Column::numbers("failed", counts(State::Failed))
            .coloured(|count| if count == "0" { Colour::Plain } else { Colour::Red }),
    ])
}

/// Returns the number, with `~` for an estimate.
fn show_count(count: Count) -> String {
    format!("{}{}", if count.is_estimate { "~" } else { "" }, count.jobs)
}

/// Returns the number in at most six columns, with `~` for an estimate: `~1.2M`.
pub(crate) fn compact_count(count: Count) -> String {
    let about = if count.is_estimate { "~" } else { "" };
    match count.jobs {
        jobs @ ..100_000 => format!("{about}{jobs}"),
        jobs @ ..1_000_000 => format!("{about}{}k", jobs / 1_000),
        jobs @ ..10_000_000 => format!("{about}{:.1}M", (jobs / 100_000) as f64 / 10.0),
        jobs => format!("{about}{}M", jobs / 1_000_000),
    }
}

pub(super) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
