//! Cancel requests, and leases that an operator has taken: when the worker looks for those of its jobs.

use super::options::MAX_BATCH;
use super::{Worker, WorkerEvent};
use crate::machine::chore::Chore;
use crate::machine::{Entropy, Reply, Timer, interpret};
use crate::op::{CancelRequests, Requested};
use crate::{Instant, Lease, Operation};
use std::time::Duration;

/// The minimum time between two looks for cancel requests, however many changes are reported.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// When the worker looks for cancel requests.
///
/// A cancel notifies the workers that the queue of the job has changed, as other changes do. Without a listener, a
/// worker looks once per poll interval while jobs run. Extensions of leases report requests too.
#[derive(Debug)]
pub(super) struct CancelLooks {
    pub(super) chore: Chore,
    /// When a queue has last changed: jobs that were claimed before then may be concerned, also if the reply to their
    /// claim comes after it.
    changed_at: Option<Instant>,
    /// The last lease of the page before, while not all of them were looked at.
    after: Option<Lease>,
}

impl CancelLooks {
    pub(super) fn new() -> Self {
        CancelLooks { chore: Chore::new(Timer::Cancel, None), changed_at: None, after: None }
    }
}

impl Worker {
    /// Returns whether the job of this lease is to be cancelled, as far as the worker knows.
    pub fn is_cancelled(&self, lease: &Lease) -> bool {
        self.leases.get(lease).is_some_and(|leased| leased.is_cancelled())
    }

    /// Returns whether this worker has the lease.
    pub fn has_lease(&self, lease: &Lease) -> bool {
        self.leases.get(lease).is_some()
    }

    /// Schedules a look at jobs whose claim was sent at `sent_at`, if a queue has changed since.
    pub(super) fn look_at_claimed(&mut self, sent_at: Instant, now: Instant) {
        if self.cancel_looks.changed_at >= Some(sent_at) {
            self.look_soon(now);
        }
    }

    /// Schedules the look for cancel requests after a job has started.
    pub(super) fn watch_for_cancels(&mut self, now: Instant) {
        if self.cancel_looks.chore.at().is_none() && !self.is_listening() {
            self.cancel_looks.chore.set(Some(now + self.options.poll_most));
        }
    }

    /// Schedules a look for cancel requests, because a queue has changed: one of the worker's, or one to which a job of
    /// the worker may have been moved.
    pub(super) fn look_for_cancels_soon(&mut self, now: Instant) {
        self.cancel_looks.changed_at = Some(now);
        self.look_soon(now);
    }

    fn look_soon(&mut self, now: Instant) {
        if self.leases.len() > 0 {
            self.cancel_looks.chore.set_earlier(now.max(self.cancel_looks.chore.sent_at() + LOOK_PAUSE));
        }
    }

    pub(super) fn next_cancel_look(&self) -> Option<(Instant, Timer)> {
        self.cancel_looks.chore.next().filter(|_| self.leases.len() > 0)
    }

    pub(super) fn begin_cancel_requests(&mut self, now: Instant) -> Option<CancelRequests> {
        let looks = &mut self.cancel_looks;
        if !looks.chore.is_due(now) || looks.chore.is_in_flight() {
            return None;
        }
        let leases = self.leases.trusted_after(looks.after, now, MAX_BATCH);
        if leases.is_empty() {
            looks.chore.set(None);
            self.schedule_next_look(now);
            return None;
        }
        looks.chore.begin_if_due(now).then_some(CancelRequests { leases })
    }

    pub(super) fn handle_cancel_requests(
        &mut self,
        looked: CancelRequests,
        reply: Reply,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.cancel_looks.chore.end(&reply);
        match interpret(reply, |rows| looked.interpret(rows)) {
            Ok(Requested { cancelled, ended }) => {
                cancelled.into_iter().for_each(|index| self.record_cancelled(looked.leases[index]));
                ended.into_iter().for_each(|index| self.record_ended(looked.leases[index]));
                let is_full = looked.leases.len() == MAX_BATCH;
                self.cancel_looks.after = looked.leases.last().copied().filter(|_| is_full);
                match is_full {
                    true => self.cancel_looks.chore.set(Some(now)),
                    false => self.schedule_next_look(now),
                }
            }
            Err(_) => drop(self.cancel_looks.chore.retry(now, entropy)),
        }
    }

    /// Records that a lease has ended, unless its worker is ending it.
    fn record_ended(&mut self, lease: Lease) {
        if self.leases.end(lease) {
            self.events.push(WorkerEvent::LeaseLost(lease));
        }
    }

    /// Records that the job of a lease is to be cancelled, and reports it once. One that has not started is not handed
    /// out any more.
    pub(super) fn record_cancelled(&mut self, lease: Lease) {
        if self.leases.cancel(&lease) {
            self.events.push(WorkerEvent::CancelRequested(lease));
        }
    }

    /// Schedules the look after a complete one: without a listener there is no other way to learn of requests.
    fn schedule_next_look(&mut self, now: Instant) {
        self.cancel_looks.after = None;
        if self.leases.len() > 0 {
            self.watch_for_cancels(now);
        }
    }
}
