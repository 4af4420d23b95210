//! A process that outlives `pm work` and ends its commands, however it died.
//!
//! Signals and panics are handled in `pm work` itself; SIGKILL and the kernel's out-of-memory killer leave it no time.
//! The guard, in a process group of its own, is given each command's group on its stdin. When that ends, `pm work` is
//! gone, and the groups that are left are killed, with the descendants that have moved to other groups.

use super::tree::Tree;
use crate::error::CommandError;
use rustix::process::{Pid, Signal};
use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};

/// The argument that makes this program the guard; not for people.
pub(crate) const ARGUMENT: &str = "guard-commands";

/// The guard, seen from `pm work`.
pub(super) struct Guard(Mutex<Guarding>);

struct Guarding {
    process: Child,
    /// The groups that it is to kill.
    groups: BTreeSet<i32>,
}

impl Guard {
    /// Starts the process.
    ///
    /// # Errors
    ///
    /// Exit code 3 when the system refuses.
    pub(super) fn start() -> Result<Self, CommandError> {
        let failed =
            |error| CommandError::trouble(format!("cannot start the process that guards the commands: {error}"));
        let process = spawned().map_err(failed)?;
        Ok(Guard(Mutex::new(Guarding { process, groups: BTreeSet::new() })))
    }

    /// Has the group killed when this process dies.
    pub(super) fn add(&self, group: Pid) {
        let group = group.as_raw_nonzero().get();
        self.change(&format!("+{group}\n"), |groups| groups.insert(group));
    }

    /// Takes the group back: its command has ended.
    pub(super) fn remove(&self, group: Pid) {
        let group = group.as_raw_nonzero().get();
        self.change(&format!("-{group}\n"), |groups| groups.remove(&group));
    }

    fn change(&self, word: &str, change: impl FnOnce(&mut BTreeSet<i32>) -> bool) {
        let mut guarding = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _was_it_otherwise = change(&mut guarding.groups);
        if !say(&mut guarding.process, word) {
            guarding.start_again();
        }
    }
}

impl Guarding {
    /// Starts another process in the place of one that has died. Without one, commands are still ended by `pm work`
    /// itself, and the next one tries again.
    fn start_again(&mut self) {
        drop(self.process.wait());
        let Ok(mut process) = spawned() else { return };
        let all: String = self.groups.iter().map(|group| format!("+{group}\n")).collect();
        say(&mut process, &all);
        self.process = process;
    }
}

fn spawned() -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ARGUMENT).process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn()
}

/// Returns whether the process took the word.
fn say(process: &mut Child, word: &str) -> bool {
    process.stdin.as_mut().is_some_and(|stdin| stdin.write_all(word.as_bytes()).is_ok())
}

impl Drop for Guard {
    fn drop(&mut self) {
        let guarding = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(guarding.process.stdin.take());
        // It ends at the end of its stdin.
        drop(guarding.process.wait());
    }
}

/// Is the guard: waits for the end of stdin, and kills the groups that are left.
pub(crate) fn run() -> ExitCode {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    // Who stops a whole service signals the guard as well, and `pm work` still needs it.
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
