//! The interface of a worker to its driver: requests, replies and timers.

use super::prefetch::is_open;
use super::{IDLE_SLACK, Worker, WorkerRequest};
use crate::machine::slot::RequestSlot;
use crate::machine::timer::Timer;
use crate::machine::{Entropy, Machine};
use crate::op::{NotifyIdle, Poll, ReleaseClaim};
use crate::{Failure, Instant, Rows};

impl Machine for Worker {
    type Request = WorkerRequest;

    fn poll_request(&mut self, now: Instant, entropy: &mut dyn Entropy) -> Option<WorkerRequest> {
        self.check_leases(now);
        if !self.slots.release_claim.busy
            && let Some(lease) = self.lost_claims.due(now)
        {
            self.slots.release_claim.busy = true;
            return Some(WorkerRequest::ReleaseClaim(ReleaseClaim { lease }));
        }
        if !self.slots.outcome.busy
            && let Some(batch) = self.unacknowledged.take()
        {
            self.slots.outcome.busy = true;
            return Some(WorkerRequest::Outcome(batch));
        }
        let settles = if self.unacknowledged.is_none() { self.settles.poll_batch(now) } else { None };
        self.give_up_settles(now);
        if let Some(batch) = settles {
            return Some(WorkerRequest::Settle(batch));
        }
        if let Some(extend) = self.poll_extend(now) {
            return Some(WorkerRequest::Extend(extend));
        }
        if !self.slots.poll.busy && self.timers.is_due(Timer::Poll, now) {
            self.timers.set(Timer::Poll, None);
            self.slots.poll.busy = true;
            (self.polled_at, self.poll_by) = (now, None);
            let idle = self.listening && !self.lines.any_active(|id| is_open(&self.queues, id));
            let sleep = idle.then(|| self.poll_interval.max() + IDLE_SLACK);
            return Some(WorkerRequest::Poll(Poll { queues: self.options.queues.clone(), due_bound: None, sleep }));
        }
        if let Some(claim) = self.poll_claim(now, entropy) {
            return Some(WorkerRequest::Claim(claim));
        }
        if !self.slots.notify_idle.busy && self.timers.is_due(Timer::Notify, now) {
            self.timers.set(Timer::Notify, None);
            self.slots.notify_idle.busy = true;
            self.notified_idle_at = now;
            return Some(WorkerRequest::NotifyIdle(NotifyIdle { channel: self.options.channel.clone() }));
        }
        self.maintenance.poll_request(now, entropy).map(WorkerRequest::Maintain)
    }

    fn handle_reply(
        &mut self,
        request: WorkerRequest,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        match request {
            WorkerRequest::Poll(poll) => self.handle_poll(poll, reply, now, entropy),
            WorkerRequest::Claim(sent) => self.handle_claim(sent, reply, now, entropy),
            WorkerRequest::Settle(batch) => self.handle_settle(batch, reply, now, entropy),
            WorkerRequest::Outcome(batch) => self.handle_outcome(batch, reply, now, entropy),
            WorkerRequest::Extend(sent) => self.handle_extend(sent, reply, now, entropy),
            WorkerRequest::Maintain(request) => self.handle_maintained(request, reply, now, entropy),
            WorkerRequest::ReleaseClaim(release) => self.handle_release_claim(release, reply, now, entropy),
            // A failure is not retried: idle workers also poll.
            WorkerRequest::NotifyIdle(_) => self.slots.notify_idle.record_reply(&reply),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.timers.is_due(Timer::Unstarted, now) {
            self.release_unstarted(now);
        }
    }

    fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let unless = |slot: &RequestSlot, timer| self.timers.at(timer).filter(|_| !slot.busy);
        let starving = self.waiting && self.buffer.is_empty() && !self.draining && !self.slots.claim.busy;
        let requested_at = unless(&self.slots.extend, Timer::Lease).filter(|_| !self.requested_extensions.is_empty());
        [
            (unless(&self.slots.poll, Timer::Poll), Timer::Poll),
            (unless(&self.slots.notify_idle, Timer::Notify), Timer::Notify),
            (self.timers.at(Timer::Unstarted), Timer::Unstarted),
            (self.lines.next_claim_at().filter(|_| starving && self.may_claim()), Timer::Claim),
            (self.settles.retry_at().filter(|_| self.unacknowledged.is_none()), Timer::Batch),
            (self.settles.expires_at(), Timer::Batch),
            (self.leases.next_due(), Timer::Lease),
            (requested_at, Timer::Lease),
            (self.lost_claims.next().filter(|_| !self.slots.release_claim.busy), Timer::ReleaseClaim),
        ]
        .into_iter()
        .filter_map(|(at, timer)| Some((at?, timer)))
        .chain(self.maintenance.poll_timeout())
        .min()
    }

    fn is_gathering(&self) -> bool {
        self.settles.is_gathering()
    }
}
