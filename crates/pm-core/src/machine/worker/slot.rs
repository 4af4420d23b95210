//! The requests in flight, at most one of each kind.

use crate::Failure;

/// One kind of request: at most one is in flight.
#[derive(Debug, Default)]
pub(super) struct RequestSlot {
    /// Whether one is in flight.
    pub(super) busy: bool,
    /// How many in a row have failed.
    pub(super) failures: u32,
}

impl RequestSlot {
    /// Records a reply or a failure.
    pub(super) fn record_reply<T>(&mut self, reply: &Result<T, Failure>) {
        self.busy = false;
        self.failures = if reply.is_ok() { 0 } else { self.failures.saturating_add(1) };
    }
}

/// All kinds of requests except settles, which are batched, and maintenance.
#[derive(Debug, Default)]
pub(super) struct RequestSlots {
    pub(super) poll: RequestSlot,
    pub(super) claim: RequestSlot,
    pub(super) outcome: RequestSlot,
    pub(super) extend: RequestSlot,
    pub(super) release_claim: RequestSlot,
    pub(super) notify_idle: RequestSlot,
}

impl RequestSlots {
    /// Returns how many requests in a row have failed, of the kind with the most failures; notifications do not count.
    pub(super) fn failures(&self) -> u32 {
        let RequestSlots { poll, claim, outcome, extend, release_claim, notify_idle: _ } = self;
        let counted = [poll, claim, outcome, extend, release_claim];
        counted.map(|slot| slot.failures).into_iter().max().unwrap_or_default()
    }
}
