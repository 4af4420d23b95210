//! Statistics of queues and tables.

use super::queue::{QueueView, queue_table, whole_ms};
use super::table::{Colour, Column, Table};
use super::time::length;
use crate::duration::show_duration;
use crate::text::{bytes, rate};
use pm_driver_tokio_postgres::{Count, QueueStats, Stats, TableSize};
use serde::Serialize;
use std::time::Duration;

/// The statistics as JSON. The names are documented: do not change them.
#[derive(Serialize)]
pub(crate) struct StatsView {
    /// The period of `lately`.
    window_ms: u64,
    queues: Vec<QueueStatsView>,
    tables: Vec<TableView>,
}

#[derive(Serialize)]
struct QueueStatsView {
    #[serde(flatten)]
    queue: QueueView,
    /// `null` when no job is ready.
    oldest_waiting_ms: Option<u64>,
    lately: Lately,
    #[serde(skip)]
    stats: QueueStats,
}

/// The numbers of the last period.
#[derive(Serialize)]
struct Lately {
    enqueued: u64,
    finished: u64,
    failed: u64,
    /// Which of them are estimates.
    estimated: Vec<&'static str>,
}

#[derive(Serialize)]
struct TableView {
    name: String,
    /// As of the last vacuum or analyze.
    rows: Option<u64>,
    bytes: u64,
    indexes: Vec<IndexView>,
}

#[derive(Serialize)]
struct IndexView {
    name: String,
    bytes: u64,
}

impl StatsView {
    /// Returns the view of the statistics.
    pub(crate) fn new(stats: Stats) -> Self {
        let indexes = |table: &TableSize| {
            let of_table = stats.tables.iter().filter(|index| index.index_of.as_ref() == Some(&table.name));
            of_table.map(|index| IndexView { name: index.name.clone(), bytes: index.bytes }).collect()
        };
        let table = |table: &TableSize| TableView {
            name: table.name.clone(),
            rows: table.rows,
            bytes: table.bytes,
            indexes: indexes(table),
        };
        StatsView {
            window_ms: whole_ms(stats.window),
            tables: stats.tables.iter().filter(|table| table.index_of.is_none()).map(table).collect(),
            queues: stats.queues.into_iter().map(QueueStatsView::new).collect(),
        }
    }

    /// Returns human-readable tables, each with a heading.
    pub(crate) fn tables(&self) -> Vec<(String, Table)> {
        let window = show_duration(Duration::from_millis(self.window_ms));
        let mut tables = vec![("Tables".to_owned(), self.sizes())];
        if !self.queues.is_empty() {
            let views: Vec<_> = self.queues.iter().map(|queue| &queue.queue).collect();
            tables.insert(0, (format!("Rates (per minute, over the last {window})"), self.rates()));
            tables.insert(0, ("Jobs".to_owned(), queue_table(&views)));
        }
        tables
    }

    fn rates(&self) -> Table {
        let window = Duration::from_millis(self.window_ms);
        let column = |count: fn(&QueueStats) -> Count| {
            let cells = self.queues.iter().map(move |queue| per_minute(count(&queue.stats), window));
            cells.collect::<Vec<_>>().into_iter()
        };
        let name = |queue: &QueueStatsView| queue.stats.queue.name.clone();
        let oldest = |queue: &QueueStatsView| queue.stats.oldest_waiting.map_or("none".to_owned(), length);
        Table::new(vec![
            Column::new("queue", self.queues.iter().map(name)).may_be_cut(),
            Column::numbers("oldest waiting", self.queues.iter().map(oldest)),
            Column::numbers("enqueued", column(|stats| stats.enqueued)),
            Column::numbers("finished", column(|stats| stats.finished)),
            Column::numbers("failed", column(|stats| stats.failed))
                .coloured(|rate| if rate.ends_with(|digit: char| digit != '0') { Colour::Red } else { Colour::Plain }),
        ])
    }

    fn sizes(&self) -> Table {
        let column = |text: fn(&TableView) -> String| self.tables.iter().map(text);
        Table::new(vec![
            Column::new("table", column(|table| table.name.clone())),
            Column::numbers("rows", column(|table| table.rows.map_or("?".to_owned(), |rows| format!("~{rows}")))),
            Column::numbers("size", column(|table| bytes(table.bytes))),
            Column::numbers("indexes", column(|table| bytes(table.indexes.iter().map(|index| index.bytes).sum()))),
        ])
    }
}

impl QueueStatsView {
    fn new(stats: QueueStats) -> Self {
        let counts = [("enqueued", stats.enqueued), ("finished", stats.finished), ("failed", stats.failed)];
        let estimated = counts.iter().filter(|(_, count)| count.is_estimate).map(|(name, _)| *name).collect();
        let [enqueued, finished, failed] = counts.map(|(_, count)| count.jobs);
        QueueStatsView {
            queue: QueueView::new(&stats.queue),
            oldest_waiting_ms: stats.oldest_waiting.map(whole_ms),
            lately: Lately { enqueued, finished, failed, estimated },
            stats,
        }
    }
}

/// Returns the number of jobs per minute, with `~` for an estimate.
pub(crate) fn per_minute(count: Count, window: Duration) -> String {
    let minutes = window.as_secs_f64() / 60.0;
    format!("{}{}", if count.is_estimate { "~" } else { "" }, rate(count.jobs as f64 / minutes.max(0.001)))
}
