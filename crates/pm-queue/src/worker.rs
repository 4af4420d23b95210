//! Workers of this process: what their tasks share with streams and acks.

use crate::Error;
use crate::task::{Answers, Driven, Shared, State, note_waker};
use pm_core::machine::{Worker, WorkerEvent};
use pm_core::op::Notification;
use pm_core::{Error as CoreError, Instant, Lease};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The most errors that wait for a stream to be polled.
const MOST_ERRORS: usize = 16;

/// Who waits on a worker.
#[derive(Default)]
pub(crate) struct WorkerWaiters {
    pub(crate) settled: Answers<()>,
    pub(crate) extended: Answers<Duration>,
    /// What the stream shall show besides jobs.
    pub(crate) errors: VecDeque<Error>,
    /// Wakes the stream.
    pub(crate) stream: Option<Waker>,
    /// Who wants to know when a lease is lost.
    pub(crate) losses: HashMap<Lease, Vec<Waker>>,
    /// Who wants to know when the extension of a lease is no longer under way.
    pub(crate) no_longer_extending: Vec<(Lease, Waker)>,
    /// How long a dry queue may go unlooked at while a listener is there; none for a worker that only polls.
    pub(crate) idle_poll: Option<Duration>,
    /// Whether leases that ended by themselves count as settled.
    closing: bool,
    closers: Vec<Waker>,
}

impl WorkerWaiters {
    /// Returns nobody, waiting on a worker that may sleep for up to `idle_poll` while a listener is there.
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
                // A stream that nobody polls need not be told of every failure.
                WorkerEvent::Failed(_) if waiters.errors.len() >= MOST_ERRORS => {}
                WorkerEvent::Failed(trouble) => waiters.errors.push_back(trouble.into()),
            }
        }
        // Only then: a stream polled by the same task would wake this one again, and so on.
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

    fn is_over(state: &State<Self>, now: Instant) -> bool {
        state.machine.is_drained() || (state.waiters.closing && state.machine.is_drained_or_ended(now))
    }

    fn over_at(state: &State<Self>) -> Option<Instant> {
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
    /// Returns why no settlement is sent any more, if so.
    pub(crate) fn closed(&self, now: Instant) -> Option<Error> {
        let ended = self.machine.is_drained_or_ended(now);
        self.gone.then(|| if ended { CoreError::LeaseLost.into() } else { Error::no_task() })
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

    fn living(&self) -> Vec<Arc<Shared<Worker>>> {
        let workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().filter_map(Weak::upgrade).collect()
    }

    /// Tells the workers that jobs were put on a line, or on a queue for later.
    pub(crate) fn wake_up(&self, queue: &str, priority: Option<i32>, now: Instant) {
        for worker in self.living() {
            worker.tell(|state| match priority {
                Some(priority) => state.machine.handle_wake_up(queue, priority, now),
                None => state.machine.handle_change(now),
            });
        }
    }

    /// Tells the workers what another process said.
    pub(crate) fn handle_notification(&self, notification: Notification, now: Instant) {
        for worker in self.living() {
            worker.tell(|state| state.machine.handle_notification(notification, now));
        }
    }

    /// Tells the workers that a listener came or went.
    pub(crate) fn set_listening(&self, listening: bool, now: Instant) {
        for worker in self.living() {
            worker.tell(|state| {
                let idle_poll = state.waiters.idle_poll.filter(|_| listening);
                state.machine.set_listening(idle_poll, now);
            });
        }
    }

    /// Returns whether some worker wants to be woken by other processes.
    pub(crate) fn want_listener(&self) -> bool {
        self.living().iter().any(|worker| {
            let state = worker.lock();
            state.waiters.idle_poll.is_some() && !state.gone && !state.machine.is_draining()
        })
    }

    /// Tells the workers that something about the queues changed.
    pub(crate) fn change(&self, now: Instant) {
        for worker in self.living() {
            worker.tell(|state| state.machine.handle_change(now));
        }
    }

    /// Stops all claims; jobs in hands can still be settled.
    pub(crate) fn close(&self, now: Instant) {
        for worker in self.living() {
            worker.tell(|state| {
                state.waiters.closing = true;
                state.machine.shut_down(now);
            });
        }
    }

    /// Returns when every job handed out is settled or its lease has ended.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut all = Poll::Ready(());
        for worker in self.living() {
            let mut state = worker.lock();
            if !state.gone {
                note_waker(&mut state.waiters.closers, cx);
                all = Poll::Pending;
            }
        }
        all
    }
}
