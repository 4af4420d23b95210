//! A process that kills the commands of `pm work` when `pm work` dies.
//!
//! Signals and panics are handled in `pm work` itself; SIGKILL and the kernel's out-of-memory killer leave it no time.
//! The guard, in a separate process group, receives each command's group on its stdin. When stdin is closed, `pm work`
//! has died, and the guard kills the remaining groups, with the descendants that have moved to other groups. `pm work`
//! may die after it has started a command and before it has sent its group, so it announces each start: the guard then
//! finds the command by the job and attempt in its environment.

use super::tree::{Tree, with_environment};
use crate::error::CommandError;
use rustix::process::{Pid, Signal};
use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The argument that runs this program as the guard; for internal use.
pub(crate) const ARGUMENT: &str = "guard-commands";

/// How long to look for a command that was being started, and how often.
const START_TIMEOUT: Duration = Duration::from_secs(1);
const START_POLL: Duration = Duration::from_millis(10);

/// A handle to the guard process.
pub(super) struct Guard(Mutex<GuardProcess>);

struct GuardProcess {
    process: Child,
    commands: Commands,
}

/// The commands to kill, as lines change them: `?ENVIRONMENT` announces a command with these variables, `!` says that
/// it has not started, `+GROUP` that it has, and `-GROUP` that it has ended.
#[derive(Default)]
struct Commands {
    groups: BTreeSet<i32>,
    /// The variables of the command that is being started, separated by tabs.
    starting: Option<String>,
}

impl Commands {
    fn apply(&mut self, line: &str) {
        let (sign, rest) = line.split_at_checked(1).unwrap_or_default();
        match (sign, rest.parse::<i32>()) {
            ("?", _) => self.starting = Some(rest.to_owned()),
            ("!", _) => self.starting = None,
            ("+", Ok(group)) => {
                self.starting = None;
                self.groups.insert(group);
            }
            ("-", Ok(group)) => drop(self.groups.remove(&group)),
            _ => {}
        }
    }

    /// Returns lines that lead to this state.
    fn lines(&self) -> String {
        let groups = self.groups.iter().map(|group| format!("+{group}\n"));
        groups.chain(self.starting.iter().map(|environment| format!("?{environment}\n"))).collect()
    }
}

impl Guard {
    /// Starts the process. Errors: exit code 3 when the system refuses.
    pub(super) fn start() -> Result<Self, CommandError> {
        let failed = |error| CommandError::trouble(format!("cannot start the guard process: {error}"));
        let process = spawn().map_err(failed)?;
        Ok(Guard(Mutex::new(GuardProcess { process, commands: Commands::default() })))
    }

    /// Starts a command that leads a process group and has these variables; it is killed when this process dies.
    pub(super) fn start_command(
        &self,
        command: &mut tokio::process::Command,
        environment: &[(&str, String)],
    ) -> io::Result<tokio::process::Child> {
        let variables: Vec<String> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guard.change(&format!("?{}", variables.join("\t")));
        let child = command.envs(environment.iter().map(|(name, value)| (name, value))).spawn();
        match child.as_ref().ok().and_then(tokio::process::Child::id) {
            Some(group) => guard.change(&format!("+{group}")),
            None => guard.change("!"),
        }
        child
    }

    /// Removes a group whose command has ended.
    pub(super) fn remove(&self, group: Pid) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guard.change(&format!("-{}", group.as_raw_nonzero()));
    }
}

impl GuardProcess {
    fn change(&mut self, line: &str) {
        self.commands.apply(line);
        if !send(&mut self.process, &format!("{line}\n")) {
            self.restart();
        }
    }

    /// Replaces a guard that has died. If that fails, `pm work` itself still ends its commands, and the next change
    /// retries.
    fn restart(&mut self) {
        drop(self.process.wait());
        let Ok(mut process) = spawn() else { return };
        send(&mut process, &self.commands.lines());
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
    let mut commands = Commands::default();
    io::stdin().lock().lines().map_while(Result::ok).for_each(|line| commands.apply(&line));
    for group in commands.groups.into_iter().filter_map(Pid::from_raw) {
        Tree::of(group).signal(Signal::KILL);
    }
    if let Some(environment) = commands.starting {
        kill_starting(&environment.split('\t').collect::<Vec<_>>());
    }
    ExitCode::SUCCESS
}

/// Kills the command with these variables. Until it has replaced the program that started it, its environment does not
/// show them; a command that could not be started never does.
fn kill_starting(variables: &[&str]) {
    for _ in 0..START_TIMEOUT.as_millis() / START_POLL.as_millis() {
        let found = with_environment(variables);
        if !found.is_empty() {
            return found.into_iter().for_each(|process| Tree::of(process).signal(Signal::KILL));
        }
        std::thread::sleep(START_POLL);
    }
}
