//! Reports of bulk commands: each job as JSON, or a human-readable summary; in bounded memory.

use super::json;
use super::output::{Format, Json, Output, jobs};
use super::value::Value;
use crate::error::CommandError;

/// How many refused jobs the summary lists.
const MAX_LISTED: usize = 10;

/// The texts of a bulk action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActionText {
    /// Like "Restart".
    pub(crate) verb: &'static str,
    /// Like "Restarted".
    pub(crate) done: &'static str,
    /// Like "Restarting jobs".
    pub(crate) doing: &'static str,
    /// What follows the number of jobs, like ` to queue "mail"`.
    pub(crate) suffix: String,
}

/// What became of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Changed,
    /// It is in progress, and its handler was asked to stop.
    Requested,
    /// With the reason.
    Skipped(String),
    NotFound,
}

/// The number of jobs by outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) changed: u64,
    pub(crate) skipped: u64,
    pub(crate) not_found: u64,
}

impl Tally {
    /// Returns the number of all jobs.
    pub(crate) fn total(self) -> u64 {
        self.changed + self.skipped + self.not_found
    }
}

impl Json for Tally {
    fn json(&self) -> Value {
        let counts = [("changed", self.changed), ("skipped", self.skipped), ("not_found", self.not_found)];
        Value::named(counts.map(|(name, count)| (name, Value::number(count))))
    }
}

/// The report of a bulk command.
pub(crate) struct BulkReport {
    text: ActionText,
    /// The number of jobs so far by outcome.
    pub(crate) tally: Tally,
    /// The first refused jobs, with the reason.
    refusals: Vec<String>,
    /// Whether the head of the JSON document was written.
    is_begun: bool,
    /// How many of the changed jobs are in progress and were asked to stop.
    requested: u64,
}

impl BulkReport {
    /// Returns an empty report.
    pub(crate) fn new(text: ActionText) -> Self {
        BulkReport { text, tally: Tally::default(), refusals: Vec::new(), is_begun: false, requested: 0 }
    }

    /// Reports what became of a job; `id` may be the end of an id.
    pub(crate) fn add(&mut self, output: &mut Output, id: &str, outcome: &Outcome) -> Result<(), CommandError> {
        let (count, result, why) = match outcome {
            Outcome::Changed => (&mut self.tally.changed, "changed", None),
            Outcome::Requested => {
                self.requested += 1;
                (&mut self.tally.changed, "requested", None)
            }
            Outcome::Skipped(why) => (&mut self.tally.skipped, "skipped", Some(why.as_str())),
            Outcome::NotFound => (&mut self.tally.not_found, "not_found", None),
        };
        *count += 1;
        if !matches!(outcome, Outcome::Changed | Outcome::Requested) && self.refusals.len() < MAX_LISTED {
            self.refusals.push(format!("{id}: {}", why.unwrap_or("not found")));
        }
        let entry = || json::line(&Value::named([("id", id.into()), ("result", result.into()), ("why", why.into())]));
        match output.format() {
            Format::Human => Ok(()),
            Format::Ndjson => output.text(&format!("{}\n", entry())),
            Format::Json => {
                let comma = if self.is_begun { "," } else { "" };
                self.begin(output)?;
                output.text(&format!("{comma}\n    {}", entry()))
            }
        }
    }

    /// Ends the report and returns a summary without a full stop.
    pub(crate) fn end(&mut self, output: &mut Output) -> Result<String, CommandError> {
        if output.format() == Format::Json {
            self.begin(output)?;
            let Tally { changed, skipped, not_found } = self.tally;
            output.text(&format!(
                "\n  ],\n  \"changed\": {changed},\n  \"skipped\": {skipped},\n  \"not_found\": {not_found}\n}}\n"
            ))?;
        }
        output.flush()?;
        let done = format!("{} {}{}", self.text.done, jobs(self.tally.changed), self.text.suffix);
        Ok(match self.requested {
            0 => done,
            1 => format!("{done}; 1 is in progress and was asked to stop"),
            requested => format!("{done}; {requested} are in progress and were asked to stop"),
        })
    }

    /// Returns an error that lists the refused jobs, if there are any.
    pub(crate) fn refusal(&self) -> Option<CommandError> {
        let refused = self.tally.skipped + self.tally.not_found;
        if refused == 0 {
            return None;
        }
        let were = if refused == 1 { "was" } else { "were" };
        let mut message = format!("{} {were} not {}:", jobs(refused), self.text.done.to_lowercase());
        self.refusals.iter().for_each(|line| message.push_str(&format!("\n  {line}")));
        if refused > self.refusals.len() as u64 {
            message.push_str(&format!("\n  … and {} more", refused - self.refusals.len() as u64));
        }
        Some(CommandError::refused(message))
    }

    fn begin(&mut self, output: &mut Output) -> Result<(), CommandError> {
        if !self.is_begun {
            self.is_begun = true;
            output.text("{\n  \"jobs\": [")?;
        }
        Ok(())
    }
}
