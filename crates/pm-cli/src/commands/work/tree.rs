//! A command's process group, and descendants that have moved to other groups, as with `timeout`, `sudo` and `setsid`.
//!
//! Descendants are found by their parents in `/proc`; without it, only the group is signalled. A process whose parent
//! has exited, such as a daemon, is not found.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// A process. Its start time distinguishes it from a later process with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    id: i32,
    started: u64,
}

/// The processes of a command.
#[derive(Debug)]
pub(super) struct Tree {
    /// The group leader, whose id is that of the group.
    pub(super) leader: Pid,
    /// Known descendants, of any group.
    seen: BTreeSet<Process>,
}

impl Tree {
    /// Returns the processes of a command that is a group leader.
    pub(super) fn of(leader: Pid) -> Self {
        Tree { leader, seen: BTreeSet::new() }
    }

    /// Signals the group and all descendants, including those found by an earlier call.
    pub(super) fn signal(&mut self, signal: Signal) {
        let all = processes();
        let mut parents = BTreeSet::from([self.leader.as_raw_nonzero().get()]);
        // A child may have a lower id than its parent, so repeat until no more are found.
        loop {
            let children =
                all.iter().filter(|(process, parent)| parents.contains(*parent) && !parents.contains(&process.id));
            let children: Vec<Process> = children.map(|(process, _)| *process).collect();
            if children.is_empty() {
                break;
            }
            parents.extend(children.iter().map(|process| process.id));
            self.seen.extend(children);
        }
        // Errors are ignored: a process may have exited.
        kill_process_group(self.leader, signal).ok();
        for process in self.seen.iter().filter(|process| all.contains_key(process)) {
            if let Some(id) = Pid::from_raw(process.id) {
                kill_process(id, signal).ok();
            }
        }
    }
}

/// Returns the processes that have all these variables, as `NAME=value`; none without `/proc`.
pub(super) fn with_environment(variables: &[&str]) -> Vec<Pid> {
    let has_all = |id: &i32| {
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        let entries: BTreeSet<&[u8]> = environment.split(|byte| *byte == 0).collect();
        variables.iter().all(|variable| entries.contains(variable.as_bytes()))
    };
    ids().filter(has_all).filter_map(Pid::from_raw).collect()
}

/// Returns all processes with their parents; empty without `/proc`.
fn processes() -> BTreeMap<Process, i32> {
    ids().filter_map(|id| read(id, &fs::read_to_string(format!("/proc/{id}/stat")).ok()?)).collect()
}

fn ids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Parses `/proc/ID/stat`: after the name in parentheses, which may contain anything, come the state, the parent and,
/// as field 22, the start time.
fn read(id: i32, stat: &str) -> Option<(Process, i32)> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let parent = fields.nth(1)?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some((Process { id, started }, parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_and_start_are_parsed_with_any_name() {
        let stat = "31 (a) b (c)) S 7 31 31 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 998877 1 2";
        assert_eq!(read(31, stat), Some((Process { id: 31, started: 998_877 }, 7)));
        assert_eq!(read(31, "31 (cut"), None);
    }
}
