//! A process that kills the commands of `pm work` when `pm work` dies.
//!
//! Signals and panics are handled in `pm work` itself; SIGKILL and the kernel's out-of-memory killer leave it no time.
//! The guard, in a separate process group, receives each command's group on its stdin. When stdin is closed, `pm work`
//! has died, and the guard kills the remaining groups, with the descendants that have moved to other groups.

use super::tree::Tree;
use crate::error::CommandError;
use rustix::process::{Pid, Signal};
use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};

/// The argument that runs this program as the guard; for internal use.
pub(crate) const ARGUMENT: &str = "guard-commands";

/// A handle to the guard process.
pub(super) struct Guard(Mutex<GuardProcess>);

struct GuardProcess {
    process: Child,
    /// The groups to kill.
    groups: BTreeSet<i32>,
}

impl Guard {
    /// Starts the process. Errors: exit code 3 when the system refuses.
    pub(super) fn start() -> Result<Self, CommandError> {
        let failed = |error| CommandError::trouble(format!("cannot start the guard process: {error}"));
        let process = spawn().map_err(failed)?;
        Ok(Guard(Mutex::new(GuardProcess { process, groups: BTreeSet::new() })))
    }

    /// Has the group killed when this process dies.
    pub(super) fn add(&self, group: Pid) {
        let group = group.as_raw_nonzero().get();
        self.change(&format!("+{group}\n"), |groups| groups.insert(group));
    }

    /// Removes a group whose command has ended.
    pub(super) fn remove(&self, group: Pid) {
        let group = group.as_raw_nonzero().get();
        self.change(&format!("-{group}\n"), |groups| groups.remove(&group));
    }

    fn change(&self, line: &str, change: impl FnOnce(&mut BTreeSet<i32>) -> bool) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _has_changed = change(&mut guard.groups);
        if !send(&mut guard.process, line) {
            guard.restart();
        }
    }
}

impl GuardProcess {
    /// Replaces a guard that has died. If that fails, `pm work` itself still ends its commands, and the next change
    /// retries.
    fn restart(&mut self) {
        drop(self.process.wait());
        let Ok(mut process) = spawn() else { return };
        let all: String = self.groups.iter().map(|group| format!("+{group}\n")).collect();
        send(&mut process, &all);
        self.process = process;
    }
}

/// Returns this program, also when its file has been replaced since it started.
fn program() -> io::Result<PathBuf> {
    let own = Path::new("/proc/self/exe");
    if own.exists() { Ok(own.to_owned()) } else { std::env::current_exe() }
}

fn spawn() -> io::Result<Child> {
    let mut command = Command::new(program()?);
    command.arg(ARGUMENT).process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn()
}

/// Writes lines to the process; returns whether that succeeded.
fn send(process: &mut Child, lines: &str) -> bool {
    process.stdin.as_mut().is_some_and(|stdin| stdin.write_all(lines.as_bytes()).is_ok())
}

impl Drop for Guard {
    fn drop(&mut self) {
        let guard = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        // The guard exits when its stdin is closed.
        drop(guard.process.stdin.take());
        drop(guard.process.wait());
    }
}

/// Runs the guard: waits until stdin is closed, and kills the remaining groups.
pub(crate) fn run() -> ExitCode {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    // A service manager also signals the guard, but `pm work` still needs it: the handlers keep it alive.
    let _signals = runtime.block_on(async { crate::stop::Stop::listen() });
    let mut groups = BTreeSet::new();
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let (sign, group) = line.split_at_checked(1).unwrap_or_default();
        let Ok(group) = group.parse::<i32>() else { continue };
        if sign == "+" {
            groups.insert(group)
        } else {
            groups.remove(&group)
        };
    }
    for group in groups.into_iter().filter_map(Pid::from_raw) {
        Tree::of(group).signal(Signal::KILL);
    }
    ExitCode::SUCCESS
}
