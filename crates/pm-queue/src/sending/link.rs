//! Sending statements: the driver, runtime, randomness and statements that all parts of a queue share.

use super::gates::Gates;
use super::order::{Order, turn_timeout};
use crate::ConnectOptions;
use crate::driver::{Driver, Executor};
use crate::observe::{Event, Observing, Span, tracing_observer};
use crate::runtime::{Randomness, Runtime};
use futures_util::future::{Either, select};
use pm_core::machine::{Entropy, Trouble};
use pm_core::op::{Encoding, Privileges};
use pm_core::{
    Catalog, Class, Error, Failure, Instant, Operation, Plan, Rows, SchemaName, Statement, StatementId, Value,
};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// How much longer than the server's statement timeout the client waits for a reply.
const REPLY_SLACK: Duration = Duration::from_secs(5);
/// The slowest connection, about 1 Mbit/s, on which the client waits until a payload is sent.
const SLOWEST_BYTES_PER_SECOND: u64 = 128 << 10;
/// How often an operation is tried when a failure is likely to be transient.
const MAX_TRIES: u32 = 3;
/// A repeatable statement is only sent again if the connection was lost within this time.
const RESEND_WITHIN: Duration = Duration::from_secs(1);
/// After this many failures in a row there is an outage: a single one may be a restart.
const OUTAGE_FAILURES: u32 = 2;

pub(crate) struct Link {
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) randomness: Arc<dyn Randomness>,
    pub(crate) catalog: Catalog,
    pub(crate) statement_timeout: Duration,
    pub(crate) lock_timeout: Duration,
    pub(crate) observing: Observing,
    /// The encoding of the database, once a statement has needed it.
    encoding: OnceLock<String>,
    gates: Gates,
    order: Order,
    counters: HealthCounters,
}

/// Counts failures to reach the database.
#[derive(Default)]
struct HealthCounters {
    failures_in_a_row: AtomicU32,
    /// The number of consecutive claims that the server has refused, or not run because of a lock.
    claims_in_a_row: AtomicU32,
    /// The total number of replies that were lost, or came from a read-only server.
    lost_servers: AtomicU32,
    last: Mutex<Option<String>>,
    /// When the outage began that was reported last, if it has not healed. Only with an observer.
    outage: Mutex<Option<Instant>>,
}

impl Link {
    pub(crate) fn new(
        driver: Arc<dyn Driver>,
        runtime: Arc<dyn Runtime>,
        randomness: Arc<dyn Randomness>,
        options: &ConnectOptions,
    ) -> Result<Self, Error> {
        let catalog = Catalog::new(&SchemaName::new(&options.schema)?);
        let mut observing = options.observing.clone();
        tracing_observer().into_iter().for_each(|observer| observing.add(observer));
        Ok(Link {
            gates: Gates::new(driver.room()),
            driver,
            runtime,
            randomness,
            catalog,
            statement_timeout: options.statement_timeout,
            lock_timeout: options.lock_timeout,
            observing,
            encoding: OnceLock::new(),
            order: Order::default(),
            counters: HealthCounters::default(),
        })
    }

    pub(crate) fn now(&self) -> Instant {
        self.runtime.now()
    }

    /// Sends a plan and waits for its rows, a little longer than the server's statement timeout.
    pub(crate) async fn send(&self, plan: &Plan<'_>) -> Result<Rows, Failure> {
        let span = Span::statement(plan);
        let reply = span.run(self.send_in_span(plan)).await;
        span.record_ok(reply.is_ok());
        reply
    }

    async fn send_in_span(&self, plan: &Plan<'_>) -> Result<Rows, Failure> {
        let (class, begin) = (plan.statement.class(), self.begin_if_observed());
        let entered =
            self.gates.enter(class, self.reply_timeout(), |reply_timeout| self.runtime.sleep(reply_timeout)).await;
        let _permit = entered.inspect_err(|_| self.observe_statement(plan.statement, begin, false))?;
        let mut reply = self.send_by(&*self.driver, plan).await;
        if reply.as_ref().is_err_and(Failure::is_unstorable) && plan.has_uncommon_text() {
            let encoding = self.encoding(&*self.driver).await;
            if let Some(fitted) = plan.fitted_texts(encoding.unwrap_or_default()) {
                reply = self.send_by(&*self.driver, &fitted.plan(plan)).await;
            }
        }
        if let Err(failure) = &reply
            && failure.is_forbidden()
        {
            reply = Err(self.explain(failure.clone(), plan.statement).await);
        }
        self.record(plan.statement, &reply);
        self.observe_statement(plan.statement, begin, reply.is_ok());
        reply
    }

