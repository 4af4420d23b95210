//! The table of results, and its JSON form.

use crate::Result;
use crate::options::Options;
use crate::plot;
use crate::testbed::Testbed;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::Path;

/// All values, in the order in which they were first added.
#[derive(Debug)]
pub(crate) struct Report {
    /// The contender by which all others are divided.
    baseline: &'static str,
    round: usize,
    rows: Vec<Row>,
    versions: Vec<(&'static str, String)>,
    failures: Vec<Failure>,
    repeats: Vec<Repeats>,
}

/// A value that was measured: case, name with unit, value.
pub(crate) type Measured = (&'static str, String, f64);

/// What was measured once a round for each contender.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) case: &'static str,
    pub(crate) what: String,
    pub(crate) columns: Vec<Column>,
}

/// The values of one contender, each with its round.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) contender: &'static str,
    values: Vec<(usize, f64)>,
}

/// A measurement that failed.
#[derive(Debug, Serialize)]
struct Failure {
    round: usize,
    contender: &'static str,
    what: String,
    error: String,
}

/// A measurement in which jobs were handled twice.
#[derive(Debug, Serialize)]
struct Repeats {
    round: usize,
    contender: &'static str,
    what: String,
    jobs: usize,
}

impl Report {
    /// Returns an empty report with ratios to this contender.
    pub(crate) fn against(baseline: &'static str) -> Self {
        let (rows, versions, failures, repeats) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Report { baseline, round: 1, rows, versions, failures, repeats }
    }

    /// Begins a round. Ratios are those of values of the same round.
    pub(crate) fn begin_round(&mut self, round: usize) {
        self.round = round;
    }

    /// Adds the version of a contender.
    pub(crate) fn add_version(&mut self, contender: &'static str, version: String) {
        self.versions.push((contender, version));
    }

    /// Adds a value of this round.
    pub(crate) fn add(&mut self, case: &'static str, what: String, contender: &'static str, value: f64) {
        let row = match self.rows.iter_mut().position(|row| row.case == case && row.what == what) {
            Some(index) => &mut self.rows[index],
            None => {
                self.rows.push(Row { case, what, columns: Vec::new() });
                self.rows.last_mut().expect("it was just pushed")
            }
        };
        let value = (self.round, value);
        match row.columns.iter_mut().find(|column| column.contender == contender) {
            Some(column) => column.values.push(value),
            None => row.columns.push(Column { contender, values: vec![value] }),
        }
    }

    /// Adds the values of a contender.
    pub(crate) fn add_all(&mut self, contender: &'static str, values: Vec<Measured>) {
        for (case, what, value) in values {
            self.add(case, what, contender, value);
        }
    }

    /// Adds a measurement of this round that failed.
    pub(crate) fn add_failure(&mut self, contender: &'static str, what: &str, error: String) {
        self.failures.push(Failure { round: self.round, contender, what: what.to_owned(), error });
    }

    /// Adds how many jobs of a measurement of this round were handled twice.
    pub(crate) fn add_repeats(&mut self, contender: &'static str, what: &str, jobs: usize) {
        self.repeats.push(Repeats { round: self.round, contender, what: what.to_owned(), jobs });
    }

    /// Prints the wanted rows and writes the files that the options ask for.
    pub(crate) async fn finish(mut self, options: &Options, testbed: &Testbed) -> Result<()> {
        self.rows.retain(|row| options.includes(row.case));
        self.rows.sort_by_key(|row| (row.case.len(), row.case));
        for row in &mut self.rows {
            row.columns.sort_by_key(|column| self.versions.iter().position(|(name, _)| *name == column.contender));
        }
        let settings = testbed.settings().await?;
        self.print(&settings);
        if let Some(path) = &options.json {
            self.write_json(path, &settings, options.rounds)?;
        }
        match &options.svg {
            Some(directory) => plot::write(directory, &self.rows),
            None => Ok(()),
        }
    }

    fn print(&self, settings: &[(&'static str, String)]) {
        let joined = |pairs: &[(&str, String)]| {
            pairs.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
        };
        println!("Server: {}; {} CPUs", joined(settings), cpus());
        if !self.versions.is_empty() {
            println!("Contenders: {}", joined(&self.versions));
        }
        println!(
            "\n| case | what | contender | median | min–max | ratio to {} (each round's, median) |",
            self.baseline
        );
        println!("|---|---|---|---|---|---|");
        for row in &self.rows {
            for column in &row.columns {
                let (low, high) = column.extremes();
                let (median, low, high) = (shown(column.median()), shown(low), shown(high));
                let ratio = row.ratio(column, self.baseline).map_or(String::new(), |ratio| format!("{ratio:.3}"));
                println!("| {} | {} | {} | {median} | {low}–{high} | {ratio} |", row.case, row.what, column.contender);
            }
        }
        for failure in &self.failures {
            let Failure { round, contender, what, error } = failure;
            println!("\nFAILED: {contender}, {what}, round {round}: {error}");
        }
        for repeats in &self.repeats {
            let Repeats { round, contender, what, jobs } = repeats;
            println!("\nHandled twice: {contender}, {what}, round {round}: {jobs} jobs");
        }
    }

    fn write_json(&self, path: &Path, settings: &[(&'static str, String)], rounds: usize) -> Result<()> {
        let columns = self.rows.iter().flat_map(|row| row.columns.iter().map(move |column| (row, column)));
        let rows: Vec<Value> = columns
            .map(|(row, column)| {
                let (low, high) = column.extremes();
                json!({
                    "case": row.case, "what": row.what, "contender": column.contender,
                    "values": column.numbers(), "median": column.median(), "min": low, "max": high,
                    "ratio": row.ratio(column, self.baseline),
                })
            })
            .collect();
        let object = |pairs: &[(&str, String)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())).collect::<Map<_, Value>>()
        };
        let report = json!({
            "postgres": object(settings), "cpus": cpus(), "rounds": rounds, "baseline": self.baseline,
            "versions": object(&self.versions), "rows": rows, "failures": self.failures,
            "repeats": self.repeats,
        });
        std::fs::write(path, format!("{report:#}\n"))?;
        Ok(())
    }
}

impl Row {
    /// Returns the median of the ratios of each round: measurements that are close in time are comparable.
    fn ratio(&self, column: &Column, baseline: &str) -> Option<f64> {
        let baseline = self.columns.iter().find(|other| other.contender == baseline)?;
        let of_round = |round| baseline.values.iter().find(|(other, _)| *other == round).map(|(_, value)| *value);
        let ratios: Vec<f64> =
            column.values.iter().filter_map(|(round, value)| Some(value / of_round(*round)?)).collect();
        (!ratios.is_empty() && column.contender != baseline.contender).then(|| median(&ratios))
    }
}

impl Column {
    fn numbers(&self) -> Vec<f64> {
        self.values.iter().map(|(_, value)| *value).collect()
    }

    pub(crate) fn median(&self) -> f64 {
        median(&self.numbers())
    }

    /// Returns the smallest and the largest value.
    pub(crate) fn extremes(&self) -> (f64, f64) {
        let numbers = self.numbers().into_iter();
        numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

pub(crate) fn shown(value: f64) -> String {
    match value {
        ..100.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}
