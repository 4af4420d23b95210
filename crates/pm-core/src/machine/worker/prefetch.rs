//! How many jobs to claim ahead, and the release of those that are not started.

use super::lines::SentClaim;
use super::{Followed, MAX_BATCH, MAX_UNSETTLED, Worker};
use crate::machine::Entropy;
use crate::machine::timer::Timer;
use crate::op::Claim;
use crate::{Instant, Lease, Verdict};
use std::collections::{BTreeMap, VecDeque};

impl Worker {
    /// Returns how many jobs to claim now; `None` for none.
    fn claim_limit(&mut self, now: Instant) -> Option<usize> {
        let taken = self.taken.last_second(now).max(self.slow_start.wanted());
        let wanted = taken.max(usize::from(self.waiting)).min(self.options.prefetch.max(1));
        let is_stopped = self.draining || self.slots.claim.busy;
        let has_enough = self.buffer.len() > wanted / 2 || self.buffer.len() >= wanted;
        let must_wait = self.lines.next_claim_at().is_some_and(|at| at > now);
        if is_stopped || has_enough || must_wait || !self.may_claim() || self.buffered_bytes() >= Claim::MAX_BYTES {
            return None;
        }
        Some((wanted - self.buffer.len()).min(MAX_BATCH))
    }

    fn buffered_bytes(&self) -> usize {
        self.buffer.iter().map(|job| job.taken.job.payload.len()).sum()
    }

    pub(super) fn may_claim(&self) -> bool {
        self.settles.len() < MAX_UNSETTLED && self.lines.any_active(|id| is_open(&self.queues, id))
    }

    pub(super) fn poll_claim(&mut self, now: Instant, entropy: &mut dyn Entropy) -> Option<SentClaim> {
        let limit = self.claim_limit(now)?;
        self.slots.claim.busy = true;
        let lease = Lease::number_from(entropy.next_u64());
        let queues = &self.queues;
        let is_open = |id| is_open(queues, id);
        let mut sent = self.lines.claim(now, limit, lease, &self.options.worker, self.maintenance.due_bound(), is_open);
        sent.longest = self.queues.values().map(|followed| followed.lease).max().unwrap_or_default();
        Some(sent)
    }

    /// Releases jobs that have waited too long for a handler. The handlers that waited for them apparently no longer
    /// do.
    pub(super) fn release_unstarted(&mut self, now: Instant) {
        let (late, fresh): (VecDeque<_>, VecDeque<_>) = self.buffer.drain(..).partition(|job| job.until <= now);
        self.buffer = fresh;
        if !late.is_empty() {
            self.waiting = false;
            self.slow_start.reset();
        }
        for buffered in late {
            self.release(&buffered.taken.job.lease, now);
        }
        self.timers.set(Timer::Unstarted, self.buffer.iter().map(|job| job.until).min());
    }

    /// Releases a job that was never started. No task waits for the outcome.
    pub(super) fn release(&mut self, lease: &Lease, now: Instant) {
        let _request_id = self.settle(*lease, Verdict::Release, now, 0);
    }
}

/// Returns whether jobs may be claimed from a queue.
pub(super) fn is_open(queues: &BTreeMap<i32, Followed>, id: i32) -> bool {
    queues.get(&id).is_some_and(|followed| !followed.paused)
}
