//! The observers of a queue handle, if there are any.

use super::{Event, Observer};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The observers of a queue handle. Without any, nothing is allocated.
#[derive(Clone, Default)]
pub(crate) struct Observing(Vec<Arc<dyn Observer>>);

impl Observing {
    /// Adds an observer, which gets each event after the ones added before.
    pub(crate) fn add(&mut self, observer: Arc<dyn Observer>) {
        self.0.push(observer);
    }

    /// Returns whether there is an observer, so that events must be made.
    pub(crate) fn is_on(&self) -> bool {
        !self.0.is_empty()
    }

    /// Passes an event to the observers. To be called without locks.
    pub(crate) fn observe(&self, event: &Event<'_>) {
        for observer in &self.0 {
            // A panic is the observer's bug, and would end a task that serves all jobs.
            drop(catch_unwind(AssertUnwindSafe(|| observer.observe(event))));
        }
    }
}

impl fmt::Debug for Observing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} observers", self.0.len())
    }
}
