//! What became of many jobs: told one by one to programs, summed up for people, in bounded memory.

use super::{Format, Output, jobs, json};
use crate::error::CommandError;
use pm_driver_tokio_postgres::Uuid;
use serde::Serialize;

/// So many refused jobs are named to people.
const NAMED: usize = 10;

/// The words for what a command does to jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActionWords {
    /// Like "restart".
    pub(crate) order: &'static str,
    /// Like "Restarted".
    pub(crate) done: &'static str,
    /// Like "Restarting".
    pub(crate) doing: &'static str,
    /// What follows the jobs, like ` to queue "mail"`.
    pub(crate) tail: String,
}

/// How many jobs came out how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Tally {
    pub(crate) changed: u64,
    pub(crate) skipped: u64,
    pub(crate) not_found: u64,
}

impl Tally {
    /// Returns how many jobs it was about.
    pub(crate) fn all(self) -> u64 {
        self.changed + self.skipped + self.not_found
    }
}

/// Tells what became of many jobs.
pub(crate) struct BulkReport {
    words: ActionWords,
    tally: Tally,
    /// The first refused jobs, and why.
    named: Vec<String>,
    /// Whether the JSON document was begun.
    is_begun: bool,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    result: &'static str,
    /// Why the job was skipped.
    why: Option<&'a str>,
}

impl BulkReport {
    /// Returns a report that has nothing to tell yet.
    pub(crate) fn new(words: ActionWords) -> Self {
        BulkReport { words, tally: Tally::default(), named: Vec::new(), is_begun: false }
    }

    /// Returns how many jobs came out how so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// Tells that a job was changed.
    pub(crate) fn changed(&mut self, output: &mut Output, id: Uuid) -> Result<(), CommandError> {
        self.tally.changed += 1;
        self.entry(output, &Entry { id: &id.to_string(), result: "changed", why: None })
    }

    /// Tells that a job was left as it is, and why.
    pub(crate) fn skipped(&mut self, output: &mut Output, id: Uuid, why: &str) -> Result<(), CommandError> {
        self.tally.skipped += 1;
        self.name(format!("{id}: {why}"));
        self.entry(output, &Entry { id: &id.to_string(), result: "skipped", why: Some(why) })
    }

    /// Tells that there is no such job; it may be named by the end of an id.
    pub(crate) fn not_found(&mut self, output: &mut Output, id: &str) -> Result<(), CommandError> {
        self.tally.not_found += 1;
        self.name(format!("{id}: not found"));
        self.entry(output, &Entry { id, result: "not_found", why: None })
    }

    /// Ends the report and returns the sentence that sums up what was done.
    pub(crate) fn end(&mut self, output: &mut Output) -> Result<String, CommandError> {
        if output.format() == Format::Json {
            self.begin(output)?;
            let Tally { changed, skipped, not_found } = self.tally;
            output.text(&format!(
                "\n  ],\n  \"changed\": {changed},\n  \"skipped\": {skipped},\n  \"not_found\": {not_found}\n}}\n"
            ))?;
        }
        output.flush()?;
        Ok(format!("{} {}{}", self.words.done, jobs(self.tally.changed), self.words.tail))
    }

    /// Returns an error that names the jobs that were refused, if there are any.
    pub(crate) fn refusal(&self) -> Option<CommandError> {
        let refused = self.tally.skipped + self.tally.not_found;
        if refused == 0 {
            return None;
        }
        let were = if refused == 1 { "was" } else { "were" };
        let mut message = format!("{} {were} not {}:", jobs(refused), self.words.done.to_lowercase());
        self.named.iter().for_each(|line| message.push_str(&format!("\n  {line}")));
        if refused > self.named.len() as u64 {
            message.push_str(&format!("\n  … and {} more", refused - self.named.len() as u64));
        }
        Some(CommandError::refused(message))
    }

    fn name(&mut self, line: String) {
        if self.named.len() < NAMED {
            self.named.push(line);
        }
    }

    fn entry(&mut self, output: &mut Output, entry: &Entry<'_>) -> Result<(), CommandError> {
        match output.format() {
            Format::People => Ok(()),
            Format::Ndjson => output.text(&format!("{}\n", json::line(entry))),
            Format::Json => {
                let comma = if self.is_begun { "," } else { "" };
                self.begin(output)?;
                output.text(&format!("{comma}\n    {}", json::line(entry)))
            }
        }
    }

    fn begin(&mut self, output: &mut Output) -> Result<(), CommandError> {
        if !self.is_begun {
            self.is_begun = true;
            output.text("{\n  \"jobs\": [")?;
        }
        Ok(())
    }
}
