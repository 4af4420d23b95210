//! The observers of a queue handle, if there are any.

use super::{Event, Observer};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The observers of a queue handle: none, or one, which may pass events on to several.
#[derive(Clone, Default)]
pub(crate) struct Observing(Option<Arc<dyn Observer>>);

impl Observing {
    /// Adds an observer, which gets each event after the ones added before.
    pub(crate) fn add(&mut self, observer: Arc<dyn Observer>) {
        self.0 = Some(match self.0.take() {
            None => observer,
            Some(first) => Arc::new(Both(first, observer)),
        });
    }

    /// Returns whether there is an observer, so that events must be made.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Passes an event to the observer, if there is one. To be called without locks.
    pub(crate) fn observe(&self, event: &Event<'_>) {
        if let Some(observer) = &self.0 {
            // A panic is the observer's bug, and would end a task that serves all jobs.
            drop(catch_unwind(AssertUnwindSafe(|| observer.observe(event))));
        }
    }
}

impl fmt::Debug for Observing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Some(observer)" } else { "None" })
    }
}

/// Two observers, in turn.
struct Both(Arc<dyn Observer>, Arc<dyn Observer>);

impl Observer for Both {
    fn observe(&self, event: &Event<'_>) {
        self.0.observe(event);
        self.1.observe(event);
    }
}
