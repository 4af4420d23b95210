//! The requests in flight of a worker.

use crate::machine::slot::RequestSlot;

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
