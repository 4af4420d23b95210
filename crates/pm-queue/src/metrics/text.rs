//! The text formats of Prometheus and OpenMetrics.

use super::histogram::Histogram;
use std::fmt::{self, Display, Write};

/// What kind of metric a family has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The metrics of one name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family {
    /// The name; without `_total` for a counter.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
}

type Labels<'a> = [(&'a str, &'a str)];

/// A text under construction.
pub(super) struct Text {
    text: String,
    openmetrics: bool,
    /// The name of the samples of the current family.
    name: String,
}

impl Text {
    pub(super) fn new(openmetrics: bool) -> Self {
        Text { text: String::new(), openmetrics, name: String::new() }
    }

    /// Begins a family, whose samples follow.
    pub(super) fn begin(&mut self, family: &Family) {
        let total = format!("{}_total", family.name);
        let is_counter = family.kind == Kind::Counter;
        self.name = if is_counter { total } else { family.name.to_owned() };
        // OpenMetrics names a counter without its suffix, and puts the unit into the metadata.
        let name = if self.openmetrics { family.name } else { &*self.name };
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        append(&mut self.text, format_args!("# HELP {name} {}.\n# TYPE {name} {kind}\n", family.help));
        if self.openmetrics && family.name.ends_with("_seconds") {
            append(&mut self.text, format_args!("# UNIT {name} seconds\n"));
        }
    }

    /// Adds a sample.
    pub(super) fn value(&mut self, labels: &Labels<'_>, value: impl Display) {
        self.sample("", labels, value);
    }

    /// Adds the samples of a histogram.
    pub(super) fn histogram(&mut self, labels: &Labels<'_>, histogram: &Histogram) {
        for (bound, count) in histogram.cumulative() {
            // With a decimal point, as OpenMetrics wants it.
            let bound = format!("{bound:?}");
            self.sample("_bucket", &[labels, &[("le", &*bound)]].concat(), count);
        }
        self.sample("_bucket", &[labels, &[("le", "+Inf")]].concat(), histogram.count());
        self.sample("_sum", labels, histogram.sum_seconds());
        self.sample("_count", labels, histogram.count());
    }

    /// Returns the complete text.
    pub(super) fn finish(mut self) -> String {
        if self.openmetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn sample(&mut self, suffix: &str, labels: &Labels<'_>, value: impl Display) {
        append(&mut self.text, format_args!("{}{suffix}", self.name));
        for (index, (name, value)) in labels.iter().enumerate() {
            let begin = if index == 0 { '{' } else { ',' };
            append(&mut self.text, format_args!("{begin}{name}=\"{}\"", Escaped(value)));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        append(&mut self.text, format_args!("{end} {value}\n"));
    }
}

fn append(text: &mut String, arguments: fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string does not fail");
}

/// A label's value with what both formats escape.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
