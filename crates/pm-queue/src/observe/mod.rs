//! Observing a queue: events with plain values, for metrics, traces and logs.
//!
//! An [`Observer`] gets an [`Event`] for what a queue handle does and what happens to it. There is none by default, and
//! then nothing is computed for it. [`ConnectOptions::observer`](crate::ConnectOptions::observer) adds one.
//!
//! ```
//! use pm_queue::observe::{Event, Observer};
//! use pm_queue::ConnectOptions;
//! use std::sync::Arc;
//!
//! /// Prints which jobs failed for good.
//! struct Failures;
//!
//! impl Observer for Failures {
//!     fn observe(&self, event: &Event<'_>) {
//!         if let Event::Settled { queue, job, outcome, .. } = event
//!             && outcome.name() == "failed"
//!         {
//!             eprintln!("job {job} of queue {queue} failed");
//!         }
//!     }
//! }
//!
//! let options = ConnectOptions::default().observer(Arc::new(Failures));
//! ```

mod activity;
mod event;
mod observer;
mod observing;
#[cfg_attr(not(feature = "tracing"), path = "no_spans.rs")]
mod spans;

pub(crate) use activity::{Activity, EnqueueActivity, Note};
pub use event::{EnqueueOutcome, Event, SettleOutcome};
pub use observer::Observer;
pub(crate) use observing::Observing;
pub(crate) use spans::{Span, observer as tracing_observer};
