//! A command's process group, and its descendants that have moved to other groups, as `timeout`, `sudo` and `setsid` do.
//!
//! Descendants are found by their parents in `/proc`; where there is none, only the group is reached. A process whose
//! parent has ended, such as a daemon, is out of reach.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// A process. When it started tells it apart from a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    id: i32,
    started: u64,
}

/// The processes of a command.
#[derive(Debug)]
pub(super) struct Tree {
    leader: Pid,
    /// Descendants that were seen, of whatever group.
    seen: BTreeSet<Process>,
}

impl Tree {
    /// Returns the processes of a command that leads a group.
    pub(super) fn of(leader: Pid) -> Self {
        Tree { leader, seen: BTreeSet::new() }
    }

    /// Returns the process that leads the group, whose number is the group's.
    pub(super) fn leader(&self) -> Pid {
        self.leader
    }

    /// Sends a signal to the group and to every descendant, also to those that were seen at an earlier signal.
    pub(super) fn signal(&mut self, signal: Signal) {
        let all = processes();
        let mut parents = BTreeSet::from([self.leader.as_raw_nonzero().get()]);
        // A child may have a lower number than its parent: look until no more are found.
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
        // Any of them may just have ended.
        kill_process_group(self.leader, signal).ok();
        for process in self.seen.iter().filter(|process| all.contains_key(process)) {
            if let Some(id) = Pid::from_raw(process.id) {
                kill_process(id, signal).ok();
            }
        }
    }
}

/// Returns all processes with their parents; none where there is no `/proc`.
fn processes() -> BTreeMap<Process, i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter_map(|id| read(id, &fs::read_to_string(format!("/proc/{id}/stat")).ok()?)).collect()
}

/// Reads `/proc/ID/stat`: the name in brackets may hold anything, then state, parent and, as the 22nd, the start.
fn read(id: i32, stat: &str) -> Option<(Process, i32)> {
    let mut words = stat.rsplit_once(") ")?.1.split(' ');
    let parent = words.nth(1)?.parse().ok()?;
    let started = words.nth(17)?.parse().ok()?;
    Some((Process { id, started }, parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_and_start_are_read_whatever_the_name() {
        let stat = "31 (a) b (c)) S 7 31 31 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 998877 1 2";
        assert_eq!(read(31, stat), Some((Process { id: 31, started: 998_877 }, 7)));
        assert_eq!(read(31, "31 (cut"), None);
    }
}
