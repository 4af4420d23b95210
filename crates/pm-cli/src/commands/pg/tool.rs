//! Running a program of Postgres's.

use crate::config::Settings;
use crate::context::Context;
use crate::error::CommandError;
use crate::render::Progress;
use crate::stop::Stop;
use pm_driver_tokio_postgres::connecting::Libpq;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;

/// Names the directory of Postgres's programs.
const BIN_DIR_VARIABLE: &str = "PM_PG_BINDIR";
/// So many bytes of the end of what it says are passed on.
const KEPT: usize = 8_000;

/// A program to run.
pub(super) struct Tool {
    name: &'static str,
    pub(super) command: Command,
}

/// A program that runs. It is ended when this is dropped.
pub(super) struct Running {
    name: &'static str,
    pub(super) child: Child,
    words: JoinHandle<Vec<u8>>,
}

impl Tool {
    /// Returns the program, which is to use no database.
    pub(super) fn new(name: &'static str) -> Self {
        let directory = std::env::var_os(BIN_DIR_VARIABLE).filter(|directory| !directory.is_empty());
        let program = directory.map_or_else(|| PathBuf::from(name), |directory| PathBuf::from(directory).join(name));
        let mut command = Command::new(program);
        command.stderr(Stdio::piped()).kill_on_drop(true);
        Tool { name, command }
    }

    /// Returns the program, which knows where the database is. A password is in its environment, never among its
    /// arguments.
    ///
    /// # Errors
    ///
    /// Exit code 2 when no database is named, or when the connection string is none.
    pub(super) fn connected(name: &'static str, settings: &Settings) -> Result<Self, CommandError> {
        let Tool { name, mut command } = Tool::new(name);
        let connection = Libpq::read(settings.url()?)?;
        command.arg("--no-password").arg(format!("--dbname={}", connection.pairs));
        let timeout = settings.connect_timeout.as_secs().max(1).to_string();
        let defaults = [("PGAPPNAME", "pm"), ("PGCONNECT_TIMEOUT", timeout.as_str())];
        command.envs(defaults.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()));
        command.envs(connection.variables);
        Ok(Tool { name, command })
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// Exit code 3 when it cannot be run.
    pub(super) fn start(mut self) -> Result<Running, CommandError> {
        let mut child = self.command.spawn().map_err(|error| cannot_run(self.name, &error))?;
        let words = tokio::spawn(last_words(child.stderr.take()));
        Ok(Running { name: self.name, child, words })
    }

    /// Runs it and passes on what it says.
    ///
    /// # Errors
    ///
    /// Exit code 3 with its own words; 1 when the process was asked to stop, and what that means.
    pub(super) async fn run(self, context: &mut Context, doing: &str, stopped: &str) -> Result<(), CommandError> {
        let mut stop = Stop::listen()?;
        let work = self.start()?.end(stopped);
        let words = tokio::select! {
            words = Progress::new(doing, None).during(work) => words?,
            () = stop.asked() => return Err(CommandError::refused(format!("stopped; {stopped}"))),
        };
        words.lines().for_each(|line| context.output.say(line));
        Ok(())
    }
}

impl Running {
    /// Awaits its end and returns what it said.
    ///
    /// # Errors
    ///
    /// Exit code 3 with its own words, and what its failure means.
    pub(super) async fn end(mut self, failed: &str) -> Result<String, CommandError> {
        let words = self.words.await.unwrap_or_default();
        let status = self.child.wait().await.map_err(|error| cannot_run(self.name, &error))?;
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        if status.success() {
            return Ok(words);
        }
        let message = if words.is_empty() { format!("{} failed with {status}", self.name) } else { words.clone() };
        let error = CommandError::trouble(format!("{message}\n{failed}"));
        Err(hint(&words).into_iter().fold(error, CommandError::hint))
    }
}

fn cannot_run(name: &str, error: &io::Error) -> CommandError {
    let hint = format!("install Postgres's client programs, or name their directory in {BIN_DIR_VARIABLE}");
    CommandError::trouble(format!("cannot run {name}: {error}")).hint(hint)
}

/// Reads all that a program says, and keeps the end of it.
async fn last_words(mut stderr: Option<ChildStderr>) -> Vec<u8> {
    let (mut words, mut piece) = (Vec::new(), [0; 1_024]);
    while let Some(stderr) = &mut stderr
        && let Ok(length @ 1..) = stderr.read(&mut piece).await
    {
        words.extend(&piece[..length]);
        words.drain(..words.len().saturating_sub(KEPT));
    }
    words
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
    if words.contains("must be owner of schema") {
        return Some(
            "--into renames a schema of the backup's name until the commit: restore as its owner, or elsewhere".into(),
        );
    }
    if words.contains("already exists") {
        return Some(
            "the backup holds tables that are not pm's, which a restore does not replace: drop or rename them".into(),
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
            ("ERROR:  must be owner of schema pm", "restore as its owner"),
            ("pg_restore: error: input file does not appear to be a valid archive", "pm pg backup"),
        ] {
            assert!(hint(words).is_some_and(|hint| hint.contains(advice)), "{words}");
        }
        assert_eq!(hint("pg_dump: error: out of memory"), None);
    }
}
