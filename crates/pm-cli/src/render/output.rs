//! The output: results on stdout, messages on stderr.

use super::table::{Screen, Table};
use super::value::{Value, Written};
use super::{json, yaml};
use crate::error::CommandError;
use crate::text::printable;
use serde::{Serialize, Serializer};
use std::io::{self, BufWriter, IsTerminal, Write};

/// What programs get as JSON.
pub(crate) trait Json {
    /// Returns the value to write. Its names are documented: do not change them. Times are RFC 3339 in UTC.
    fn json(&self) -> Value;
}

/// What humans get as a document.
pub(crate) trait Show: Json {
    /// Returns the value to write as YAML.
    fn yaml(&self) -> Value;
}

/// What humans get as the row of a table.
pub(crate) trait List: Json + Sized {
    /// Returns the table of these rows.
    fn table(rows: &[Self]) -> Table;
}

/// The output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Tables and YAML.
    Human,
    /// One JSON document.
    Json,
    /// JSON, one row per line.
    Ndjson,
}

/// The output: results go to stdout, messages to stderr.
pub(crate) struct Output {
    format: Format,
    screen: Screen,
    stdout: BufWriter<Stdout>,
}

/// Standard output.
struct Stdout {
    stdout: io::Stdout,
    ignores_closed_pipe: bool,
}

impl Output {
    /// Returns an output in this format.
    pub(crate) fn new(format: Format) -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let screen = Screen { width: is_terminal.then(|| width_of(io::stdout())), colour: is_terminal && may_colour() };
        Output { format, screen, stdout: BufWriter::new(Stdout { stdout, ignores_closed_pipe: false }) }
    }

    /// Returns the format.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Ignores a closed stdout pipe from now on, so that it does not interrupt a bulk command.
    pub(crate) fn ignore_closed_pipe(&mut self) {
        self.stdout.get_mut().ignores_closed_pipe = true;
    }

    /// Writes a list: a table, a JSON array, or a line each. For humans, `none` is the message for an empty list.
    pub(crate) fn rows<T: List>(&mut self, rows: &[T], none: &str) -> Result<(), CommandError> {
        if rows.is_empty() && self.format == Format::Human {
            self.message(none);
            return Ok(());
        }
        self.show_all(rows, |screen| T::table(rows).draw(screen))
    }

    /// Writes one thing: YAML or a JSON document.
    pub(crate) fn document(&mut self, thing: &impl Show) -> Result<(), CommandError> {
        self.show(thing, |_| yaml::document(&thing.yaml()))
    }

    /// Writes one thing: the text of `human`, or a JSON document.
    pub(crate) fn show(&mut self, thing: &impl Json, human: impl FnOnce(Screen) -> String) -> Result<(), CommandError> {
        match self.format {
            Format::Human => self.text(&human(self.screen)),
            Format::Json => self.text(&(json::pretty(&thing.json()) + "\n")),
            Format::Ndjson => self.text(&(json::line(&thing.json()) + "\n")),
        }
    }

    /// Writes several things: the text of `human`, a JSON array, or a line each.
    pub(crate) fn show_all<T: Json>(
        &mut self,
        things: &[T],
        human: impl FnOnce(Screen) -> String,
    ) -> Result<(), CommandError> {
        match self.format {
            Format::Human => self.text(&human(self.screen)),
            Format::Json => self.text(&(json::pretty(&All(things)) + "\n")),
            Format::Ndjson => things.iter().try_for_each(|thing| self.text(&(json::line(&thing.json()) + "\n"))),
        }
    }

    /// Writes the result of a change: a message on stderr for humans, a JSON document for programs.
    pub(crate) fn done(&mut self, json: &Value, message: &str) -> Result<(), CommandError> {
        match self.format {
            Format::Human => self.message(message),
            Format::Json | Format::Ndjson => writeln!(self.stdout, "{}", json::line(json))?,
        }
        Ok(())
    }

    /// Writes an answer: a line of text for humans, a JSON document for programs.
    pub(crate) fn answer(&mut self, json: &Value, line: &str) -> Result<(), CommandError> {
        match self.format {
            Format::Human => writeln!(self.stdout, "{line}")?,
            Format::Json | Format::Ndjson => writeln!(self.stdout, "{}", json::line(json))?,
        }
        Ok(())
    }

    /// Writes and flushes a line of results.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), CommandError> {
        writeln!(self.stdout, "{line}")?;
        self.flush()
    }

    /// Writes text unchanged.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), CommandError> {
        Ok(self.stdout.write_all(text.as_bytes())?)
    }

    /// Writes a value: strings and bytes unchanged, everything else as a line of text or JSON.
    pub(crate) fn value(&mut self, value: &Value) -> Result<(), CommandError> {
        let exact = Written { value, is_exact: true };
        match (self.format, value) {
            (Format::Human, Value::Text(text)) => self.stdout.write_all(text.as_bytes())?,
            (Format::Human, Value::Bytes(bytes)) => self.stdout.write_all(bytes)?,
            (Format::Human, Value::Number(number)) => writeln!(self.stdout, "{number}")?,
            (Format::Human | Format::Json, _) => writeln!(self.stdout, "{}", json::pretty(&exact))?,
            (Format::Ndjson, _) => writeln!(self.stdout, "{}", json::line(&exact))?,
        }
        Ok(())
    }

    /// Writes a message that programs do not need.
    pub(crate) fn note(&mut self, message: &str) {
        if self.format == Format::Human {
            self.message(message);
        }
    }

    /// Writes a message to stderr.
    pub(crate) fn message(&mut self, message: &str) {
        write_stderr(&format!("{}\n", printable(message)));
    }

    /// Flushes stdout. Errors: a closed pipe is an error with exit code 0.
    pub(crate) fn flush(&mut self) -> Result<(), CommandError> {
        Ok(self.stdout.flush()?)
    }
}

/// Things that become JSON one at a time.
struct All<'a, T>(&'a [T]);

impl<T: Json> Serialize for All<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Json::json))
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stdout.write(bytes);
        if self.is_ignored(&written) { Ok(bytes.len()) } else { written }
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.stdout.flush();
        if self.is_ignored(&flushed) { Ok(()) } else { flushed }
    }
}

impl Stdout {
    fn is_ignored<T>(&self, result: &io::Result<T>) -> bool {
        self.ignores_closed_pipe && result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Writes to stderr; errors are ignored because they cannot be reported.
pub(crate) fn write_stderr(text: &str) {
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// Returns whether colours are allowed: `NO_COLOR` is not set, and the terminal is not dumb.
pub(crate) fn may_colour() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// Returns whether stderr is a terminal.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Returns whether a line on stderr can be redrawn: it is a terminal, and not dumb.
pub(super) fn may_draw() -> bool {
    stderr_is_terminal() && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// Returns "1 job" or "7 jobs".
pub(crate) fn jobs(count: u64) -> String {
    match count {
        1 => "1 job".to_owned(),
        count => format!("{count} jobs"),
    }
}

pub(super) fn stderr_width() -> usize {
    width_of(io::stderr())
}

fn width_of(terminal: impl std::os::fd::AsFd) -> usize {
    const DEFAULT: usize = 80;
    let columns = rustix::termios::tcgetwinsize(terminal).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { DEFAULT } else { columns }
}
