//! Runs the tasks of all processes on one thread, in random order; virtual time advances when all wait.

use crate::Seed;
use futures_util::task::ArcWake;
use pm_queue::driver::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Context;

/// The virtual time of all processes, in microseconds since the start.
#[derive(Debug, Clone, Default)]
pub(super) struct Time(Arc<AtomicU64>);

impl Time {
    pub(super) fn now_us(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, us: u64) {
        self.0.store(us, Ordering::Relaxed);
    }
}

type Ready = Arc<Mutex<BTreeSet<u64>>>;

struct TaskWaker {
    task: u64,
    ready: Ready,
}

impl ArcWake for TaskWaker {
    fn wake_by_ref(arc_self: &Arc<Self>) {
        arc_self.ready.lock().expect("the lock is not poisoned").insert(arc_self.task);
    }
}

struct Task {
    process: usize,
    future: BoxFuture<'static, ()>,
}

/// The tasks of all processes.
#[derive(Default)]
pub(super) struct Executor {
    /// A task is `None` while it is polled.
    tasks: Mutex<BTreeMap<u64, Option<Task>>>,
    /// Ordered, so that the order of wake-ups does not matter: maps of the standard library iterate in any order.
    ready: Ready,
    last: AtomicU64,
    /// Processes that are suspended.
    stalled: Mutex<BTreeSet<usize>>,
    /// Processes whose tasks are dropped, including the one that is being polled.
    crashed: Mutex<BTreeSet<usize>>,
}

impl Executor {
    pub(super) fn spawn(&self, process: usize, future: BoxFuture<'static, ()>) {
        if self.crashed.lock().expect("the lock is not poisoned").contains(&process) {
            return;
        }
        let task = self.last.fetch_add(1, Ordering::Relaxed);
        self.tasks.lock().expect("the lock is not poisoned").insert(task, Some(Task { process, future }));
        self.ready.lock().expect("the lock is not poisoned").insert(task);
    }

    /// Polls one task that is ready; returns whether there was one.
    pub(super) fn poll_one(&self, seed: &Mutex<Seed>) -> bool {
        let Some((id, mut task)) = self.pick(seed) else { return false };
        let waker = futures_util::task::waker(Arc::new(TaskWaker { task: id, ready: self.ready.clone() }));
        let is_over = task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let is_gone = self.crashed.lock().expect("the lock is not poisoned").contains(&task.process);
        let mut tasks = self.tasks.lock().expect("the lock is not poisoned");
        if is_over || is_gone {
            tasks.remove(&id);
            drop(tasks);
            drop(task);
        } else {
            tasks.insert(id, Some(task));
        }
        true
    }

    fn pick(&self, seed: &Mutex<Seed>) -> Option<(u64, Task)> {
        let mut ready = self.ready.lock().expect("the lock is not poisoned");
        let mut tasks = self.tasks.lock().expect("the lock is not poisoned");
        let stalled = self.stalled.lock().expect("the lock is not poisoned");
        ready.retain(|task| tasks.contains_key(task));
        let can_run =
            |task: &&u64| tasks.get(task).and_then(Option::as_ref).is_some_and(|task| !stalled.contains(&task.process));
        let runnable: Vec<u64> = ready.iter().filter(can_run).copied().collect();
        if runnable.is_empty() {
            return None;
        }
        let id = runnable[seed.lock().expect("the lock is not poisoned").below(runnable.len() as u64) as usize];
        ready.remove(&id);
        let task = tasks.get_mut(&id).and_then(Option::take)?;
        Some((id, task))
    }

    /// Drops all tasks of a process without polling them again.
    pub(super) fn crash(&self, process: usize) {
        self.crashed.lock().expect("the lock is not poisoned").insert(process);
        let gone: Vec<_> = {
            let mut tasks = self.tasks.lock().expect("the lock is not poisoned");
            let of_process = |task: &mut Option<Task>| task.as_ref().is_some_and(|task| task.process == process);
            tasks.extract_if(.., |_, task| of_process(task)).collect()
        };
        // Outside the lock: dropping them wakes other tasks.
        drop(gone);
    }

    pub(super) fn stall(&self, process: usize) {
        self.stalled.lock().expect("the lock is not poisoned").insert(process);
    }

    pub(super) fn go_on(&self, process: usize) {
        self.stalled.lock().expect("the lock is not poisoned").remove(&process);
    }

    pub(super) fn is_stalled(&self, process: usize) -> bool {
        self.stalled.lock().expect("the lock is not poisoned").contains(&process)
    }

    /// Drops every task.
    pub(super) fn clear(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().expect("the lock is not poisoned"));
        drop(tasks);
    }
}
