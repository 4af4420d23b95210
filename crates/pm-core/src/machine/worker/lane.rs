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
    /// Returns how many requests of one kind failed in a row, of the kind that fares worst; wake-ups do not count.
    pub(super) fn failures(&self) -> u32 {
        let Lanes { poll, claim, outcome, refresh, reap, promote, fire, release_claim, wake_sleepers: _ } = self;
        let told = [poll, claim, outcome, refresh, reap, promote, fire, release_claim];
        told.map(|lane| lane.failures).into_iter().max().unwrap_or_default()
    }
}
