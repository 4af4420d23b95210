//! Statistics of queues and tables.

use super::count::about;
use super::output::Json;
use super::queue::queue_table;
use super::table::{Colour, Column, Screen, Table};
use super::time::length;
use super::value::Value;
use crate::duration::{show_duration, whole_ms};
use crate::text::{bytes, rate};
use pm_driver_tokio_postgres::{Count, QueueStats, Stats, TableSize};
use std::time::Duration;

impl Json for Stats {
    fn json(&self) -> Value {
        let size = |table: &TableSize| {
            Value::named([("name", table.name.as_str().into()), ("bytes", Value::number(table.bytes))])
        };
        let table = |table: &TableSize| {
            Value::named([
                ("name", table.name.as_str().into()),
                // As of the last vacuum or analyze.
                ("rows", table.rows.map(Value::number).into()),
                ("bytes", Value::number(table.bytes)),
                ("indexes", Value::list(indexes(self, table).map(size))),
            ])
        };
        Value::named([
            // The period of `lately`.
            ("window_ms", Value::number(whole_ms(self.window))),
            ("queues", Value::list(self.queues.iter().map(Json::json))),
            ("tables", Value::list(tables(self).map(table))),
        ])
    }
}

impl Json for QueueStats {
    fn json(&self) -> Value {
        let counts = [("enqueued", self.enqueued), ("finished", self.finished), ("failed", self.failed)];
        // Which of the numbers are estimates.
        let estimated = counts.iter().filter(|(_, count)| count.is_estimate).map(|(name, _)| *name);
        let lately = Value::named(counts.map(|(name, count)| (name, Value::number(count.jobs))));
        self.queue.json().and(Value::named([
            // `null` when no job is ready.
            ("oldest_waiting_ms", self.oldest_waiting.map(|age| Value::number(whole_ms(age))).into()),
            // The numbers of the last period.
            ("lately", lately.and(Value::named([("estimated", Value::list(estimated))]))),
        ]))
    }
}

/// Returns human-readable tables, each with a heading.
pub(crate) fn stats_text(stats: &Stats, screen: Screen) -> String {
    let mut text = format!("Tables\n{}", sizes(stats).draw(screen));
    if !stats.queues.is_empty() {
        let queues: Vec<_> = stats.queues.iter().map(|queue| &queue.queue).collect();
        let (jobs, rates) = (queue_table(&queues).draw(screen), rates(stats).draw(screen));
        let window = show_duration(stats.window);
        text = format!("Jobs\n{jobs}\nRates (per minute, over the last {window})\n{rates}\n{text}");
    }
    text
}

fn rates(stats: &Stats) -> Table {
    let column = |text: fn(&QueueStats) -> String| stats.queues.iter().map(text);
    let rates =
        |count: fn(&QueueStats) -> Count| stats.queues.iter().map(move |queue| per_minute(count(queue), stats.window));
    Table::new(vec![
        Column::new("queue", column(|queue| queue.queue.name.clone())).may_be_cut(),
        Column::numbers("oldest waiting", column(|queue| queue.oldest_waiting.map_or("none".to_owned(), length))),
        Column::numbers("enqueued", rates(|queue| queue.enqueued)),
        Column::numbers("finished", rates(|queue| queue.finished)),
        Column::numbers("failed", rates(|queue| queue.failed))
            .coloured(|rate| if rate.ends_with(|digit: char| digit != '0') { Colour::Red } else { Colour::Plain }),
    ])
}

fn sizes(stats: &Stats) -> Table {
    let column = |text: fn(&TableSize) -> String| tables(stats).map(text);
    let of_indexes = |table| bytes(indexes(stats, table).map(|index| index.bytes).sum());
    Table::new(vec![
        Column::new("table", column(|table| table.name.clone())),
        Column::numbers("rows", column(|table| table.rows.map_or("?".to_owned(), |rows| format!("~{rows}")))),
        Column::numbers("size", column(|table| bytes(table.bytes))),
        Column::numbers("indexes", tables(stats).map(of_indexes)),
    ])
}

fn tables(stats: &Stats) -> impl Iterator<Item = &TableSize> {
    stats.tables.iter().filter(|table| table.index_of.is_none())
}

fn indexes<'a>(stats: &'a Stats, table: &'a TableSize) -> impl Iterator<Item = &'a TableSize> {
    stats.tables.iter().filter(|index| index.index_of.as_ref() == Some(&table.name))
}

/// Returns the number of jobs per minute, with `~` for an estimate.
pub(crate) fn per_minute(count: Count, window: Duration) -> String {
    let minutes = window.as_secs_f64() / 60.0;
    format!("{}{}", about(count), rate(count.jobs as f64 / minutes.max(0.001)))
}
