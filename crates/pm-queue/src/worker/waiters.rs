//! What a worker's task shares with streams and acks.

use crate::observe::{Activity, Note};
use crate::sending::{Driven, Link, Outcomes, Shared, State};
use pm_core::machine::{self, Trouble, WorkerEvent};
use pm_core::{Error, Instant, Lease};
use std::collections::{HashMap, VecDeque};
use std::task::Waker;
use std::time::Duration;

/// A worker's machine, which its task drives.
pub(crate) type Worker = Shared<machine::Worker>;

/// The maximum number of errors kept for a stream that is not polled.
const MAX_ERRORS: usize = 16;

/// The futures that wait on a worker.
#[derive(Default)]
pub(crate) struct WorkerWaiters {
    pub(crate) settled: Outcomes<()>,
    pub(crate) extended: Outcomes<Duration>,
    /// The errors that the stream yields next.
    pub(crate) errors: VecDeque<Trouble>,
    /// Wakes the stream.
    pub(crate) stream: Option<Waker>,
    /// The futures that wait for the loss of a lease, or for a cancel request.
    pub(crate) watchers: HashMap<Lease, Vec<Waker>>,
    /// The futures that wait until no statement in flight writes to the job of a lease.
    pub(crate) no_longer_written: Vec<(Lease, Waker)>,
    /// The longest interval between polls while the listener is connected; none for a worker without listener.
    pub(crate) idle_poll: Option<Duration>,
    /// Whether leases that have expired count as settled.
    pub(crate) closing: bool,
    pub(crate) closers: Vec<Waker>,
    /// What is needed for the observer, if there is one.
    pub(crate) activity: Option<Activity>,
}

impl Driven for machine::Worker {
    type Waiters = WorkerWaiters;

    fn dispatch(state: &mut State<Self>, _now: Instant, wake: &mut Vec<Waker>) {
        let State { machine, waiters, .. } = state;
        while let Some(event) = machine.poll_event() {
            match event {
                WorkerEvent::Settled { request_id, outcome } => {
                    waiters.observe(|activity| activity.settled(request_id, &outcome));
                    waiters.settled.deliver(request_id, outcome, wake);
                }
                WorkerEvent::Extended { request_id, outcome } => {
                    waiters.extended.deliver(request_id, outcome, wake);
                }
                WorkerEvent::LeaseLost(lease) => {
                    waiters.observe(|activity| activity.lose(&lease));
                    wake.extend(waiters.watchers.remove(&lease).unwrap_or_default());
                }
                WorkerEvent::CancelRequested(lease) => {
                    wake.extend(waiters.watchers.remove(&lease).unwrap_or_default());
                }
                WorkerEvent::Claimed { queue, jobs, waited, took } => {
                    let note = Note::Claimed { queue, jobs: jobs as u64, waited, took };
                    waiters.observe(|activity| activity.note(note));
                }
                WorkerEvent::Reaped(count) => waiters.observe(|activity| activity.note(Note::Reaped { count })),
                // A stream that is not polled does not need every failure.
                WorkerEvent::Failed(_) if waiters.errors.len() >= MAX_ERRORS => {}
                WorkerEvent::Failed(trouble) => waiters.errors.push_back(trouble),
            }
        }
        // Only in these cases: a stream polled by the same task would otherwise wake this task again and again.
        wake.extend(
            waiters
                .no_longer_written
                .extract_if(.., |(lease, _)| !machine.is_being_written(lease))
                .map(|(_, waker)| waker),
        );
        if machine.has_job() || machine.is_draining() || !waiters.errors.is_empty() {
            wake.extend(waiters.stream.take());
        }
    }

    fn take_notes(state: &mut State<Self>) -> Vec<Note> {
        state.waiters.activity.as_mut().map(Activity::take_notes).unwrap_or_default()
    }

    fn is_finished(state: &State<Self>, now: Instant) -> bool {
        state.machine.is_drained() || (state.waiters.closing && state.machine.is_drained_or_ended(now))
    }

    fn finished_at(state: &State<Self>) -> Option<Instant> {
        state.waiters.closing.then(|| state.machine.last_lease_end()).flatten()
    }

    fn abandon(state: &mut State<Self>, wake: &mut Vec<Waker>) {
        let waiters = &mut state.waiters;
        waiters.settled.end(wake);
        waiters.observe(Activity::abandon);
        waiters.extended.end(wake);
        wake.extend(waiters.watchers.drain().flat_map(|(_, wakers)| wakers));
        wake.extend(waiters.stream.take());
        wake.extend(waiters.no_longer_written.drain(..).map(|(_, waker)| waker));
        wake.append(&mut waiters.closers);
    }
}

impl WorkerWaiters {
    /// Changes what is remembered for the observer, if there is one.
    pub(crate) fn observe(&mut self, change: impl FnOnce(&mut Activity)) {
        if let Some(activity) = &mut self.activity {
            change(activity);
        }
    }
}

/// Reports what a handle has recorded for the observer, if there is one. For changes after which the task may not run.
pub(crate) fn report_activity(worker: &Worker, link: &Link) {
    if link.observing.is_on() {
        let notes = machine::Worker::take_notes(&mut worker.lock());
        notes.iter().for_each(|note| note.report(&link.observing));
    }
}

impl State<machine::Worker> {
    /// Refuses a request if the task has ended, so that none is sent any more. The error is `None` if the lease has not
    /// ended.
    pub(crate) fn check_running(&self, now: Instant) -> Result<(), Option<Trouble>> {
        let ended = self.machine.is_drained_or_ended(now);
        if self.has_ended { Err(ended.then_some(Trouble::Refused(Error::LeaseLost))) } else { Ok(()) }
    }
}
