//! Traces that go on from the enqueue of a job to its attempts.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
#[cfg(feature = "tracing")]
use pm_queue::JobTrace;
use pm_queue::TraceContext;
use pm_queue::observe::{Event, Observer};
use std::str::FromStr;

/// Stores jobs with the current span, and relates their attempts to it; see the [crate](crate#traces).
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceContexts(());

impl TraceContexts {
    /// Returns an observer.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Observer for TraceContexts {
    fn observe(&self, _event: &Event<'_>) {}

    fn trace_context(&self) -> Option<TraceContext> {
        stored(&tracing_span::current()).or_else(|| stored(Context::current().span().span_context()))
    }

    #[cfg(feature = "tracing")]
    fn enqueue_span(&self, span: &tracing::Span) {
        tracing_span::set_kind(span, "producer", "send");
    }

    #[cfg(feature = "tracing")]
    fn job_span(&self, span: &tracing::Span, trace: Option<&JobTrace>) {
        tracing_span::complete(span, trace);
    }
}

/// Returns the span in which a job was enqueued, for a span of your own that has it as its remote parent or as a link:
/// [`PendingMetadata::trace`](pm_queue::PendingMetadata::trace) says which of them.
pub fn span_context(trace: &TraceContext) -> SpanContext {
    let mut parts = trace.traceparent().split('-').skip(1);
    let mut next = || parts.next().unwrap_or_default();
    // A traceparent is valid, so nothing falls back to the invalid ids.
    let trace_id = TraceId::from_hex(next()).unwrap_or(TraceId::INVALID);
    let span_id = SpanId::from_hex(next()).unwrap_or(SpanId::INVALID);
    let flags = TraceFlags::new(u8::from_str_radix(next(), 16).unwrap_or_default()) & TraceFlags::SAMPLED;
    // What the state means was not checked before it was stored. A trace goes on without it.
    let state = trace.tracestate().and_then(|state| TraceState::from_str(state).ok()).unwrap_or_default();
    SpanContext::new(trace_id, span_id, flags, true, state)
}

/// Returns a span as it is stored; `None` if it is in no trace.
fn stored(span: &SpanContext) -> Option<TraceContext> {
    if !span.is_valid() {
        return None;
    }
    let flags = span.trace_flags() & TraceFlags::SAMPLED;
    let traceparent = format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id());
    TraceContext::new(&traceparent, Some(&span.trace_state().header())).ok()
}

/// The spans of `tracing` that its layer for OpenTelemetry exports.
#[cfg(feature = "tracing")]
mod tracing_span {
    use super::*;
    use tracing::Span;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    /// Returns the current span.
    pub(super) fn current() -> SpanContext {
        Span::current().context().span().span_context().clone()
    }

    /// Makes `pm.job` a span of a consumer, with its parent or its link.
    pub(super) fn complete(span: &Span, trace: Option<&JobTrace>) {
        set_kind(span, "consumer", "process");
        match trace {
            Some(JobTrace::Parent(context)) => {
                let parent = Context::new().with_remote_span_context(span_context(context));
                // It fails if the layer does not want this span.
                drop(span.set_parent(parent));
            }
            Some(JobTrace::Link(context)) => span.add_link(span_context(context)),
            None => {}
        }
    }

    /// Sets what the conventions for messaging ask of every span.
    pub(super) fn set_kind(span: &Span, kind: &str, operation: &'static str) {
        span.record("otel.kind", kind);
        span.set_attribute("messaging.system", "pm");
        span.set_attribute("messaging.operation.type", operation);
    }
}

#[cfg(not(feature = "tracing"))]
mod tracing_span {
    use super::*;

    pub(super) fn current() -> SpanContext {
        SpanContext::NONE
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_stored_span_is_read_back() {
        for (traceparent, state) in [(PARENT, Some("a=1,b=2")), (&PARENT.replace("-01", "-00")[..], None)] {
            let trace = TraceContext::new(traceparent, state).unwrap();
            let span = span_context(&trace);
            assert!(span.is_valid() && span.is_remote() && span.is_sampled() == traceparent.ends_with("-01"));
            assert_eq!(stored(&span), Some(trace));
        }
    }

    #[test]
    fn a_state_that_cannot_be_read_is_left_out() {
        let span = span_context(&TraceContext::new(PARENT, Some("no state")).unwrap());
        assert_eq!((span.is_valid(), span.trace_state().header()), (true, String::new()));
    }

    #[test]
    fn the_span_is_that_of_the_current_context() {
        let observer = TraceContexts::new();
        assert_eq!(observer.trace_context(), None);
        let trace = TraceContext::new(PARENT, None).unwrap();
        let _guard = Context::current().with_remote_span_context(span_context(&trace)).attach();
        assert_eq!(observer.trace_context(), Some(trace));
    }
}
