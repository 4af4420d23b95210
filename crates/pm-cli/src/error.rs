//! What a command says when it does not do what was asked, and the exit code that goes with it.

use crate::redact::Secrets;
use crate::render::printable;
use pm_driver_tokio_postgres::{Error, ErrorKind};
use std::fmt;
use std::io;

/// The advice for a database without pm's tables, or with old ones.
const MIGRATE: &str = "run: pm db migrate";

/// How a command ends. The numbers are documented and stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what was asked.
    Done = 0,
    /// Nothing matched, or some were refused.
    Refused = 1,
    /// The arguments, the configuration or the input are wrong.
    Usage = 2,
    /// The database or the server is in trouble.
    Trouble = 3,
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) struct CommandError {
    exit: Exit,
    message: String,
    hints: Vec<String>,
}

impl CommandError {
    /// Returns the error for what matched nothing or was refused.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        CommandError { exit: Exit::Refused, message: message.into(), hints: Vec::new() }
    }

    /// Returns the error for wrong arguments, configuration or input.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        CommandError { exit: Exit::Usage, ..Self::refused(message) }
    }

    /// Returns the error for trouble with the database or a server.
    pub(crate) fn trouble(message: impl Into<String>) -> Self {
        CommandError { exit: Exit::Trouble, ..Self::refused(message) }
    }

    /// Adds a line that says what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Puts words before the message.
    pub(crate) fn within(mut self, words: impl fmt::Display) -> Self {
        self.message = format!("{words}: {}", self.message);
        self
    }

    /// Returns how the command ends.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Returns what goes to stderr: nothing when the reader of stdout has gone away, which is a success.
    pub(crate) fn report(&self, secrets: &Secrets) -> String {
        if self.exit == Exit::Done {
            return String::new();
        }
        let mut report = format!("Error: {}\n", lines(&self.message));
        for hint in &self.hints {
            report.push_str(&format!("Hint: {}\n", lines(hint)));
        }
        secrets.hide(&report)
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error.kind() {
            ErrorKind::QueueNotFound => Self::refused(message).hint("see them all: pm queue ls"),
            ErrorKind::QueueExists | ErrorKind::JobNotFound | ErrorKind::LeaseLost | ErrorKind::KeyConflict => {
                Self::refused(message)
            }
            ErrorKind::Payload | ErrorKind::Invalid => Self::usage(message),
            ErrorKind::Schema => schema(&message),
            _ => Self::trouble(message),
        }
    }
}

impl From<pm_core::Error> for CommandError {
    fn from(error: pm_core::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<pm_sandbox::Error> for CommandError {
    fn from(error: pm_sandbox::Error) -> Self {
        Self::trouble(error.to_string())
    }
}

/// An error of writing results; one of reading is told with more words where it happens.
impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => CommandError { exit: Exit::Done, ..Self::refused("") },
            _ => Self::trouble(format!("cannot write the results: {error}")),
        }
    }
}

/// Makes a hint of the façade's advice to migrate; a newer schema comes without.
fn schema(message: &str) -> CommandError {
    match message.split_once(MIGRATE) {
        Some((before, after)) => {
            let message = format!("{}{after}", before.trim_end().trim_end_matches([';', ',']));
            CommandError::trouble(message).hint(MIGRATE)
        }
        None => CommandError::trouble(message),
    }
}

/// Returns the text with its lines kept and everything else that could move a terminal's cursor escaped.
fn lines(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().split('\n').map(printable).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(error: &CommandError) -> String {
        error.report(&Secrets::default())
    }

    #[test]
    fn advice_to_migrate_becomes_the_hint() {
        let error = schema("the database has no schema \"pm\" of pm; run: pm db migrate");
        assert_eq!(report(&error), "Error: the database has no schema \"pm\" of pm\nHint: run: pm db migrate\n");
        let error = schema("tables are missing; run: pm db migrate (undefined table)");
        assert_eq!(report(&error), "Error: tables are missing (undefined table)\nHint: run: pm db migrate\n");
    }

    #[test]
    fn a_newer_schema_comes_without_advice_to_migrate() {
        let error = schema("version 99 is newer than 1: upgrade the program");
        assert!(!report(&error).contains("Hint"));
        assert_eq!(error.exit(), Exit::Trouble);
    }

    #[test]
    fn a_closed_pipe_is_a_success_without_words() {
        let error = CommandError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((error.exit(), report(&error)), (Exit::Done, String::new()));
        let error = CommandError::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(error.exit(), Exit::Trouble);
    }

    #[test]
    fn messages_keep_lines_and_lose_control_characters() {
        let error = CommandError::usage("a\u{1b}[31m\nb");
        assert_eq!(report(&error), "Error: a\\u{1b}[31m\nb\n");
    }
}
