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

/// So many bytes of the end of stderr are kept as the reason.
const KEPT: usize = 2_000;
/// How long stderr may stay open after the command has ended: a grandchild may hold it.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(200);
/// How long a command that is asked to end has before it is killed.
pub(super) const TO_END: std::time::Duration = std::time::Duration::from_secs(2);

/// The command to run for each job.
pub(super) struct Program {
    name: OsString,
    arguments: Vec<OsString>,
    queue: String,
    guard: Guard,
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
    pub(super) fn new(words: &[OsString], queue: &str, guard: Guard) -> Self {
        let (name, arguments) =
            words.split_first().map_or((OsString::new(), &[][..]), |(name, rest)| (name.clone(), rest));
        Program { name, arguments: arguments.to_vec(), queue: queue.to_owned(), guard }
    }

    /// Runs it for one job. Dropping the future kills it, with all that it started and kept in its process group, and so
    /// does the guard when this process dies. When `asked_to_end` ends it gets SIGTERM, and SIGKILL 2 s later; it has not
    /// ended then ([`None`]).
    ///
    /// # Errors
    ///
    /// Exit code 2 when it cannot be started at all.
    pub(super) async fn run(
        &self,
        id: Uuid,
        attempt: u32,
        payload: impl AsRef<[u8]>,
        asked_to_end: impl Future<Output = ()>,
    ) -> Result<Option<Ended>, CommandError> {
        let mut command = Command::new(&self.name);
        command.args(&self.arguments).env("PM_JOB_ID", id.to_string()).env("PM_ATTEMPT", attempt.to_string());
        command.env("PM_QUEUE", &self.queue).stdin(Stdio::piped()).stderr(Stdio::piped());
        // In a group of its own, so that Ctrl-C on a terminal is ours to hear.
        command.process_group(0).kill_on_drop(true);
        let failed = |error: io::Error| {
            CommandError::usage(format!("cannot run {}: {error}", self.name.display())).hint("the job was given back")
        };
        let mut group = Group::of(command.spawn().map_err(failed)?, &self.guard);
        let (stdin, stderr) = (group.child.stdin.take(), group.child.stderr.take());
        let mut last_words = Vec::new();
        let status = {
            let talk = async { tokio::join!(feed(stdin, payload.as_ref()), listen(stderr, &mut last_words)) };
            let mut talk = std::pin::pin!(talk.fuse());
            let mut asked_to_end = std::pin::pin!(asked_to_end.fuse());
            loop {
                tokio::select! {
                    status = group.child.wait() => {
                        drop(tokio::time::timeout(LAST_WORDS, talk).await);
                        break status;
                    }
                    _ = &mut talk => {}
                    () = &mut asked_to_end => {
                        group.signal(Signal::TERM);
                        drop(tokio::time::timeout(TO_END, group.child.wait()).await);
                        return Ok(None);
                    }
                }
            }
        };
        group.is_over = true;
        let status = status.map_err(failed)?;
        Ok(Some(Ended { code: status.code(), reason: reason(status, &last_words) }))
    }
}

/// A process and those it started. Unless it ended by itself, all are killed when this is dropped.
struct Group<'a> {
    child: Child,
    tree: Option<Tree>,
    is_over: bool,
    guard: &'a Guard,
}

impl<'a> Group<'a> {
    fn of(child: Child, guard: &'a Guard) -> Self {
        let tree = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).map(Tree::of);
        tree.iter().for_each(|tree| guard.add(tree.leader()));
        Group { child, tree, is_over: false, guard }
    }

    fn signal(&mut self, signal: Signal) {
        self.tree.iter_mut().for_each(|tree| tree.signal(signal));
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.signal(Signal::KILL);
        }
        self.tree.iter().for_each(|tree| self.guard.remove(tree.leader()));
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
