//! Running the command for one job.

use super::guard::Guard;
use super::tree::Tree;
use crate::error::CommandError;
use futures_util::FutureExt;
use pm_driver_tokio_postgres::Uuid;
use rustix::process::{Pid, Signal};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};

/// How many bytes of the end of stderr are kept as the reason.
const MAX_REASON: usize = 2_000;
/// How long to read stderr after the command has exited: a grandchild may keep it open.
const STDERR_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(200);
/// The time between SIGTERM and SIGKILL.
pub(super) const TERMINATION_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// The command to run for each job.
pub(super) struct Program {
    name: OsString,
    arguments: Vec<OsString>,
    queue: String,
    guard: Guard,
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// The exit code, unless a signal ended it.
    pub(super) code: Option<i32>,
    /// The exit code or signal, and the end of stderr.
    pub(super) reason: String,
}

impl Program {
    /// Returns the program and its arguments. clap ensures that `command` is not empty.
    pub(super) fn new(command: &[OsString], queue: &str, guard: Guard) -> Self {
        let (name, arguments) =
            command.split_first().map_or((OsString::new(), &[][..]), |(name, rest)| (name.clone(), rest));
        Program { name, arguments: arguments.to_vec(), queue: queue.to_owned(), guard }
    }

    /// Runs the command for one job. Dropping the future kills the command and its descendants; the guard does so when
    /// this process dies. When `terminate` resolves, the command gets SIGTERM, and SIGKILL 2 s later; the result is
    /// [`None`] then. Errors: exit code 2 when the command cannot be started.
    pub(super) async fn run(
        &self,
        id: Uuid,
        attempt: u32,
        payload: impl AsRef<[u8]>,
        terminate: impl Future<Output = ()>,
    ) -> Result<Option<Ended>, CommandError> {
        let mut command = Command::new(&self.name);
        command.args(&self.arguments).env("PM_QUEUE", &self.queue).stdin(Stdio::piped()).stderr(Stdio::piped());
        // In a separate process group, so that only this process receives Ctrl-C from a terminal.
        command.process_group(0).kill_on_drop(true);
        let failed = |error: io::Error| {
            CommandError::usage(format!("cannot run {}: {error}", self.name.display())).hint("the job was released")
        };
        let environment = [("PM_JOB_ID", id.to_string()), ("PM_ATTEMPT", attempt.to_string())];
        let mut group = Group::of(self.guard.start_command(&mut command, &environment).map_err(failed)?, &self.guard);
        let (stdin, stderr) = (group.child.stdin.take(), group.child.stderr.take());
        let mut stderr_tail = Vec::new();
        let status = {
            let pipes =
                async { tokio::join!(write_payload(stdin, payload.as_ref()), read_stderr(stderr, &mut stderr_tail)) };
            let mut pipes = std::pin::pin!(pipes.fuse());
            let mut terminate = std::pin::pin!(terminate.fuse());
            loop {
                tokio::select! {
                    status = group.child.wait() => {
                        drop(tokio::time::timeout(STDERR_TIMEOUT, pipes).await);
                        break status;
                    }
                    _ = &mut pipes => {}
                    () = &mut terminate => {
                        group.signal(Signal::TERM);
                        drop(tokio::time::timeout(TERMINATION_TIMEOUT, group.child.wait()).await);
                        return Ok(None);
                    }
                }
            }
        };
        group.has_exited = true;
        let status = status.map_err(failed)?;
        Ok(Some(Ended { code: status.code(), reason: reason(status, &stderr_tail) }))
    }
}

/// A command and its descendants. Unless the command has exited, dropping this kills them all.
struct Group<'a> {
    child: Child,
    tree: Option<Tree>,
    has_exited: bool,
    guard: &'a Guard,
}

impl<'a> Group<'a> {
    fn of(child: Child, guard: &'a Guard) -> Self {
        let tree = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).map(Tree::of);
        Group { child, tree, has_exited: false, guard }
    }

    fn signal(&mut self, signal: Signal) {
        self.tree.iter_mut().for_each(|tree| tree.signal(signal));
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        if !self.has_exited {
            self.signal(Signal::KILL);
        }
        self.tree.iter().for_each(|tree| self.guard.remove(tree.leader));
    }
}

/// Writes the payload to stdin. Errors are ignored: the command need not read it.
async fn write_payload(stdin: Option<ChildStdin>, payload: &[u8]) {
    if let Some(mut stdin) = stdin {
        stdin.write_all(payload).await.ok();
    }
}

/// Forwards stderr, and keeps the end of it.
async fn read_stderr(stderr: Option<ChildStderr>, tail: &mut Vec<u8>) {
    let Some(mut stderr) = stderr else { return };
    let mut chunk = [0; 4_096];
    while let Ok(length @ 1..) = stderr.read(&mut chunk).await {
        // Only this thread writes to stderr. Errors are ignored: they cannot be reported.
        drop(io::Write::write_all(&mut io::stderr().lock(), &chunk[..length]));
        tail.extend(&chunk[..length]);
        tail.drain(..tail.len().saturating_sub(MAX_REASON));
    }
}

fn reason(status: ExitStatus, stderr_tail: &[u8]) -> String {
    let ended = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    };
    let stderr = String::from_utf8_lossy(stderr_tail);
    let stderr = stderr.trim();
    if stderr.is_empty() { ended } else { format!("{ended}: {stderr}") }
}
