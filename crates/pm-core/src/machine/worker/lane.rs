//! What is under way, a request of each kind at most.

use crate::Failure;

/// One kind of request: at most one is in flight.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) busy: bool,
    /// How many in a row failed.
    pub(super) failures: u32,
}

impl Lane {
    /// Takes note of an answer.
    pub(super) fn answered<T>(&mut self, reply: &Result<T, Failure>) {
        self.busy = false;
        self.failures = if reply.is_ok() { 0 } else { self.failures.saturating_add(1) };
    }
}

/// All kinds of request but the settles, which are batched.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    pub(super) poll: Lane,
    pub(super) claim: Lane,
    pub(super) outcome: Lane,
    pub(super) refresh: Lane,
    pub(super) reap: Lane,
    pub(super) promote: Lane,
    pub(super) fire: Lane,
    pub(super) release_claim: Lane,
    pub(super) wake_sleepers: Lane,
}

impl Lanes {
    /// Returns how many requests of one kind failed in a row, of the kind that fares worst.
    pub(super) fn failures(&self) -> u32 {
        let often = [&self.poll, &self.claim, &self.outcome, &self.refresh, &self.reap, &self.promote];
        let all = often.into_iter().chain([&self.release_claim, &self.fire]);
        all.map(|lane| lane.failures).max().unwrap_or_default()
    }
}
