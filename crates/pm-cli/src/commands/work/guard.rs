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
pub(super) struct Guard(Mutex<Child>);

impl Guard {
    /// Starts the process.
    ///
    /// # Errors
    ///
    /// Exit code 3 when the system refuses.
    pub(super) fn start() -> Result<Self, CommandError> {
        let program = std::env::current_exe();
        let failed =
            |error| CommandError::trouble(format!("cannot start the process that guards the commands: {error}"));
        let child = program
            .and_then(|program| {
                let mut command = Command::new(program);
                command.arg(ARGUMENT).process_group(0).stdin(Stdio::piped()).stdout(Stdio::null());
                command.stderr(Stdio::null()).spawn()
            })
            .map_err(failed)?;
        Ok(Guard(Mutex::new(child)))
    }

    /// Has the group killed when this process dies.
    pub(super) fn add(&self, group: Pid) {
        self.say('+', group);
    }

    /// Takes the group back: its command has ended.
    pub(super) fn remove(&self, group: Pid) {
        self.say('-', group);
    }

    fn say(&self, sign: char, group: Pid) {
        let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stdin) = &mut child.stdin {
            // Without a guard commands are still ended by `pm work` itself.
            drop(stdin.write_all(format!("{sign}{}\n", group.as_raw_nonzero()).as_bytes()));
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let child = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(child.stdin.take());
        // It ends at the end of its stdin.
        drop(child.wait());
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
