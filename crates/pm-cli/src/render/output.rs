//! The output: results on stdout, messages on stderr.

use super::table::{Screen, Table};
use super::value::Value;
use super::{exact, json, yaml};
use crate::error::CommandError;
use crate::text::printable;
use serde::Serialize;
use std::io::{self, BufWriter, IsTerminal, Write};

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
        let screen = Screen { width: is_terminal.then(terminal_width), colour: is_terminal && may_colour() };
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

    /// Writes rows: a table, a JSON array, or a line each.
    pub(crate) fn rows<T: Serialize>(&mut self, rows: &[T], table: fn(&[T]) -> Table) -> Result<(), CommandError> {
        match self.format {
            Format::Human if rows.is_empty() => {}
            Format::Human => write!(self.stdout, "{}", table(rows).draw(self.screen))?,
            Format::Json => writeln!(self.stdout, "{}", json::pretty(&rows))?,
            Format::Ndjson => rows.iter().try_for_each(|row| writeln!(self.stdout, "{}", json::line(row)))?,
        }
        Ok(())
    }

    /// Writes one value: YAML or a JSON document.
    pub(crate) fn document<T: Serialize>(&mut self, thing: &T, yaml: fn(&T) -> Value) -> Result<(), CommandError> {
        match self.format {
            Format::Human => write!(self.stdout, "{}", yaml::document(&yaml(thing)))?,
            Format::Json => writeln!(self.stdout, "{}", json::pretty(thing))?,
            Format::Ndjson => writeln!(self.stdout, "{}", json::line(thing))?,
        }
        Ok(())
    }

    /// Writes rows: a paragraph each, a JSON array, or a line each.
    pub(crate) fn paragraphs<T: Serialize>(
        &mut self,
        rows: &[T],
        paragraph: fn(&T, colour: bool) -> String,
    ) -> Result<(), CommandError> {
        match self.format {
            Format::Human => {
                let paragraphs: Vec<_> = rows.iter().map(|row| paragraph(row, self.screen.colour)).collect();
                write!(self.stdout, "{}", paragraphs.join("\n"))?;
            }
            Format::Json => writeln!(self.stdout, "{}", json::pretty(&rows))?,
            Format::Ndjson => rows.iter().try_for_each(|row| writeln!(self.stdout, "{}", json::line(row)))?,
        }
        Ok(())
    }

    /// Writes several tables, each with its heading, or a JSON document.
    pub(crate) fn tables<T: Serialize>(
        &mut self,
        thing: &T,
        tables: fn(&T) -> Vec<(String, Table)>,
    ) -> Result<(), CommandError> {
        match self.format {
            Format::Human => {
                for (index, (heading, table)) in tables(thing).into_iter().enumerate() {
                    let space = if index > 0 { "\n" } else { "" };
                    write!(self.stdout, "{space}{heading}\n{}", table.draw(self.screen))?;
                }
            }
            Format::Json => writeln!(self.stdout, "{}", json::pretty(thing))?,
            Format::Ndjson => writeln!(self.stdout, "{}", json::line(thing))?,
        }
        Ok(())
    }

    /// Writes the result of a change: a message on stderr for humans, a JSON document for programs.
    pub(crate) fn done<T: Serialize>(&mut self, thing: &T, message: &str) -> Result<(), CommandError> {
        match self.format {
            Format::Human => self.message(message),
            Format::Json | Format::Ndjson => writeln!(self.stdout, "{}", json::line(thing))?,
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
        match (self.format, value) {
            (Format::Human, Value::Text(text)) => self.stdout.write_all(text.as_bytes())?,
            (Format::Human, Value::Bytes(bytes)) => self.stdout.write_all(bytes)?,
            (Format::Human, Value::Number(number)) => writeln!(self.stdout, "{number}")?,
            (Format::Human | Format::Json, value) => writeln!(self.stdout, "{}", json::pretty(&exact::Exact(value)))?,
            (Format::Ndjson, value) => writeln!(self.stdout, "{}", json::line(&exact::Exact(value)))?,
        }
        Ok(())
    }

    /// Writes a message to stderr.
    pub(crate) fn message(&mut self, message: &str) {
        write_stderr(&format!("{}\n", printable(message)));
    }

    /// Flushes stdout.
    ///
    /// # Errors
    ///
    /// A closed pipe is an error with exit code 0.
    pub(crate) fn flush(&mut self) -> Result<(), CommandError> {
        Ok(self.stdout.flush()?)
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

fn terminal_width() -> usize {
    width_of(io::stdout())
}

pub(super) fn stderr_width() -> usize {
    width_of(io::stderr())
}

fn width_of(terminal: impl std::os::fd::AsFd) -> usize {
    const DEFAULT: usize = 80;
    let columns = rustix::termios::tcgetwinsize(terminal).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { DEFAULT } else { columns }
}
