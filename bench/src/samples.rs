//! What is measured again and again during a soak: the lines it prints, the comparison of its beginning and its end,
//! the JSON and the plots.

use crate::Result;
use crate::curves::Curves;
use crate::report::{median, shown};
use serde::Serialize;
use std::path::Path;

/// The values of ten seconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    /// The end of this time, from the beginning.
    pub(crate) minute: f64,
    pub(crate) in_per_s: f64,
    pub(crate) out_per_s: f64,
    /// How many jobs are enqueued and not handled.
    pub(crate) behind: f64,
    pub(crate) enqueue_p50_ms: f64,
    pub(crate) enqueue_p99_ms: f64,
    /// From the call of enqueue to the handler.
    pub(crate) pickup_p50_ms: f64,
    pub(crate) pickup_p99_ms: f64,
    /// The table of jobs with all that belongs to it but indexes.
    pub(crate) table_mb: f64,
    pub(crate) indexes_mb: f64,
    pub(crate) line_index_mb: f64,
    pub(crate) dead_tuples: f64,
    pub(crate) server_us_per_job: f64,
    pub(crate) client_us_per_job: f64,
    /// How many jobs have been pruned so far.
    pub(crate) pruned: f64,
    /// Whether a snapshot is held open.
    pub(crate) is_held: bool,
}

/// A figure of the comparison: its name, its value, and whether it settles only after the first retention.
type Figure = (&'static str, fn(&Sample) -> f64, bool);

const FIGURES: [Figure; 12] = [
    ("in, jobs/s", |sample| sample.in_per_s, false),
    ("out, jobs/s", |sample| sample.out_per_s, false),
    ("behind, jobs", |sample| sample.behind, false),
    ("enqueue p99, ms", |sample| sample.enqueue_p99_ms, false),
    ("pick-up p50, ms", |sample| sample.pickup_p50_ms, false),
    ("pick-up p99, ms", |sample| sample.pickup_p99_ms, false),
    ("server µs/job", |sample| sample.server_us_per_job, false),
    ("client µs/job", |sample| sample.client_us_per_job, false),
    ("table, MB", |sample| sample.table_mb, true),
    ("indexes, MB", |sample| sample.indexes_mb, true),
    ("index of the line, MB", |sample| sample.line_index_mb, true),
    ("dead tuples", |sample| sample.dead_tuples, true),
];

/// The plots: file, title, and the lines.
type Plot = (&'static str, &'static str, &'static [(&'static str, fn(&Sample) -> f64)]);

const PLOTS: [Plot; 6] = [
    ("rate", "jobs/s", &[("in", |sample| sample.in_per_s), ("out", |sample| sample.out_per_s)]),
    ("behind", "jobs enqueued and not handled", &[("behind", |sample| sample.behind)]),
    (
        "pick-up",
        "ms from the call of enqueue to the handler",
        &[("p50", |sample| sample.pickup_p50_ms), ("p99", |sample| sample.pickup_p99_ms)],
    ),
    (
        "sizes",
        "MB",
        &[
            ("table", |sample| sample.table_mb),
            ("indexes", |sample| sample.indexes_mb),
            ("index of the line", |sample| sample.line_index_mb),
        ],
    ),
    ("dead", "dead tuples of the table of jobs", &[("dead", |sample| sample.dead_tuples)]),
    (
        "cpu",
        "CPU µs/job",
        &[("server", |sample| sample.server_us_per_job), ("client", |sample| sample.client_us_per_job)],
    ),
];

/// A figure at the beginning and at the end: medians of a twelfth of the time each.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Compared {
    figure: &'static str,
    first: f64,
    last: f64,
    ratio: f64,
    min: f64,
    max: f64,
}

impl Sample {
    pub(crate) const HEADING: &str = "  minute    in/s   out/s  behind   p50 ms   p99 ms  table MB  index MB  dead    \
                                      server µs/job  client µs/job";

    /// Returns the values as a line.
    pub(crate) fn line(&self) -> String {
        format!(
            "{:8.2} {:7.0} {:7.0} {:7} {:8.2} {:8.2} {:9.1} {:9.1}  {:7} {:13.1} {:14.1}{}",
            self.minute,
            self.in_per_s,
            self.out_per_s,
            self.behind,
            self.pickup_p50_ms,
            self.pickup_p99_ms,
            self.table_mb,
            self.indexes_mb,
            self.dead_tuples,
            self.server_us_per_job,
            self.client_us_per_job,
            if self.is_held { "  a snapshot is held" } else { "" },
        )
    }
}

/// Compares the first twelfth of the time with the last; figures that settle only after the first retention, which
/// takes as long, the second twelfth.
pub(crate) fn compared(samples: &[Sample]) -> Vec<Compared> {
    let twelfth = samples.len().div_ceil(12);
    let compare = |(figure, value, settles): &Figure| {
        let start = if *settles { twelfth } else { 0 };
        let values: Vec<f64> = samples.iter().map(value).collect();
        let first = median(values.get(start..(start + twelfth).min(values.len())).filter(|part| !part.is_empty())?);
        let last = median(&values[values.len() - twelfth..]);
        let settled = &values[start..];
        let (min, max) =
            settled.iter().fold((f64::MAX, f64::MIN), |(min, max), value| (min.min(*value), max.max(*value)));
        Some(Compared { figure, first, last, ratio: last / first, min, max })
    };
    FIGURES.iter().filter_map(compare).collect()
}

pub(crate) fn print(compared: &[Compared]) {
    println!("\n| figure | first twelfth | last twelfth | last / first | min–max |\n|---|---|---|---|---|");
    for Compared { figure, first, last, ratio, min, max } in compared {
        let [first, last, min, max] = [first, last, min, max].map(|value| shown(*value));
        println!("| {figure} | {first} | {last} | {ratio:.3} | {min}–{max} |");
    }
}

/// Writes a plot of each kind of value into a directory, which is created if it does not exist.
pub(crate) fn plot(directory: &Path, samples: &[Sample], held_minutes: (f64, f64)) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    let minutes: Vec<f64> = samples.iter().map(|sample| sample.minute).collect();
    let shade = (held_minutes.0, held_minutes.1, "snapshot held");
    for (file, title, lines) in PLOTS {
        let lines = lines.iter().map(|(name, value)| (*name, samples.iter().map(value).collect())).collect();
        let svg = Curves { title, minutes: &minutes, lines, shade }.drawn()?;
        std::fs::write(directory.join(format!("soak-{file}.svg")), svg)?;
    }
    Ok(())
}
