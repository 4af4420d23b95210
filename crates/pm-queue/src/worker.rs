//! The workers of this process, and what their tasks share with streams and acks.

use crate::Error;
use crate::task::{Driven, Outcomes, Shared, State, add_waker};
use pm_core::machine::{Worker, WorkerEvent};
use pm_core::op::Notification;
use pm_core::{Error as CoreError, Instant, Lease};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The maximum number of errors kept for a stream that is not polled.
const MAX_ERRORS: usize = 16;

/// The futures that wait on a worker.
#[derive(Default)]
pub(crate) struct WorkerWaiters {
    pub(crate) settled: Outcomes<()>,
    pub(crate) extended: Outcomes<Duration>,
    /// The errors that the stream yields next.
    pub(crate) errors: VecDeque<Error>,
    /// Wakes the stream.
    pub(crate) stream: Option<Waker>,
    /// The futures that wait for the loss of a lease.
    pub(crate) losses: HashMap<Lease, Vec<Waker>>,
    /// The futures that wait until a lease is not being extended.
    pub(crate) no_longer_extending: Vec<(Lease, Waker)>,
    /// The longest interval between polls while the listener is connected; none for a worker without listener.
    pub(crate) idle_poll: Option<Duration>,
    /// Whether leases that have expired count as settled.
    closing: bool,
    closers: Vec<Waker>,
}

impl WorkerWaiters {
    /// Returns no waiters, for a worker that polls every `idle_poll` while the listener is connected.
    pub(crate) fn new(idle_poll: Option<Duration>) -> Self {
        WorkerWaiters { idle_poll, ..WorkerWaiters::default() }
    }
}

impl Driven for Worker {
    type Waiters = WorkerWaiters;

    fn dispatch(state: &mut State<Self>, _now: Instant, wake: &mut Vec<Waker>) {
        let State { machine, waiters, .. } = state;
        while let Some(event) = machine.poll_event() {
            match event {
                WorkerEvent::Settled { request_id, outcome } => {
                    waiters.settled.deliver(request_id, outcome.map_err(Error::from), wake);
                }
                WorkerEvent::Extended { request_id, outcome } => {
                    waiters.extended.deliver(request_id, outcome.map_err(Error::from), wake);
                }
                WorkerEvent::LeaseLost(lease) => wake.extend(waiters.losses.remove(&lease).unwrap_or_default()),
                // A stream that is not polled does not need every failure.
                WorkerEvent::Failed(_) if waiters.errors.len() >= MAX_ERRORS => {}
                WorkerEvent::Failed(trouble) => waiters.errors.push_back(trouble.into()),
            }
        }
        // Only in these cases: a stream polled by the same task would otherwise wake this task again and again.
        wake.extend(
            waiters
                .no_longer_extending
                .extract_if(.., |(lease, _)| !machine.is_extending(lease))
                .map(|(_, waker)| waker),
        );
        if machine.has_job() || machine.is_draining() || !waiters.errors.is_empty() {
            wake.extend(waiters.stream.take());
        }
    }

    fn is_finished(state: &State<Self>, now: Instant) -> bool {
        state.machine.is_drained() || (state.waiters.closing && state.machine.is_drained_or_ended(now))
    }

    fn finished_at(state: &State<Self>) -> Option<Instant> {
        state.waiters.closing.then(|| state.machine.last_lease_end()).flatten()
    }

    fn abandon(state: &mut State<Self>, wake: &mut Vec<Waker>) {
        let waiters = &mut state.waiters;
        waiters.settled.deliver_all(Error::no_task, wake);
        waiters.extended.deliver_all(Error::no_task, wake);
        wake.extend(waiters.losses.drain().flat_map(|(_, wakers)| wakers));
        wake.extend(waiters.stream.take());
        wake.extend(waiters.no_longer_extending.drain(..).map(|(_, waker)| waker));
        wake.append(&mut waiters.closers);
    }
}

impl State<Worker> {
    /// Returns the error for a settlement if the task has ended, so that none is sent any more.
    pub(crate) fn closed(&self, now: Instant) -> Option<Error> {
        let ended = self.machine.is_drained_or_ended(now);
        self.has_ended.then(|| if ended { CoreError::LeaseLost.into() } else { Error::no_task() })
    }
}

/// The workers of one queue handle and its clones.
#[derive(Default)]
pub(crate) struct LocalWorkers(Mutex<Vec<Weak<Shared<Worker>>>>);

impl LocalWorkers {
    pub(crate) fn add(&self, worker: &Arc<Shared<Worker>>) {
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|worker| worker.strong_count() > 0);
        workers.push(Arc::downgrade(worker));
    }

    fn alive(&self) -> Vec<Arc<Shared<Worker>>> {
        let workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().filter_map(Weak::upgrade).collect()
    }

    fn update(&self, change: impl Fn(&mut State<Worker>)) {
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
