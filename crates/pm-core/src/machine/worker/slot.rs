//! What is under way, a request of each kind at most.

use crate::Failure;

/// One kind of request: at most one is in flight.
#[derive(Debug, Default)]
pub(super) struct RequestSlot {
    pub(super) busy: bool,
    /// How many in a row failed.
    pub(super) failures: u32,
}

impl RequestSlot {
    /// Takes note of an answer.
    pub(super) fn answered<T>(&mut self, reply: &Result<T, Failure>) {
        self.busy = false;
        self.failures = if reply.is_ok() { 0 } else { self.failures.saturating_add(1) };
    }
}

/// All kinds of request but the settles, which are batched.
#[derive(Debug, Default)]
pub(super) struct RequestSlots {
    pub(super) poll: RequestSlot,
    pub(super) claim: RequestSlot,
    pub(super) outcome: RequestSlot,
    pub(super) extend: RequestSlot,
    pub(super) reap: RequestSlot,
    pub(super) promote: RequestSlot,
    pub(super) fire: RequestSlot,
    pub(super) release_claim: RequestSlot,
    pub(super) notify_idle: RequestSlot,
}

impl RequestSlots {
    /// Returns how many requests of one kind failed in a row, of the kind that fares worst; wake-ups do not count.
    pub(super) fn failures(&self) -> u32 {
        let RequestSlots { poll, claim, outcome, extend, reap, promote, fire, release_claim, notify_idle: _ } = self;
        let told = [poll, claim, outcome, extend, reap, promote, fire, release_claim];
        told.map(|slot| slot.failures).into_iter().max().unwrap_or_default()
    }
}
