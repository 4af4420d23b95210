//! Metrics and traces of pm for OpenTelemetry, by its semantic conventions for messaging.
//!
//! [`MessagingMetrics`] is an observer of a queue handle, and records with a meter of your SDK:
//!
//! ```
//! use pm_opentelemetry::MessagingMetrics;
//! use pm_queue::ConnectOptions;
//! use std::sync::Arc;
//!
//! let meter = opentelemetry::global::meter("pm");
//! let options = ConnectOptions::default().observer(Arc::new(MessagingMetrics::new(&meter)));
//! ```
//!
//! | metric | unit | what is recorded |
//! |---|---|---|
//! | `messaging.client.sent.messages` | `{message}` | enqueues that have an outcome |
//! | `messaging.client.consumed.messages` | `{message}` | claimed jobs |
//! | `messaging.client.operation.duration` | `s` | statements that enqueue, claim or settle |
//! | `messaging.process.duration` | `s` | attempts at jobs, from handing out to the handler's call to settle |
//!
//! Their attributes:
//!
//! | attribute | value |
//! |---|---|
//! | `messaging.system` | `pm` |
//! | `messaging.operation.name` | `enqueue`, `claim`, `settle` or `process` |
//! | `messaging.operation.type` | `send`, `receive`, `settle` or `process` |
//! | `messaging.destination.name` | the queue; of more than 500 queues the rest is `_other`. Not on `messaging.client.operation.duration`, because a statement may serve several queues |
//! | `error.type` | only after a failure: `soft_failed`, `failed`, `unreadable`, `lease_lost` or `not_stored` for an attempt, `failed` for an enqueue, `_OTHER` for a statement |
//!
//! Ids are in no metric.
//!
//! # Traces
//!
//! [`TraceContexts`] is an observer, too. It stores jobs with the span in which they are enqueued: that of `tracing`,
//! if `tracing-opentelemetry` exports it, or the current one of [`Context`](opentelemetry::Context). With the feature
//! `tracing` it makes this span the parent of the span `pm.job` of the first attempt, and links those of other
//! attempts, of copies and of restarted jobs to it. `pm.enqueue` becomes a span of a producer and `pm.job` one of a
//! consumer.
//!
//! ```
//! use pm_opentelemetry::TraceContexts;
//! use pm_queue::ConnectOptions;
//! use std::sync::Arc;
//!
//! let options = ConnectOptions::default().observer(Arc::new(TraceContexts::new()));
//! ```
//!
//! A program that makes its own spans asks [`PendingMetadata::trace`](pm_queue::PendingMetadata::trace) for the span
//! and converts it with [`span_context`].

mod traces;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};
use pm_queue::observe::{EnqueueOutcome, Event, Observer, SettleOutcome};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
pub use traces::{TraceContexts, span_context};

/// The maximum number of queues that are named; the rest are recorded together.
const MAX_QUEUES: usize = 500;
/// The name of all other queues.
const OTHER: &str = "_other";
/// The boundaries that the conventions recommend for durations of operations, in seconds.
const OPERATION_BOUNDARIES: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// The boundaries for durations of processing, in seconds: jobs take longer than operations.
const PROCESS_BOUNDARIES: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3_600.0];

/// Records the events of one or more queue handles as metrics of OpenTelemetry; see the [crate](self).
#[derive(Debug)]
pub struct MessagingMetrics {
    sent: Counter<u64>,
    consumed: Counter<u64>,
    operations: Histogram<f64>,
    processing: Histogram<f64>,
    /// The queues that are named, at most [`MAX_QUEUES`].
    queues: Mutex<BTreeSet<Arc<str>>>,
}

/// An operation of the conventions: its name in pm, and its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Operation {
    name: &'static str,
    kind: &'static str,
}