    /// Returns the time, if there is an observer.
    fn begin_if_observed(&self) -> Option<Instant> {
        self.observing.is_on().then(|| self.now())
    }

    /// Reports a statement that began at `begin` to the observer, and whether an outage began or healed.
    fn observe_statement(&self, statement: StatementId, begin: Option<Instant>, ok: bool) {
        let Some(begin) = begin else { return };
        let now = self.now();
        self.observing.observe(&Event::Statement { name: statement.name(), took: now.since(begin), ok });
        // Held while the events are observed, so that they come in order. No call of the observer needs it.
        let mut outage = self.counters.outage.lock().unwrap_or_else(PoisonError::into_inner);
        match *outage {
            None if self.failures() >= OUTAGE_FAILURES => {
                *outage = Some(now);
                let why = self.health().1.unwrap_or_default();
                self.observing.observe(&Event::OutageBegan { why: &why });
            }
            Some(since) if self.failures() == 0 => {
                *outage = None;
                self.observing.observe(&Event::OutageHealed { lasted: now.since(since) });
            }
            _ => {}
        }
    }

    /// Adds to the failure of a refused statement which privileges the role lacks, if that can be determined.
    async fn explain(&self, failure: Failure, statement: StatementId) -> Failure {
        let privileges = Privileges::of_current_role();
        let reply = self.send_by(&*self.driver, &privileges.plan()).await;
        match reply.ok().and_then(|rows| privileges.interpret(&rows).ok()) {
            Some(held) => held.explain(failure, statement),
            None => failure,
        }
    }

    /// Returns the encoding of the database, which is queried once.
    async fn encoding(&self, executor: &dyn Executor) -> Result<&str, Trouble> {
        if self.encoding.get().is_none() {
            let rows = self.send_by(executor, &Encoding.plan()).await.map_err(Trouble::Failed)?;
            // Another task may have set it first, to the same value.
            drop(self.encoding.set(Encoding.interpret(&rows).map_err(Trouble::Refused)?));
        }
        Ok(self.encoding.get().map(String::as_str).unwrap_or_default())
    }

    async fn send_by(&self, executor: &dyn Executor, plan: &Plan<'_>) -> Result<Rows, Failure> {
        self.send_as(executor, self.catalog.statement(plan.statement), plan).await
    }

    async fn send_as(&self, executor: &dyn Executor, statement: &Statement, plan: &Plan<'_>) -> Result<Rows, Failure> {
        let reply_timeout = self.reply_timeout().saturating_add(sending_time(&plan.params));
        let reply = pin!(executor.run(statement, &plan.params));
        let timeout = || self.runtime.sleep(reply_timeout);
        let no_reply = || Err(Failure::no_reply(format!("no reply within {reply_timeout:?}")));
        if statement.id.runs_in_order() {
            let (turn, before) = self.order.next();
            return match select(reply, pin!(turn_timeout(before, timeout))).await {
                Either::Left((reply, _)) => {
                    turn.end();
                    reply
                }
                Either::Right(_) => no_reply(),
            };
        }
        match select(reply, timeout()).await {
            Either::Left((reply, _)) => reply,
            Either::Right(_) => no_reply(),
        }
    }

    /// Returns how long the client waits for a reply.
    fn reply_timeout(&self) -> Duration {
        self.statement_timeout.saturating_add(REPLY_SLACK)
    }

