//! Spans of `tracing` for what takes time, and its events for trouble. `docs/observability.md` has a table of their
//! names, levels and fields.

use super::{EnqueueOutcome, Event, Observer, Observing};
use pm_core::machine::Enqueued;
use pm_core::{Plan, StatementId, TakenJob, Value};
use std::sync::Arc;
use tracing::field::Empty;
use tracing::{Instrument, debug, debug_span, info, info_span, warn};

/// A span. If no subscriber wants it, it costs a check of a flag. It is in a box so that an ack stays small.
#[derive(Debug, Clone)]
pub(crate) struct Span(Option<Box<tracing::Span>>);

impl Span {
    /// Returns the span of enqueues, until their outcome.
    pub(crate) fn enqueue(queue: &str, observing: &Observing) -> Self {
        let span =
            Span::of(debug_span!(target: "pm", "pm.enqueue", queue, jobs = Empty, outcome = Empty, otel.kind = Empty));
        if let Some(span) = &span.0 {
            observing.enqueue_span(span);
        }
        span
    }

    /// Returns the span of a statement that claims or settles, and none for others.
    pub(crate) fn statement(plan: &Plan<'_>) -> Self {
        Span::of(match (plan.statement, plan.params.first()) {
            (StatementId::Claim, _) => debug_span!(target: "pm", "pm.claim", ok = Empty),
            (StatementId::Settle | StatementId::SettleCommits, Some(Value::UuidArray(jobs))) => {
                debug_span!(target: "pm", "pm.settle", jobs = jobs.len(), ok = Empty)
            }
            _ => tracing::Span::none(),
        })
    }

    /// Returns the span of an attempt at a job. Observers may relate it to the span in which the job was
    /// enqueued.
    pub(crate) fn job(TakenJob { job, queue, .. }: &TakenJob, observing: &Observing) -> Self {
        let (queue, id, attempt) = (&**queue, job.lease.job, job.columns.attempt);
        let span = Span::of(
            info_span!(target: "pm", parent: None, "pm.job", queue, job = %id, attempt, outcome = Empty, otel.kind = Empty),
        );
        if let Some(span) = &span.0 {
            observing.job_span(span, job.trace().as_ref());
        }
        span
    }

    /// Calls a function in the span.
    pub(crate) fn within<T>(&self, call: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(span) => span.in_scope(call),
            None => call(),
        }
    }

    /// Runs a future in the span.
    pub(crate) fn run<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        future.instrument(self.to_tracing())
    }

    /// Records what became of the jobs of a call.
    pub(crate) fn record_enqueued<E>(&self, result: Result<&[Enqueued], E>) {
        match result {
            Ok([enqueued]) => {
                self.record("jobs", 1);
                self.record_outcome(EnqueueOutcome::of_enqueued(enqueued).name());
            }
            Ok(enqueued) => {
                self.record("jobs", enqueued.len());
            }
            Err(_) => self.record_outcome(EnqueueOutcome::Failed.name()),
        }
    }

    pub(crate) fn record_outcome(&self, outcome: &'static str) {
        self.record("outcome", outcome);
    }

    pub(crate) fn record_ok(&self, ok: bool) {
        self.record("ok", ok);
    }

    /// Returns the span for the user.
    pub(crate) fn to_tracing(&self) -> tracing::Span {
        self.0.as_deref().cloned().unwrap_or_else(tracing::Span::none)
    }

    fn of(span: tracing::Span) -> Self {
        Span((!span.is_disabled()).then(|| Box::new(span)))
    }

    fn record(&self, field: &str, value: impl tracing::Value) {
        if let Some(span) = &self.0 {
            span.record(field, value);
        }
    }
}

/// Returns the observer that passes trouble on to `tracing`.
pub(crate) fn observer() -> Option<Arc<dyn Observer>> {
    Some(Arc::new(Trouble))
}

/// Passes events on to `tracing`: trouble as warnings, its end as information, and what else there is for debugging.
struct Trouble;

impl Observer for Trouble {
    fn observe(&self, event: &Event<'_>) {
        match *event {
            Event::OutageBegan { why } => warn!(target: "pm", why, "outage began"),
            Event::OutageHealed { lasted } => info!(target: "pm", lasted_ms = ms(lasted), "outage healed"),
            Event::LeaseLost { queue, job, attempt } => warn!(target: "pm", queue, %job, attempt, "lease lost"),
            Event::ListenerLost {} => warn!(target: "pm", "listener lost"),
            Event::ListenerConnected {} => debug!(target: "pm", "listener connected"),
            Event::PayloadRefused { queue, job, attempt } => {
                warn!(target: "pm", queue, %job, attempt, "payload refused");
            }
            Event::Reaped { count } => info!(target: "pm", count, "leases reaped"),
            Event::Settled { queue, job, attempt, outcome, .. } if outcome.is_not_applied() => {
                let outcome = outcome.name();
                warn!(target: "pm", queue, %job, attempt, outcome, "settlement not applied");
            }
            Event::Claimed { queue, jobs, took, .. } => {
                debug!(target: "pm", queue, jobs, took_ms = ms(took), "jobs claimed");
            }
            Event::Statement { name, took, ok: false } => {
                debug!(target: "pm", statement = name, took_ms = ms(took), "statement failed");
            }
            _ => {}
        }
    }
}

/// Returns a time in milliseconds.
fn ms(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
