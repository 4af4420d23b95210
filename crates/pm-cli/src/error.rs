//! Errors of commands, with hints and exit codes.

use crate::redact::Secrets;
use crate::text::printable;
use pm_driver_tokio_postgres::{Error, ErrorKind};
use std::fmt;
use std::io;

/// The hint for a database without pm's tables, or with old ones.
const MIGRATE: &str = "run: pm db migrate";

/// The exit codes. The numbers are documented: do not change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Success.
    Done = 0,
    /// Nothing matched, or something was refused.
    Refused = 1,
    /// The arguments, the configuration or the input are invalid.
    Usage = 2,
    /// The database or the system failed.
    Trouble = 3,
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct CommandError {
    exit: Exit,
    message: String,
    hints: Vec<String>,
}

impl CommandError {
    /// Returns the error of a command that matched nothing or was refused.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        CommandError { exit: Exit::Refused, message: message.into(), hints: Vec::new() }
    }

    /// Returns the error for invalid arguments, configuration or input.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        CommandError { exit: Exit::Usage, ..Self::refused(message) }
    }

    /// Returns the error for a failure of the database or the system.
    pub(crate) fn trouble(message: impl Into<String>) -> Self {
        CommandError { exit: Exit::Trouble, ..Self::refused(message) }
    }

    /// Adds a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Prefixes the message.
    pub(crate) fn within(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// Returns the exit code.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Returns the text for stderr; empty for a closed stdout pipe, which counts as success.
    pub(crate) fn report(&self, secrets: &Secrets) -> String {
        if self.exit == Exit::Done {
            return String::new();
        }
        let mut report = format!("Error: {}\n", printable_lines(&self.message));
        for hint in &self.hints {
            report.push_str(&format!("Hint: {}\n", printable_lines(hint)));
        }
        secrets.hide(&report)
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error.kind() {
            ErrorKind::QueueNotFound => Self::refused(message).hint("list queues: pm queue ls"),
            ErrorKind::QueueExists | ErrorKind::JobNotFound | ErrorKind::LeaseLost | ErrorKind::KeyConflict => {
                Self::refused(message)
            }
            ErrorKind::Payload | ErrorKind::Invalid => Self::usage(message),
            ErrorKind::Schema => schema_error(&message),
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

/// An error of writing results. Errors of reading are converted where they happen, with more context.
impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => CommandError { exit: Exit::Done, ..Self::refused("") },
            _ => Self::trouble(format!("cannot write the results: {error}")),
        }
    }
}

/// Turns the advice to migrate into a hint; the error for a newer schema has none.
fn schema_error(message: &str) -> CommandError {
    match message.split_once(MIGRATE) {
        Some((before, after)) => {
            let message = format!("{}{after}", before.trim_end().trim_end_matches([';', ',']));
            CommandError::trouble(message).hint(MIGRATE)
        }
        None => CommandError::trouble(message),
    }
}

/// Returns the text with its line breaks, and all other control characters escaped.
fn printable_lines(text: &str) -> String {
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
        let error = schema_error("pm is not installed in schema \"pm\"; run: pm db migrate");
        assert_eq!(report(&error), "Error: pm is not installed in schema \"pm\"\nHint: run: pm db migrate\n");
        let error = schema_error("tables are missing; run: pm db migrate (undefined table)");
        assert_eq!(report(&error), "Error: tables are missing (undefined table)\nHint: run: pm db migrate\n");
    }

    #[test]
    fn a_newer_schema_has_no_advice_to_migrate() {
        let error = schema_error("version 99 is newer than 1: upgrade the program");
        assert!(!report(&error).contains("Hint"));
        assert_eq!(error.exit(), Exit::Trouble);
    }

    #[test]
    fn a_closed_pipe_is_a_silent_success() {
        let error = CommandError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((error.exit(), report(&error)), (Exit::Done, String::new()));
        let error = CommandError::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(error.exit(), Exit::Trouble);
    }

    #[test]
    fn messages_keep_line_breaks_and_escape_control_characters() {
        let error = CommandError::usage("a\u{1b}[31m\nb");
        assert_eq!(report(&error), "Error: a\\u{1b}[31m\nb\n");
    }
}
