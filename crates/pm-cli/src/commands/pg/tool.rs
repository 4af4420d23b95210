//! Running a program of Postgres's.

use super::connection::Connection;
use crate::config::Settings;
use crate::context::Context;
use crate::error::CommandError;
use crate::render::Progress;
use crate::stop::Stop;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

/// Names the directory of Postgres's programs.
const BIN_DIR_VARIABLE: &str = "PM_PG_BINDIR";
/// So many bytes of the end of what it says are passed on.
const KEPT: usize = 8_000;

/// A program that knows where the database is.
pub(super) struct Tool {
    name: &'static str,
    pub(super) command: Command,
}

impl Tool {
    /// Returns the program. A password is in its environment, never among its arguments.
    ///
    /// # Errors
    ///
    /// Exit code 2 when no database is named.
    pub(super) fn new(name: &'static str, settings: &Settings) -> Result<Self, CommandError> {
        let directory = std::env::var_os(BIN_DIR_VARIABLE).filter(|directory| !directory.is_empty());
        let program = directory.map_or_else(|| PathBuf::from(name), |directory| PathBuf::from(directory).join(name));
        let connection = Connection::new(settings.url()?);
        let mut command = Command::new(program);
        command.arg("--no-password").arg(format!("--dbname={}", connection.without_password));
        let timeout = settings.connect_timeout.as_secs().max(1).to_string();
        let defaults = [("PGAPPNAME", "pm"), ("PGCONNECT_TIMEOUT", timeout.as_str())];
        command.envs(defaults.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()));
        command.envs(connection.password.map(|password| ("PGPASSWORD", password)));
        command.stderr(Stdio::piped()).kill_on_drop(true);
        Ok(Tool { name, command })
    }

    /// Runs it and passes on what it says.
    ///
    /// # Errors
    ///
    /// Exit code 3 with its own words; 1 when the process was asked to stop, and what that means.
    pub(super) async fn run(mut self, context: &mut Context, doing: &str, stopped: &str) -> Result<(), CommandError> {
        let mut stop = Stop::listen()?;
        let cannot_run = |error: io::Error| {
            let message = format!("cannot run {}: {error}", self.name);
            let hint = format!("install Postgres's client programs, or name their directory in {BIN_DIR_VARIABLE}");
            CommandError::trouble(message).hint(hint)
        };
        let mut child = self.command.spawn().map_err(cannot_run)?;
        let mut stderr = child.stderr.take();
        let mut words = Vec::new();
        let work = async {
            let mut piece = [0; 1_024];
            while let Some(stderr) = &mut stderr
                && let Ok(length @ 1..) = stderr.read(&mut piece).await
            {
                words.extend(&piece[..length]);
                words.drain(..words.len().saturating_sub(KEPT));
            }
            child.wait().await
        };
        let status = tokio::select! {
            status = Progress::new(doing, None).during(work) => status.map_err(cannot_run)?,
            () = stop.asked() => return Err(CommandError::refused(format!("stopped; {stopped}"))),
        };
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        if status.success() {
            words.lines().for_each(|line| context.output.say(line));
            return Ok(());
        }
        let message = if words.is_empty() { format!("{} failed with {status}", self.name) } else { words.clone() };
        let error = CommandError::trouble(format!("{message}\n{stopped}"));
        Err(hint(&words).into_iter().fold(error, CommandError::hint))
    }
}

/// Returns what to do about what the program said.
fn hint(words: &str) -> Option<String> {
    let newer = |program: &str| format!("install it, or name the directory of a newer {program} in {BIN_DIR_VARIABLE}");
    if words.contains("server version mismatch") {
        return Some(format!("pg_dump must be of the server's version or newer: {}", newer("pg_dump")));
    }
    if words.contains("unsupported version") && words.contains("file header") {
        return Some(format!(
            "the backup was written by a newer pg_dump than this pg_restore can read: {}",
            newer("pg_restore")
        ));
    }
    if words.contains("unrecognized configuration parameter") {
        return Some(
            "the server is older than the pg_dump that wrote the backup: use one of the server's version".into(),
        );
    }
    words.contains("does not appear to be a valid archive").then(|| "a backup is made by: pm pg backup".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_do_not_fit_are_explained() {
        for (words, advice) in [
            ("pg_dump: error: aborting because of server version mismatch", "the server's version or newer"),
            ("pg_restore: error: unsupported version (1.16) in file header", "a newer pg_dump"),
            ("ERROR:  unrecognized configuration parameter \"transaction_timeout\"", "the server is older"),
            ("pg_restore: error: input file does not appear to be a valid archive", "pm pg backup"),
        ] {
            assert!(hint(words).is_some_and(|hint| hint.contains(advice)), "{words}");
        }
        assert_eq!(hint("pg_dump: error: out of memory"), None);
    }
}
