//! Running the command for one job.

use crate::error::CommandError;
use pm_driver_tokio_postgres::Uuid;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};

/// So many bytes of the end of stderr are kept as the reason.
const KEPT: usize = 2_000;
/// How long stderr may stay open after the command has ended: a grandchild may hold it.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(200);

/// The command to run for each job.
pub(super) struct Program {
    name: OsString,
    arguments: Vec<OsString>,
    queue: String,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// The exit code, if it was no signal that ended it.
    pub(super) code: Option<i32>,
    /// What ended it, and its last words.
    pub(super) reason: String,
}

impl Program {
    /// Returns the command in `words`, which clap sees to hold at least one.
    pub(super) fn new(words: &[OsString], queue: &str) -> Self {
        let (name, arguments) =
            words.split_first().map_or((OsString::new(), &[][..]), |(name, rest)| (name.clone(), rest));
        Program { name, arguments: arguments.to_vec(), queue: queue.to_owned() }
    }

    /// Runs it for one job. Dropping the future kills it, with all that it started and kept in its process group.
    ///
    /// # Errors
    ///
    /// Exit code 2 when it cannot be started at all.
    pub(super) async fn run(&self, id: Uuid, attempt: u32, payload: impl AsRef<[u8]>) -> Result<Ended, CommandError> {
        let mut command = Command::new(&self.name);
        command.args(&self.arguments).env("PM_JOB_ID", id.to_string()).env("PM_ATTEMPT", attempt.to_string());
        command.env("PM_QUEUE", &self.queue).stdin(Stdio::piped()).stderr(Stdio::piped());
        // In a group of its own, so that Ctrl-C on a terminal is ours to hear.
        command.process_group(0).kill_on_drop(true);
        let failed = |error: io::Error| {
            CommandError::usage(format!("cannot run {}: {error}", self.name.display())).hint("the job was given back")
        };
        let mut group = Group::of(command.spawn().map_err(failed)?);
        let (stdin, stderr) = (group.child.stdin.take(), group.child.stderr.take());
        let mut last_words = Vec::new();
        let status = {
            let talk = async { tokio::join!(feed(stdin, payload.as_ref()), listen(stderr, &mut last_words)) };
            let mut talk = std::pin::pin!(talk);
            tokio::select! {
                status = group.child.wait() => {
                    drop(tokio::time::timeout(LAST_WORDS, talk).await);
                    status
                }
                _ = &mut talk => group.child.wait().await,
            }
        };
        group.is_over = true;
        let status = status.map_err(failed)?;
        Ok(Ended { code: status.code(), reason: reason(status, &last_words) })
    }
}

/// A process and those it started. Unless it ended by itself, all are killed when this is dropped.
struct Group {
    child: Child,
    is_over: bool,
}

impl Group {
    fn of(child: Child) -> Self {
        Group { child, is_over: false }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        if let (false, Some(id)) = (self.is_over, id) {
            // It may just have ended.
            rustix::process::kill_process_group(id, rustix::process::Signal::KILL).ok();
        }
    }
}

/// Writes the payload. The command need not read it.
async fn feed(stdin: Option<ChildStdin>, payload: &[u8]) {
    if let Some(mut stdin) = stdin {
        stdin.write_all(payload).await.ok();
    }
}

/// Passes stderr on, and keeps the end of it.
async fn listen(stderr: Option<ChildStderr>, last_words: &mut Vec<u8>) {
    let Some(mut stderr) = stderr else { return };
    let mut piece = [0; 4_096];
    while let Ok(length @ 1..) = stderr.read(&mut piece).await {
        // Nobody else writes to stderr but this thread; when it is gone there is nobody to tell.
        drop(io::Write::write_all(&mut io::stderr().lock(), &piece[..length]));
        last_words.extend(&piece[..length]);
        last_words.drain(..last_words.len().saturating_sub(KEPT));
    }
}

fn reason(status: ExitStatus, last_words: &[u8]) -> String {
    let ended = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    };
    let words = String::from_utf8_lossy(last_words);
    let words = words.trim();
    if words.is_empty() { ended } else { format!("{ended}: {words}") }
}