const ENQUEUE: Operation = Operation { name: "enqueue", kind: "send" };
const CLAIM: Operation = Operation { name: "claim", kind: "receive" };
const SETTLE: Operation = Operation { name: "settle", kind: "settle" };
const PROCESS: Operation = Operation { name: "process", kind: "process" };

impl MessagingMetrics {
    /// Returns metrics that are recorded with this meter.
    pub fn new(meter: &Meter) -> Self {
        let counter =
            |name, description| meter.u64_counter(name).with_unit("{message}").with_description(description).build();
        let histogram = |name, description, boundaries: &[f64]| {
            let builder = meter.f64_histogram(name).with_unit("s").with_description(description);
            builder.with_boundaries(boundaries.to_vec()).build()
        };
        MessagingMetrics {
            sent: counter("messaging.client.sent.messages", "Number of jobs that were to be enqueued."),
            consumed: counter("messaging.client.consumed.messages", "Number of jobs that were claimed."),
            operations: histogram(
                "messaging.client.operation.duration",
                "Duration of statements that enqueue, claim or settle.",
                &OPERATION_BOUNDARIES,
            ),
            processing: histogram("messaging.process.duration", "Duration of attempts at jobs.", &PROCESS_BOUNDARIES),
            queues: Mutex::default(),
        }
    }

    /// Returns the attributes of an operation on a queue, with the type of its error, if there was one.
    fn of_queue(&self, operation: Operation, queue: &str, error: Option<&'static str>) -> Vec<KeyValue> {
        let mut attributes = attributes(operation, error);
        attributes.push(KeyValue::new("messaging.destination.name", self.named(queue)));
        attributes
    }

    /// Returns the name under which a queue is recorded.
    fn named(&self, queue: &str) -> Arc<str> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = queues.get(queue) {
            return name.clone();
        }
        if queues.len() >= MAX_QUEUES {
            return OTHER.into();
        }
        let name: Arc<str> = queue.into();
        queues.insert(name.clone());
        name
    }
}

impl Observer for MessagingMetrics {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Enqueued { queue, outcome, count, .. } => {
                let error = (*outcome == EnqueueOutcome::Failed).then_some(outcome.name());
                self.sent.add(*count, &self.of_queue(ENQUEUE, queue, error));
            }
            Event::Claimed { queue, jobs, .. } => self.consumed.add(*jobs, &self.of_queue(CLAIM, queue, None)),
            Event::Settled { queue, outcome, ran, .. } => {
                let attributes = self.of_queue(PROCESS, queue, error_of(*outcome));
                self.processing.record(ran.as_secs_f64(), &attributes);
            }
            Event::Statement { name, took, ok, .. } => {
                if let Some(operation) = operation_of(name) {
                    let error = (!ok).then_some("_OTHER");
                    self.operations.record(took.as_secs_f64(), &attributes(operation, error));
                }
            }
            _ => {}
        }
    }
}

fn attributes(operation: Operation, error: Option<&'static str>) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("messaging.system", "pm"),
        KeyValue::new("messaging.operation.name", operation.name),
        KeyValue::new("messaging.operation.type", operation.kind),
    ];
    attributes.extend(error.map(|error| KeyValue::new("error.type", error)));
    attributes
}

/// Returns the type of the error of an attempt, if it is one.
fn error_of(outcome: SettleOutcome) -> Option<&'static str> {
    match outcome {
        SettleOutcome::Finished
        | SettleOutcome::Cancelled
        | SettleOutcome::Released
        | SettleOutcome::Snoozed
        | SettleOutcome::Left => None,
        _ => Some(outcome.name()),
    }
}

/// Returns the operation of a statement, if it is one of the conventions.
fn operation_of(statement: &str) -> Option<Operation> {
    match statement {
        "enqueue" | "enqueue_fresh" | "enqueue_each" | "enqueue_keyed" => Some(ENQUEUE),
        "claim" | "fetch_job" => Some(CLAIM),
        "settle" | "settle_commits" => Some(SETTLE),
        _ => None,
    }
}
