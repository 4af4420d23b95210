//! Rows that are written as they are found, in any format.

use super::{Format, Output, json};
use crate::error::CommandError;
use serde::Serialize;

/// Writes rows one by one; a JSON array stays open until the end.
#[derive(Default)]
pub(crate) struct RowStream {
    /// How many rows were written.
    pub(crate) count: u64,
    /// Whether there is no end at which an array could be closed.
    is_endless: bool,
}

impl RowStream {
    /// Returns a stream without an end: JSON is a line a row, whichever form of it was asked for.
    pub(crate) fn of_lines() -> Self {
        RowStream { is_endless: true, ..RowStream::default() }
    }

    /// Writes a row at once, as `line` for people.
    pub(crate) fn row<T: Serialize>(
        &mut self,
        output: &mut Output,
        row: &T,
        line: impl FnOnce(&T) -> String,
    ) -> Result<(), CommandError> {
        let text = match output.format() {
            Format::People => format!("{}\n", line(row)),
            Format::Json | Format::Ndjson if self.is_endless => format!("{}\n", json::line(row)),
            Format::Ndjson => format!("{}\n", json::line(row)),
            Format::Json => format!("{}\n  {}", if self.count == 0 { "[" } else { "," }, json::line(row)),
        };
        self.count += 1;
        output.text(&text)?;
        output.flush()
    }

    /// Ends the rows.
    pub(crate) fn end(&self, output: &mut Output) -> Result<(), CommandError> {
        if output.format() == Format::Json {
            output.text(if self.count == 0 { "[]\n" } else { "\n]\n" })?;
        }
        output.flush()
    }
}
