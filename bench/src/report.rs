//! The table, and the same as JSON.

use crate::Result;
use serde_json::{Value, json};
use std::path::Path;

/// All values, in the order in which they first came.
#[derive(Debug)]
pub(crate) struct Report {
    /// The contender that all others are divided by.
    yardstick: &'static str,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    case: &'static str,
    what: String,
    columns: Vec<(&'static str, Vec<f64>)>,
}

impl Report {
    /// Returns an empty report, in which this contender is the one that all others are divided by.
    pub(crate) fn against(yardstick: &'static str) -> Self {
        Report { yardstick, rows: Vec::new() }
    }

    /// Adds one value of one round.
    pub(crate) fn add(&mut self, case: &'static str, what: String, contender: &'static str, value: f64) {
        let row = match self.rows.iter_mut().position(|row| row.case == case && row.what == what) {
            Some(place) => &mut self.rows[place],
            None => {
                self.rows.push(Row { case, what, columns: Vec::new() });
                self.rows.last_mut().expect("it was just pushed")
            }
        };
        match row.columns.iter_mut().find(|(name, _)| *name == contender) {
            Some((_, values)) => values.push(value),
            None => row.columns.push((contender, vec![value])),
        }
    }

    pub(crate) fn keep_only(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.rows.retain(|row| is_wanted(row.case));
        self.rows.sort_by_key(|row| (row.case.len(), row.case));
    }

    pub(crate) fn print(&self) {
        println!("| case | what | contender | median | min–max | ratio to {} (each round's, median) |", self.yardstick);
        println!("|---|---|---|---|---|---|");
        for row in &self.rows {
            for (contender, values) in &row.columns {
                let (low, high) = extremes(values);
                let (median, low, high) = (shown(median(values)), shown(low), shown(high));
                let ratio = row.ratio(contender, self.yardstick).map_or(String::new(), |ratio| format!("{ratio:.3}"));
                println!("| {} | {} | {contender} | {median} | {low}–{high} | {ratio} |", row.case, row.what);
            }
        }
    }

    pub(crate) fn write_json(&self, path: &Path, server_version: &str, rounds: usize) -> Result<()> {
        let rows: Vec<Value> = (self.rows.iter())
            .flat_map(|row| {
                row.columns.iter().map(|(contender, values)| {
                    let (low, high) = extremes(values);
                    json!({
                        "case": row.case, "what": row.what, "contender": contender, "values": values,
                        "median": median(values), "min": low, "max": high, "ratio": row.ratio(contender, self.yardstick),
                    })
                })
            })
            .collect();
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let report = json!({ "postgres": server_version, "cpus": cpus, "rounds": rounds, "rows": rows });
        std::fs::write(path, format!("{report:#}\n"))?;
        Ok(())
    }
}

impl Row {
    /// Returns the median of the ratios within each round: neighbours in time share the machine's mood.
    fn ratio(&self, contender: &str, yardstick: &str) -> Option<f64> {
        let values = |name| self.columns.iter().find(|(other, _)| *other == name).map(|(_, values)| values);
        let (ours, yardstick) = (values(contender)?, values(yardstick).filter(|_| contender != yardstick)?);
        let ratios: Vec<f64> = ours.iter().zip(yardstick).map(|(ours, yardstick)| ours / yardstick).collect();
        Some(median(&ratios))
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

fn extremes(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
}

fn shown(value: f64) -> String {
    match value {
        ..100.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}
