//! The one place that makes what people and programs read.

mod bulk;
mod change;
mod exact;
mod finding;
mod job;
mod json;
mod matches;
mod payload;
mod progress;
mod queue;
mod schedule;
mod stats;
mod stream;
mod table;
mod text;
mod time;
mod value;
mod yaml;

pub(crate) use bulk::{ActionWords, BulkReport, Tally};
pub(crate) use change::ChangeView;
pub(crate) use finding::FindingView;
pub(crate) use job::{JobView, job_document, job_table};
pub(crate) use matches::{MatchView, Needle, Place};
pub(crate) use payload::decode as payload_value;
pub(crate) use progress::{Progress, Total};
pub(crate) use queue::{QueueView, SettingsView, compact_count, queue_table};
pub(crate) use schedule::{ScheduleView, schedule_table};
pub(crate) use stats::{StatsView, a_minute};
pub(crate) use stream::RowStream;
pub(crate) use text::{cut, printable, width, wrapped};
pub(crate) use time::length;
pub(crate) use value::Value;

use crate::error::CommandError;
use serde::Serialize;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use table::Table;

/// The form in which results are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Tables and YAML.
    People,
    /// One JSON document.
    Json,
    /// JSON, one line a row.
    Ndjson,
}

/// Where results go: stdout, and sentences to stderr.
pub(crate) struct Output {
    format: Format,
    screen: Screen,
    stdout: BufWriter<Reader>,
}

/// Whoever reads the results.
struct Reader {
    stdout: Stdout,
    may_leave: bool,
}

/// What stdout can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Screen {
    /// Its width in columns, if it is a terminal.
    pub(crate) width: Option<usize>,
    /// Whether it may be coloured.
    pub(crate) colour: bool,
}

impl Output {
    /// Returns the output in this format.
    pub(crate) fn new(format: Format) -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let screen = Screen { width: is_terminal.then(terminal_width), colour: is_terminal && may_colour() };
        Output { format, screen, stdout: BufWriter::new(Reader { stdout, may_leave: false }) }
    }

    /// Returns the form in which results are wanted.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// From now on a reader that goes away does not end the command: what it does to many jobs is not to stop midway.
    pub(crate) fn outlive_reader(&mut self) {
        self.stdout.get_mut().may_leave = true;
    }

    /// Writes rows: a table, an array, or a line each.
    pub(crate) fn rows<T: Serialize>(&mut self, rows: &[T], table: fn(&[T]) -> Table) -> Result<(), CommandError> {
        match self.format {
            Format::People if rows.is_empty() => {}
            Format::People => write!(self.stdout, "{}", table(rows).draw(self.screen))?,
            Format::Json => writeln!(self.stdout, "{}", json::pretty(&rows))?,
            Format::Ndjson => rows.iter().try_for_each(|row| writeln!(self.stdout, "{}", json::line(row)))?,
        }
        Ok(())
    }

    /// Writes one thing: YAML or a JSON document.
    pub(crate) fn document<T: Serialize>(&mut self, thing: &T, yaml: fn(&T) -> Value) -> Result<(), CommandError> {
        match self.format {
            Format::People => write!(self.stdout, "{}", yaml::document(&yaml(thing)))?,
            Format::Json => writeln!(self.stdout, "{}", json::pretty(thing))?,
            Format::Ndjson => writeln!(self.stdout, "{}", json::line(thing))?,
        }
        Ok(())
    }

    /// Writes rows: a paragraph each, an array, or a line each.
    pub(crate) fn paragraphs<T: Serialize>(
        &mut self,
        rows: &[T],
        paragraph: fn(&T, colour: bool) -> String,
    ) -> Result<(), CommandError> {
        match self.format {
            Format::People => {
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
            Format::People => {
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

    /// Writes what was done: a sentence to stderr for people, a JSON document for programs.
    pub(crate) fn done<T: Serialize>(&mut self, thing: &T, sentence: &str) -> Result<(), CommandError> {
        match self.format {
            Format::People => self.say(sentence),
            Format::Json | Format::Ndjson => writeln!(self.stdout, "{}", json::line(thing))?,
        }
        Ok(())
    }

    /// Writes a line of results as it is, at once.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), CommandError> {
        writeln!(self.stdout, "{line}")?;
        self.flush()
    }

    /// Writes text as it is.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), CommandError> {
        Ok(self.stdout.write_all(text.as_bytes())?)
    }

    /// Writes a value for programs: texts and bytes exactly as they are, everything else as a line of text or JSON.
    pub(crate) fn value(&mut self, value: &Value) -> Result<(), CommandError> {
        match (self.format, value) {
            (Format::People, Value::Text(text)) => self.stdout.write_all(text.as_bytes())?,
            (Format::People, Value::Bytes(bytes)) => self.stdout.write_all(bytes)?,
            (Format::People, Value::Number(number)) => writeln!(self.stdout, "{number}")?,
            (Format::People | Format::Json, value) => writeln!(self.stdout, "{}", json::pretty(&exact::Exact(value)))?,
            (Format::Ndjson, value) => writeln!(self.stdout, "{}", json::line(&exact::Exact(value)))?,
        }
        Ok(())
    }

    /// Says a sentence on stderr.
    pub(crate) fn say(&mut self, sentence: &str) {
        write_stderr(&format!("{}\n", printable(sentence)));
    }

    /// Writes what is held back.
    ///
    /// # Errors
    ///
    /// A reader that has gone away is an error that ends in success.
    pub(crate) fn flush(&mut self) -> Result<(), CommandError> {
        Ok(self.stdout.flush()?)
    }
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stdout.write(bytes);
        if self.has_left(&written) { Ok(bytes.len()) } else { written }
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.stdout.flush();
        if self.has_left(&flushed) { Ok(()) } else { flushed }
    }
}

impl Reader {
    fn has_left<T>(&self, result: &io::Result<T>) -> bool {
        self.may_leave && result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Writes to stderr; there is nobody to tell when that fails.
pub(crate) fn write_stderr(text: &str) {
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// Returns whether the user wants colours: `NO_COLOR` is not set, and the terminal is not a dumb one.
pub(crate) fn may_colour() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// Returns whether someone sees what goes to stderr.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Returns whether a line on stderr may be drawn over: it is a terminal, and not a dumb one.
fn may_draw() -> bool {
    is_watched() && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
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

fn stderr_width() -> usize {
    width_of(io::stderr())
}

fn width_of(terminal: impl std::os::fd::AsFd) -> usize {
    const USUAL: usize = 80;
    let columns = rustix::termios::tcgetwinsize(terminal).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { USUAL } else { columns }
}
