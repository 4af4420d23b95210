//! The workers of this process.

use crate::sending::{State, add_waker};
use crate::worker::Worker;
use pm_core::Instant;
use pm_core::machine;
use pm_core::op::Notification;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

/// The workers of one queue handle and its clones.
#[derive(Default)]
pub(crate) struct LocalWorkers(Mutex<Vec<Weak<Worker>>>);

impl LocalWorkers {
    pub(crate) fn add(&self, worker: &Arc<Worker>) {
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|worker| worker.strong_count() > 0);
        workers.push(Arc::downgrade(worker));
    }

    fn alive(&self) -> Vec<Arc<Worker>> {
        let workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().filter_map(Weak::upgrade).collect()
    }

    fn update(&self, change: impl Fn(&mut State<machine::Worker>)) {
        self.alive().iter().for_each(|worker| worker.update(&change));
    }

    /// Wakes the workers after jobs were added: ready ones to a line, or scheduled ones to a queue (no `priority`).
    pub(crate) fn wake_up(&self, queue: &str, priority: Option<i32>, now: Instant) {
        self.update(|state| match priority {
            Some(priority) => state.machine.handle_wake_up(queue, priority, now),
            None => state.machine.handle_change(now),
        });
    }

    /// Passes a notification of another process to the workers.
    pub(crate) fn handle_notification(&self, notification: Notification, now: Instant) {
        self.update(|state| state.machine.handle_notification(notification, now));
    }

    /// Reports to the workers whether the listener is connected.
    pub(crate) fn set_listening(&self, listening: bool, now: Instant) {
        self.update(|state| state.machine.set_listening(state.waiters.idle_poll.filter(|_| listening), now));
    }

    /// Returns whether any worker needs the listener.
    pub(crate) fn need_listener(&self) -> bool {
        self.alive().iter().any(|worker| {
            let state = worker.lock();
            state.waiters.idle_poll.is_some() && !state.has_ended && !state.machine.is_draining()
        })
    }

    /// Reports to the workers that something about the queues changed.
    pub(crate) fn handle_change(&self, now: Instant) {
        self.update(|state| state.machine.handle_change(now));
    }

    /// Stops all claims; jobs that handlers have can still be settled.
    pub(crate) fn close(&self, now: Instant) {
        self.update(|state| {
            state.waiters.closing = true;
            state.machine.shut_down(now);
        });
    }

    /// Is ready when every job that was handed out is settled or its lease has expired.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut all = Poll::Ready(());
        for worker in self.alive() {
            let mut state = worker.lock();
            if !state.has_ended {
                add_waker(&mut state.waiters.closers, cx);
                all = Poll::Pending;
            }
        }
        all
    }
}
