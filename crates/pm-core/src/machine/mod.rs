//! The machines that decide over time what to send: [`Worker`] for jobs coming out, [`Producer`] for jobs going in.
//!
//! A machine has four kinds of method only: getters; `handle_*(.., now)` for what happened; verbs for what the user
//! wants; and `poll_*` for what to do next. It keeps no clock, sends nothing and never blocks. Whoever drives it repeats:
//!
//! 1. [`Machine::handle_reply`] for every request that was answered or failed;
//! 2. [`Machine::handle_timeout`] when the time of [`Machine::poll_timeout`] has come;
//! 3. the user's verbs, as they are called;
//! 4. [`Machine::poll_request`] until it returns `None`, sending each request as it comes;
//! 5. `poll_event` until it returns `None`, waking whoever waits;
//! 6. [`Machine::poll_timeout`], and sleep until then, an answer, or a verb.
//!
//! ```
//! use pm_core::machine::{Entropy, Machine, Producer, Request};
//! use pm_core::{Failure, Instant, JobOptions, NewJob, QueueName, Rows, SchemaName, StatementId, job_id};
//!
//! struct Fixed;
//! impl Entropy for Fixed {
//!     fn next_u64(&mut self) -> u64 { 4 }
//! }
//! // Stands for the database: an empty reply to an enqueue says that everything went in.
//! fn send(request: &impl Request) -> Result<Rows, Failure> {
//!     assert_eq!(request.plan().statement, StatementId::Enqueue);
//!     Ok(Rows::builder(3).finish())
//! }
//!
//! let mut machine = Producer::new(&SchemaName::default());
//! let now = Instant::default();
//! let job = NewJob {
//!     id: job_id(1_700_000_000_000, [7; 10]),
//!     queue: QueueName::new("mail")?,
//!     payload: (&b"{}"[..]).into(),
//!     options: JobOptions::default(),
//! };
//! machine.enqueue(job, now);                                            // 3. a verb
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
//! assert_eq!(events.len(), 2, "the job went in, and its line is ready");
//! # Ok::<(), pm_core::Error>(())
//! ```

mod batch;
mod batcher;
mod notifications;
mod producer;
mod timer;
mod worker;

pub use batch::{Batch, BatchLimits, Batched, RequestId, RetryDeadlines};
pub use batcher::Batcher;
pub use producer::{EnqueueKind, EnqueueLock, Enqueued, Producer, ProducerEvent, ProducerRequest};
pub use timer::Timer;
pub use worker::{SentClaim, SentExtend, TakenJob, Worker, WorkerEvent, WorkerOptions, WorkerRequest};

use crate::{Error, Failure, Instant, Plan, Rows};
use std::fmt;
use std::time::Duration;

/// A source of random bits.
pub trait Entropy {
    /// Returns 64 random bits.
    fn next_u64(&mut self) -> u64;
}

/// Something to send to the database, handed back with the reply.
pub trait Request {
    /// Returns the statement and its parameters.
    fn plan(&self) -> Plan<'_>;
}

/// What drives a machine needs to know of it.
pub trait Machine {
    /// What it wants sent.
    type Request: Request;

    /// Returns the next request to send; to be called until it returns `None`.
    #[must_use]
    fn poll_request(&mut self, now: Instant, entropy: &mut dyn Entropy) -> Option<Self::Request>;

    /// Takes note of what became of a request. Each request is answered at most once; an answer that comes late is as good as any.
    fn handle_reply(
        &mut self,
        request: Self::Request,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    );

    /// Takes note of the time; early, late and repeated calls do no harm.
    fn handle_timeout(&mut self, now: Instant);

    /// Returns when to call [`Machine::handle_timeout`] and [`Machine::poll_request`] next, and why.
    #[must_use]
    fn poll_timeout(&self) -> Option<(Instant, Timer)>;

    /// Returns whether more to send is likely to come in a moment, so that letting others run first makes fuller batches.
    #[must_use]
    fn is_gathering(&self) -> bool;
}

/// Why something the user asked for did not come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The database said no.
    Refused(Error),
    /// The database could not be asked, or failed.
    Failed(Failure),
    /// The same, of something that was sent before and not answered: it may have been done, or may still be.
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
            Trouble::Unknown(trouble) => write!(f, "{trouble}; whether it was done before is not known"),
        }
    }
}

impl std::error::Error for Trouble {}

/// Returns how long to wait after so many failures in a row: 50 ms, doubled each time up to 5 s, half of it random.
fn retry_delay(failures: u32, entropy: &mut dyn Entropy) -> Duration {
    let longest =
        Duration::from_millis(50u64.saturating_mul(1 << failures.saturating_sub(1).min(7))).min(Duration::from_secs(5));
    longest / 2 + scatter(longest / 2, entropy)
}

/// Returns a random duration from zero to `most`.
fn scatter(most: Duration, entropy: &mut dyn Entropy) -> Duration {
    most.mul_f64((entropy.next_u64() >> 11) as f64 / (1u64 << 53) as f64)
}
