//! The table of results, and its JSON form.

use crate::Result;
use serde_json::{Value, json};
use std::path::Path;

/// All values, in the order in which they were first added.
#[derive(Debug)]
pub(crate) struct Report {
    /// The contender by which all others are divided.
    baseline: &'static str,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    case: &'static str,
    what: String,
    columns: Vec<(&'static str, Vec<f64>)>,
}

impl Report {
    /// Returns an empty report with ratios to this contender.
    pub(crate) fn against(baseline: &'static str) -> Self {
        Report { baseline, rows: Vec::new() }
    }

    /// Adds the value of one round.
    pub(crate) fn add(&mut self, case: &'static str, what: String, contender: &'static str, value: f64) {
        let row = match self.rows.iter_mut().position(|row| row.case == case && row.what == what) {
            Some(index) => &mut self.rows[index],
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
        println!("| case | what | contender | median | min–max | ratio to {} (each round's, median) |", self.baseline);
        println!("|---|---|---|---|---|---|");
        for row in &self.rows {
            for (contender, values) in &row.columns {
                let (low, high) = extremes(values);
                let (median, low, high) = (shown(median(values)), shown(low), shown(high));
                let ratio = row.ratio(contender, self.baseline).map_or(String::new(), |ratio| format!("{ratio:.3}"));
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
                        "median": median(values), "min": low, "max": high, "ratio": row.ratio(contender, self.baseline),
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
    /// Returns the median of the ratios of each round: measurements that are close in time are comparable.
    fn ratio(&self, contender: &str, baseline: &str) -> Option<f64> {
        let values = |name| self.columns.iter().find(|(other, _)| *other == name).map(|(_, values)| values);
        let (ours, baseline) = (values(contender)?, values(baseline).filter(|_| contender != baseline)?);
        let ratios: Vec<f64> = ours.iter().zip(baseline).map(|(ours, baseline)| ours / baseline).collect();
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
