//! State machines without I/O that decide what to send: [`Worker`] takes jobs from queues, [`Producer`] enqueues them,
//! [`Maintenance`] promotes, reaps, fires schedules and prunes.
//!
//! A machine has four kinds of methods: getters; `handle_*(.., now)` for events from outside; commands of the user; and
//! `poll_*` for what to do next. It has no clock, does no I/O and never blocks. Its driver repeats:
//!
//! 1. [`Machine::handle_reply`] for every request that got a reply or failed;
//! 2. [`Machine::handle_timeout`] when the time of [`Machine::poll_timeout`] has come;
//! 3. the commands of the user;
//! 4. [`Machine::poll_request`] until it returns `None`, sending each request;
//! 5. `poll_event` until it returns `None`, waking the tasks that wait for these events;
//! 6. [`Machine::poll_timeout`], and wait until then, for a reply, or for a command.
//!
//! ```
//! use pm_core::machine::{Entropy, Machine, Producer, Request};
//! use pm_core::{Failure, Instant, EnqueueOptions, NewJob, QueueName, Rows, SchemaName, StatementId, job_id};
//!
//! struct Fixed;
//! impl Entropy for Fixed {
//!     fn next_u64(&mut self) -> u64 { 4 }
//! }
//! // In place of the database: the queue exists, so its jobs were inserted.
//! fn send(request: &impl Request) -> Result<Rows, Failure> {
//!     assert_eq!(request.plan().statement, StatementId::EnqueueFresh);
//!     let mut known = Rows::builder(4);
//!     known.push(Some(&1i32.to_be_bytes()));
//!     known.push(Some(b"mail"));
//!     known.push(Some(&[0]));
//!     known.push(Some(&1i64.to_be_bytes()));
//!     Ok(known.finish())
//! }
//!
//! let mut machine = Producer::new(&SchemaName::default());
//! let now = Instant::default();
//! let job = NewJob {
//!     id: job_id(1_700_000_000_000, [7; 10]),
//!     queue: QueueName::new("mail")?,
//!     payload: (&b"{}"[..]).into(),
//!     options: EnqueueOptions::default(),
//! };
//! machine.enqueue(job, now);                                            // 3. a command
//! let mut in_flight = Vec::new();
//! let mut events = Vec::new();
//! loop {
//!     for (request, reply) in in_flight.drain(..) {
//!         machine.handle_reply(request, reply, now, &mut Fixed);         // 1.
//!     }
//!     machine.handle_timeout(now);                                      // 2.
//!     while let Some(request) = machine.poll_request(now, &mut Fixed) { // 4.
//!         let reply = send(&request);
//!         in_flight.push((request, reply));
//!     }
//!     events.extend(std::iter::from_fn(|| machine.poll_event()));        // 5.
//!     if in_flight.is_empty() && machine.poll_timeout().is_none() {      // 6.
//!         break;
//!     }
//! }
//! assert_eq!(events.len(), 2, "the job was inserted, and its line has a ready job");
//! # Ok::<(), pm_core::Error>(())
//! ```

mod batch;
mod batcher;
mod chore;
mod maintenance;
mod notifications;
mod producer;
mod timer;
mod worker;

pub use batch::{Batch, BatchLimits, Batched, RequestId, RetryDeadlines};
pub use batcher::Batcher;
pub use maintenance::{Maintenance, MaintenanceOptions, MaintenanceReport, MaintenanceRequest};
pub use producer::{EnqueueKind, EnqueueLock, Enqueued, Producer, ProducerEvent, ProducerRequest};
pub use timer::Timer;
pub use worker::{SentClaim, SentExtend, Worker, WorkerEvent, WorkerOptions, WorkerRequest};

use crate::{Error, Failure, Instant, Plan, Rows};
use std::fmt;
use std::time::Duration;

/// A source of random bits.
pub trait Entropy {
    /// Returns 64 random bits.
    fn next_u64(&mut self) -> u64;
}

/// A request to the database. Its driver passes it back to the machine with the reply.
pub trait Request {
    /// Returns the statement and its parameters.
    fn plan(&self) -> Plan<'_>;
}

/// The rows that a statement returned, or why there are none.
pub type Reply = Result<Rows, Failure>;

/// The interface of a machine to its driver.
pub trait Machine {
    /// The requests that it sends.
    type Request: Request;

    /// Returns the next request to send. To be called until it returns `None`.
    #[must_use]
    fn poll_request(&mut self, now: Instant, entropy: &mut dyn Entropy) -> Option<Self::Request>;

    /// Handles the reply to a request, or its failure. To be called at most once per request, at any time after it.
    fn handle_reply(&mut self, request: Self::Request, reply: Reply, now: Instant, entropy: &mut dyn Entropy);

    /// Handles the passage of time. Early, late and repeated calls are harmless.
    fn handle_timeout(&mut self, now: Instant);

    /// Returns when to call [`Machine::handle_timeout`] and [`Machine::poll_request`] next, and why.
    #[must_use]
    fn poll_timeout(&self) -> Option<(Instant, Timer)>;

    /// Returns whether more items are likely to arrive in a moment, so that yielding to other tasks before the next
    /// [`Machine::poll_request`] gives fuller batches.
    #[must_use]
    fn is_gathering(&self) -> bool;
}

/// Why a command of the user failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The operation was refused.
    Refused(Error),
    /// The database could not be reached, or reported a failure.
    Failed(Failure),
    /// Either of these, after an earlier request that got no reply: it may have taken effect, or may still do so.
    Unknown(Box<Trouble>),
}

impl Trouble {
    fn unknown_if(self, unknown: bool) -> Trouble {
        if unknown { Trouble::Unknown(Box::new(self)) } else { self }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Refused(error) => error.fmt(f),
            Trouble::Failed(failure) => failure.fmt(f),
            Trouble::Unknown(trouble) => write!(f, "{trouble}; it is not known whether it was done before"),
        }
    }
}

impl std::error::Error for Trouble {}

/// Returns what `read` makes of a reply.
fn interpret<T>(reply: Reply, read: impl FnOnce(&Rows) -> Result<T, Error>) -> Result<T, Trouble> {
    let rows = reply.map_err(Trouble::Failed)?;
    read(&rows).map_err(Trouble::Refused)
}

/// Returns how long to wait after this many failures in a row: 50 ms, doubled each time up to 5 s, half of it random.
fn retry_delay(failures: u32, entropy: &mut dyn Entropy) -> Duration {
    let max =
        Duration::from_millis(50u64.saturating_mul(1 << failures.saturating_sub(1).min(7))).min(Duration::from_secs(5));
    max / 2 + scatter(max / 2, entropy)
}

/// Returns a random duration from zero to `max`.
fn scatter(max: Duration, entropy: &mut dyn Entropy) -> Duration {
    max.mul_f64((entropy.next_u64() >> 11) as f64 / (1u64 << 53) as f64)
}
