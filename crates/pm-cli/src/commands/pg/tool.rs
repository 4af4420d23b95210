//! Running Postgres's client programs.

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

/// The variable for the directory of Postgres's client programs.
const BIN_DIR_VARIABLE: &str = "PM_PG_BINDIR";
/// How many bytes of the end of stderr are kept.
const MAX_STDERR: usize = 8_000;

/// A program to run.
pub(super) struct Tool {
    name: &'static str,
    pub(super) command: Command,
}

/// A running program. Dropping this kills it.
pub(super) struct Running {
    name: &'static str,
    pub(super) child: Child,
    stderr: JoinHandle<Vec<u8>>,
}

impl Tool {
    /// Returns a program that connects to no database.
    pub(super) fn new(name: &'static str) -> Self {
        let directory = std::env::var_os(BIN_DIR_VARIABLE).filter(|directory| !directory.is_empty());
        let program = directory.map_or_else(|| PathBuf::from(name), |directory| PathBuf::from(directory).join(name));
        let mut command = Command::new(program);
        command.stderr(Stdio::piped()).kill_on_drop(true);
        Tool { name, command }
    }

    /// Returns a program that connects to the database. A password is passed in the environment, never as an argument.
    /// Errors: exit code 2 when no database is set, or when the connection string is invalid.
    pub(super) fn connected(name: &'static str, settings: &Settings) -> Result<Self, CommandError> {
        let Tool { name, mut command } = Tool::new(name);
        let connection = Libpq::read(settings.url()?)?;
        command.arg("--no-password").arg(format!("--dbname={}", connection.pairs));
        let timeout = settings.connect_timeout.as_secs().max(1).to_string();
        let defaults = [("PGAPPNAME", "pm"), ("PGCONNECT_TIMEOUT", timeout.as_str())];
        let defaults = defaults.into_iter().chain(connection.defaults);
        command.envs(defaults.filter(|(name, _)| std::env::var_os(name).is_none()));
        command.envs(connection.variables);
        Ok(Tool { name, command })
    }

    /// Starts the program. Errors: exit code 3 when it cannot be run.
    pub(super) fn start(mut self) -> Result<Running, CommandError> {
        let mut child = self.command.spawn().map_err(|error| cannot_run(self.name, &error))?;
        let stderr = tokio::spawn(read_tail(child.stderr.take()));
        Ok(Running { name: self.name, child, stderr })
    }

    /// Runs the program and prints its stderr. Errors: exit code 3 with its stderr; 1 when the process was asked to
    /// stop. `consequence` ends both messages.
    pub(super) async fn run(self, context: &mut Context, doing: &str, consequence: &str) -> Result<(), CommandError> {
        let mut stop = Stop::listen()?;
        let work = self.start()?.end(consequence);
        let stderr = tokio::select! {
            stderr = Progress::new(doing, None).during(work) => stderr?,
            () = stop.requested() => return Err(CommandError::refused(format!("interrupted; {consequence}"))),
        };
        stderr.lines().for_each(|line| context.output.message(line));
        Ok(())
    }
}

impl Running {
    /// Waits for the program to exit and returns its stderr. Errors: exit code 3 with its stderr, followed by
    /// `consequence`.
    pub(super) async fn end(mut self, consequence: &str) -> Result<String, CommandError> {
        let stderr = self.stderr.await.unwrap_or_default();
        let status = self.child.wait().await.map_err(|error| cannot_run(self.name, &error))?;
        let stderr = String::from_utf8_lossy(&stderr).trim().to_owned();
        if status.success() {
            return Ok(stderr);
        }
        let message = if stderr.is_empty() { format!("{} failed with {status}", self.name) } else { stderr.clone() };
        let error = CommandError::trouble(format!("{message}\n{consequence}"));
        Err(hint(&stderr).into_iter().fold(error, CommandError::hint))
    }
}

fn cannot_run(name: &str, error: &io::Error) -> CommandError {
    let hint = format!("install Postgres's client programs, or set {BIN_DIR_VARIABLE} to their directory");
    CommandError::trouble(format!("cannot run {name}: {error}")).hint(hint)
}

/// Reads stderr to the end, and returns its last bytes.
async fn read_tail(mut stderr: Option<ChildStderr>) -> Vec<u8> {
    let (mut tail, mut chunk) = (Vec::new(), [0; 1_024]);
    while let Some(stderr) = &mut stderr
        && let Ok(length @ 1..) = stderr.read(&mut chunk).await
    {
        tail.extend(&chunk[..length]);
        tail.drain(..tail.len().saturating_sub(MAX_STDERR));
    }
    tail
}

/// Returns a hint about known errors of the programs.
fn hint(stderr: &str) -> Option<String> {
    let newer = |why: &str, program: &str| {
        format!("{why}: install it, or set {BIN_DIR_VARIABLE} to the directory of a newer {program}")
    };
    // The hint, and the texts that all must occur.
    let hints = [
        (newer("pg_dump must be of the server's version or newer", "pg_dump"), &["server version mismatch"][..]),
        (
            newer("the backup was written by a newer pg_dump than this pg_restore can read", "pg_restore"),
            &["unsupported version", "file header"],
        ),
        (
            "the server is older than the pg_dump that wrote the backup: use a pg_dump of the server's version".into(),
            &["unrecognized configuration parameter"],
        ),
        (
            "--into renames an existing schema of the backup's name: restore as its owner, or into another database"
                .into(),
            &["must be owner of schema"],
        ),
        (
            "the backup contains tables that are not pm's, which a restore does not replace: drop or rename them"
                .into(),
            &["already exists"],
        ),
        ("create a backup with: pm pg backup".into(), &["does not appear to be a valid archive"]),
    ];
    hints.into_iter().find(|(_, texts)| texts.iter().all(|text| stderr.contains(text))).map(|(hint, _)| hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_mismatches_are_explained() {
        for (stderr, advice) in [
            ("pg_dump: error: aborting because of server version mismatch", "the server's version or newer"),
            ("pg_restore: error: unsupported version (1.16) in file header", "a newer pg_dump"),
            ("ERROR:  unrecognized configuration parameter \"transaction_timeout\"", "the server is older"),
            ("ERROR:  must be owner of schema pm", "restore as its owner"),
            ("pg_restore: error: input file does not appear to be a valid archive", "pm pg backup"),
        ] {
            assert!(hint(stderr).is_some_and(|hint| hint.contains(advice)), "{stderr}");
        }
        assert_eq!(hint("pg_dump: error: out of memory"), None);
    }
}
