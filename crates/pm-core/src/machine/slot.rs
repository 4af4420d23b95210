//! One kind of request, of which at most one is in flight.

use crate::Failure;

/// One kind of request.
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
