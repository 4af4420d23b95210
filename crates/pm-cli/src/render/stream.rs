//! Rows that are written one at a time, in any format.

use super::json;
use super::output::{Format, Json, Output};
use crate::error::CommandError;

/// Writes rows one at a time; `--json` makes them one array.
#[derive(Default)]
pub(crate) struct RowStream {
    /// How many rows were written.
    pub(crate) count: u64,
    /// Whether the stream never ends, so that an array could not be closed.
    is_endless: bool,
}

impl RowStream {
    /// Returns an endless stream: both JSON formats have one row per line.
    pub(crate) fn of_lines() -> Self {
        RowStream { is_endless: true, ..RowStream::default() }
    }

    /// Writes and flushes a row; `line` makes the human-readable form.
    pub(crate) fn row<T: Json>(
        &mut self,
        output: &mut Output,
        row: &T,
        line: impl FnOnce(&T) -> String,
    ) -> Result<(), CommandError> {
        let text = match output.format() {
            Format::Human => format!("{}\n", line(row)),
            Format::Json if !self.is_endless => {
                format!("{}\n  {}", if self.count == 0 { "[" } else { "," }, json::line(&row.json()))
            }
            Format::Json | Format::Ndjson => format!("{}\n", json::line(&row.json())),
        };
        self.count += 1;
        output.text(&text)?;
        output.flush()
    }

    /// Ends the stream.
    pub(crate) fn end(&self, output: &mut Output) -> Result<(), CommandError> {
        if output.format() == Format::Json {
            output.text(if self.count == 0 { "[]\n" } else { "\n]\n" })?;
        }
        output.flush()
    }
}
