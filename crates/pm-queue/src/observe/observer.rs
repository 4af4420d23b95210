//! What gets the events of a queue handle.

use super::Event;
#[cfg(feature = "tracing")]
use pm_core::JobTrace;
use pm_core::TraceContext;

/// Gets the events of a queue handle and its clones.
///
/// It is called at once, by the task or the thread in which something happened, and never while a lock is held that
/// calls of the queue need. Events of different tasks may arrive at the same time and in any order.
pub trait Observer: Send + Sync {
    /// Handles an event.
    ///
    /// It delays the queue, so it should take microseconds and must not block. A panic is caught and has no effect,
    /// unless the program is built with `panic = "abort"`.
    fn observe(&self, event: &Event<'_>);

    /// Returns the span in which the program is: the jobs that it enqueues are stored with it, unless their options
    /// give another. By default `None`.
    ///
    /// It is asked once by each call that enqueues, in the caller's task, and with the feature `tracing` within the
    /// span `pm.enqueue`. Of several observers the first one that has an answer decides. Jobs of schedules have no
    /// trace, and a copy has that of the job that is copied. A panic is caught and counts as `None`.
    fn trace_context(&self) -> Option<TraceContext> {
        None
    }

    /// Relates the span `pm.job` of an attempt to the span in which the job was enqueued. By default nothing.
    ///
    /// It is called when the span was made and not entered yet, for jobs that have a trace, and only if a subscriber
    /// wants the span.
    #[cfg(feature = "tracing")]
    fn job_span(&self, span: &tracing::Span, trace: &JobTrace) {
        let _ = (span, trace);
    }
}