    fn record(&self, statement: StatementId, reply: &Result<Rows, Failure>) {
        // A failed claim is soon sent again, so the number drops to zero once the cause is gone.
        if statement == StatementId::Claim {
            match reply {
                Ok(_) => self.counters.claims_in_a_row.store(0, Ordering::Relaxed),
                // Other failures are counted below, by any statement.
                Err(failure)
                    if !failure.is_read_only() && !matches!(failure.class(), Class::Permanent | Class::Blocked) => {}
                Err(failure) => {
                    self.counters.claims_in_a_row.fetch_add(1, Ordering::Relaxed);
                    *self.counters.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.to_string());
                }
            }
        }
        let is_lost = |failure: &Failure| failure.class() == Class::Unknown || failure.is_read_only();
        if reply.as_ref().is_err_and(is_lost) {
            self.counters.lost_servers.fetch_add(1, Ordering::Relaxed);
        }
        match reply {
            Err(failure) if failure.is_connection() => {
                self.counters.failures_in_a_row.fetch_add(1, Ordering::Relaxed);
                *self.counters.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.to_string());
            }
            _ => self.counters.failures_in_a_row.store(0, Ordering::Relaxed),
        }
    }

    /// Returns a number that changes whenever a server stops answering, or stops accepting writes.
    pub(crate) fn lost_servers(&self) -> u32 {
        self.counters.lost_servers.load(Ordering::Relaxed)
    }

    /// Returns the number of consecutive statements that did not reach the database, or of consecutive claims that
    /// failed if that is larger, and the message of the last such failure.
    pub(crate) fn health(&self) -> (u32, Option<String>) {
        let last = self.counters.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (self.failures(), last)
    }

    fn failures(&self) -> u32 {
        let claims = self.counters.claims_in_a_row.load(Ordering::Relaxed);
        self.counters.failures_in_a_row.load(Ordering::Relaxed).max(claims)
    }

    /// Runs one operation in a caller's transaction, once.
    pub(crate) async fn run_in<O: Operation>(
        &self,
        executor: &dyn Executor,
        operation: O,
    ) -> Result<O::Output, Trouble> {
        let plan = operation.plan();
        let fitted = match plan.has_uncommon_text() {
            // An unstorable text would abort the transaction, so the encoding is queried first, on the same
            // connection: there may be no other.
            true => plan.fitted_texts(self.encoding(executor).await?),
            false => None,
        };
        let (id, statement) = (plan.statement, self.catalog.statement_in_transaction(plan.statement));
        let begin = self.begin_if_observed();
        let reply = match &fitted {
            Some(fitted) => self.send_as(executor, statement, &fitted.plan(&plan)).await,
            None => self.send_as(executor, statement, &plan).await,
        };
        drop(plan);
        if let Some(begin) = begin {
            // A transaction's connection is the caller's: its failures are no outage of pm's.
            let took = self.now().since(begin);
            self.observing.observe(&Event::Statement { name: id.name(), took, ok: reply.is_ok() });
        }
        match reply {
            Ok(rows) => operation.interpret(&rows).map_err(Trouble::Refused),
            Err(failure) => Err(trouble(&operation, failure)),
        }
    }

    /// Runs one operation. Tries again after a transient failure, or if the connection was lost at once and repeating
    /// the statement is safe.
    pub(crate) async fn run<O: Operation>(&self, operation: O) -> Result<O::Output, Trouble> {
        let (mut tries, begin) = (1, self.now());
        loop {
            match self.send(&operation.plan()).await {
                Ok(rows) => return operation.interpret(&rows).map_err(Trouble::Refused),
                Err(failure) if tries < MAX_TRIES && is_transient(&failure) => tries += 1,
                // Usually the session had already ended. A statement that ran into its timeout is not repeated.
                Err(failure)
                    if tries < MAX_TRIES
                        && failure.class() == Class::Unknown
                        && O::STATEMENT.is_repeatable()
                        && self.now().since(begin) < RESEND_WITHIN =>
                {
                    tries += 1;
                }
                Err(failure) => return Err(trouble(&operation, failure)),
            }
            self.runtime.sleep(Duration::from_millis(20) * tries).await;
        }
    }
}

/// Returns the operation's own refusal, if the failure means one.
fn trouble(operation: &impl Operation, failure: Failure) -> Trouble {
    operation.refusal(&failure).map_or(Trouble::Failed(failure), Trouble::Refused)
}

/// Returns how long sending the payloads may take, before the server's statement timeout begins.
fn sending_time(params: &[Value<'_>]) -> Duration {
    let bytes: usize = (params.iter())
        .map(|param| match param {
            Value::Bytes(bytes) => bytes.len(),
            Value::BytesArray(values) => values.iter().flatten().map(|bytes| bytes.len()).sum(),
            _ => 0,
        })
        .sum();
    Duration::from_secs(bytes as u64 / SLOWEST_BYTES_PER_SECOND)
}

/// Returns whether the server certainly did not run the statement and it may succeed a moment later: after a deadlock,
/// for example, or when two jobs took one key at the same time.
fn is_transient(failure: &Failure) -> bool {
    failure.is_key_conflict()
        || failure.class() == Class::Retry
            && failure.sqlstate().is_some()
            && (!failure.is_connection() || failure.ends_session())
}

/// Adapts a queue's source of randomness to a machine's.
pub(crate) struct CoreEntropy<'a>(pub(crate) &'a dyn Randomness);

impl Entropy for CoreEntropy<'_> {
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}
