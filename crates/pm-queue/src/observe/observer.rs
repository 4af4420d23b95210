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

    /// Completes the span `pm.enqueue` of a call. By default it does nothing.
    ///
    /// It is called before the span is entered, and only if a subscriber wants the span, whose empty field `otel.kind`
    /// is for observers.
    #[cfg(feature = "tracing")]
    fn enqueue_span(&self, span: &tracing::Span) {
        let _ = span;
    }

    /// Completes the span `pm.job` of an attempt: relates it to the span in which the job was enqueued, if that is
    /// known. By default it does nothing.
    ///
    /// It is called as [`Observer::enqueue_span`].
    #[cfg(feature = "tracing")]
    fn job_span(&self, span: &tracing::Span, trace: Option<&JobTrace>) {
        let _ = (span, trace);
    }
}
