//! The observers of a queue handle, if there are any.

use super::{Event, Observer};
use pm_core::TraceContext;
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
            caught(|| observer.observe(event));
        }
    }

    /// Returns the span in which the program is, if an observer knows it.
    pub(crate) fn trace_context(&self) -> Option<TraceContext> {
        self.0.iter().find_map(|observer| caught(|| observer.trace_context()).flatten())
    }

    /// Lets the observers complete the span of a call that enqueues.
    #[cfg(feature = "tracing")]
    pub(crate) fn enqueue_span(&self, span: &tracing::Span) {
        for observer in &self.0 {
            caught(|| observer.enqueue_span(span));
        }
    }

    /// Lets the observers complete the span of an attempt.
    #[cfg(feature = "tracing")]
    pub(crate) fn job_span(&self, span: &tracing::Span, trace: Option<&pm_core::JobTrace>) {
        for observer in &self.0 {
            caught(|| observer.job_span(span, trace));
        }
    }
}

/// Calls an observer. A panic is the observer's bug, and would end a task that serves all jobs.
fn caught<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}

impl fmt::Debug for Observing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} observers", self.0.len())
    }
}
