//! Errors of commands, with hints and exit codes.

use crate::redact::Secrets;
use crate::text::{printable, shell_option};
use pm_driver_tokio_postgres::{Advice, Error, ErrorKind, RoleKind};
use std::fmt;
use std::io;

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
    hints: Vec<Hint>,
    /// How to run pm on the same schema.
    pm: String,
}

#[derive(Debug)]
enum Hint {
    Text(String),
    /// A command: its purpose, and the arguments of pm.
    Command(&'static str, String),
}

impl CommandError {
    /// Returns the error of a command that matched nothing or was refused.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        CommandError { exit: Exit::Refused, message: message.into(), hints: Vec::new(), pm: "pm".to_owned() }
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
        self.hints.push(Hint::Text(hint.into()));
        self
    }

    /// Adds a command as a hint: its purpose, and the arguments of pm.
    pub(crate) fn hint_command(mut self, purpose: &'static str, arguments: impl Into<String>) -> Self {
        self.hints.push(Hint::Command(purpose, arguments.into()));
        self
    }

    /// Adds the hint for a database without pm's tables, or with old ones.
    pub(crate) fn hint_migrate(self) -> Self {
        self.hint_command("run", "db migrate")
    }

    /// Sets how the commands of hints run pm: on the schema of the command that failed.
    pub(crate) fn with_pm(mut self, pm: String) -> Self {
        self.pm = pm;
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
            let hint = match hint {
                Hint::Text(text) => text.clone(),
                Hint::Command(purpose, arguments) => format!("{purpose}: {} {arguments}", self.pm),
            };
            report.push_str(&format!("Hint: {}\n", printable_lines(&hint)));
        }
        secrets.hide(&report)
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        let message = error.message();
        let command_error = match error.kind() {
            ErrorKind::QueueNotFound => Self::refused(message).hint_command("list queues", "queue ls"),
            ErrorKind::QueueExists | ErrorKind::JobNotFound | ErrorKind::LeaseLost | ErrorKind::KeyConflict => {
                Self::refused(message)
            }
            ErrorKind::Payload | ErrorKind::Invalid => Self::usage(message),
            _ => Self::trouble(message),
        };
        match error.advice() {
            None => command_error,
            Some(Advice::Migrate) => command_error.hint_migrate(),
            Some(Advice::Pooler) => command_error.hint("connect to the server itself, not through the pooler"),
            Some(Advice::Grant { role, kind }) => {
                let grants = format!("{} | psql \"$PM_DATABASE_URL\"", grants_arguments(role, *kind));
                command_error.hint_command("as the owner of the schema, run", grants)
            }
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

/// Returns the arguments with which pm prints the grants of a role.
pub(crate) fn grants_arguments(role: &str, kind: RoleKind) -> String {
    format!("db grants {} --for {}", shell_option("--role", role), kind.name())
}

/// Returns the text with its line breaks, and all other control characters escaped.
fn printable_lines(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().split('\n').map(printable).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pm_driver_tokio_postgres::Failure;

    fn report(error: &CommandError) -> String {
        error.report(&Secrets::default())
    }

    fn reported(sqlstate: &str) -> CommandError {
        Error::from(Failure::reported(sqlstate, None, "because")).into()
    }

    #[test]
    fn advice_becomes_the_hint() {
        let expected = "Error: pm's tables are missing or have another version (because (SQLSTATE 42P01))\n\
                        Hint: run: pm db migrate\n";
        assert_eq!(report(&reported("42P01")), expected);
        assert!(report(&reported("26000")).ends_with("Hint: connect to the server itself, not through the pooler\n"));
    }

    #[test]
    fn an_error_without_advice_has_no_hint() {
        let error = reported("XX000");
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
