//! A connection on which statements are pipelined, with its prepared statements.

use crate::cell::Parameter;
use crate::enclosing::Enclosing;
use crate::statement::{collect, failure, parameter_types};
use pm_queue::driver::{Failure, Rows, Statement, StatementId, Value};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Instant;
use tokio::sync::MutexGuard;
use tokio_postgres::{Client, Error};

/// A connection on which the statements of many tasks are pipelined.
pub(crate) struct Connection {
    client: Client,
    /// Runs each statement in its own transaction, through a transaction pooler. Without it the session keeps settings
    /// and prepared statements.
    enclosing: Option<Enclosing>,
    prepared: Mutex<HashMap<StatementId, tokio_postgres::Statement>>,
    in_flight: AtomicUsize,
    /// How many of these run in order.
    in_order: AtomicUsize,
    /// When it was last idle or received a reply, in milliseconds after `opened_at`.
    active_at: AtomicU64,
    opened_at: Instant,
    /// Whether no further statement is sent: one has timed out, or the server does not accept writes.
    retired: AtomicBool,
}

/// A connection without a reply for this time counts as blocked, perhaps by a lock.
const BLOCKED_AFTER_MS: u64 = 50;

/// Counts a statement in flight. Retires the connection if the statement is dropped before its reply.
struct InFlight<'a> {
    connection: &'a Connection,
    is_in_order: bool,
    retires: bool,
}

/// The turn of a statement that runs in order: it ends when the statement is written.
pub(crate) type Turn<'a> = MutexGuard<'a, Weak<Connection>>;

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.connection.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.connection.in_order.fetch_sub(usize::from(self.is_in_order), Ordering::Relaxed);
        self.connection.mark_active();
        if self.retires {
            self.connection.retired.store(true, Ordering::Relaxed);
        }
    }
}

impl Connection {
    pub(crate) fn new(client: Client, enclosing: Option<Enclosing>) -> Self {
        Connection {
            client,
            enclosing,
            prepared: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            in_order: AtomicUsize::new(0),
            active_at: AtomicU64::new(0),
            opened_at: Instant::now(),
            retired: AtomicBool::new(false),
        }
    }

    /// Returns the number of statements in flight, plus a large number if there was no reply for a while.
    pub(crate) fn load(&self) -> usize {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        let inactive_ms = self.age_ms().saturating_sub(self.active_at.load(Ordering::Relaxed));
        in_flight + if in_flight > 0 && inactive_ms > BLOCKED_AFTER_MS { usize::MAX / 2 } else { 0 }
    }

    fn mark_active(&self) {
        self.active_at.store(self.age_ms(), Ordering::Relaxed);
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.opened_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns whether statements can be sent on it.
    pub(crate) fn is_usable(&self) -> bool {
        !self.client.is_closed() && !self.retired.load(Ordering::Relaxed)
    }

    /// Returns whether statements that run in order are in flight on it, so that another one goes behind them.
    pub(crate) fn is_running_in_order(&self) -> bool {
        self.is_usable() && self.in_order.load(Ordering::Relaxed) > 0
    }

    /// Runs a statement: one that runs in order before those whose turn comes later.
    pub(crate) async fn run(
        &self,
        statement: &Statement,
        params: &[Value<'_>],
        turn: Option<Turn<'_>>,
    ) -> Result<Rows, Failure> {
        if self.in_flight.fetch_add(1, Ordering::Relaxed) == 0 {
            self.mark_active();
        }
        let is_in_order = turn.is_some();
        self.in_order.fetch_add(usize::from(is_in_order), Ordering::Relaxed);
        let mut in_flight = InFlight { connection: self, is_in_order, retires: true };
        let answer = self.answer(statement, params, turn).await.map_err(|error| self.failure(&error));
        in_flight.retires = answer.as_ref().is_err_and(|failure| failure.is_read_only() || failure.ends_session());
        answer
    }

    pub(crate) async fn run_script(&self, script: &str) -> Result<(), Failure> {
        self.client.batch_execute(script).await.map_err(|error| self.failure(&error))
    }

    async fn answer(&self, statement: &Statement, params: &[Value<'_>], turn: Option<Turn<'_>>) -> Result<Rows, Error> {
        if let Some(enclosing) = &self.enclosing {
            return written(turn, enclosing.run(&self.client, statement, params)).await;
        }
        let prepared = self.prepared(statement).await?;
        let rows = written(turn, self.client.query_raw(&prepared, params.iter().map(Parameter))).await?;
        collect(rows, statement).await
    }

    async fn prepared(&self, statement: &Statement) -> Result<tokio_postgres::Statement, Error> {
        let known = self.lock_prepared().get(&statement.id).cloned();
        if let Some(prepared) = known {
            return Ok(prepared);
        }
        let prepared = self.client.prepare_typed(&statement.text, &parameter_types(statement)).await?;
        self.lock_prepared().insert(statement.id, prepared.clone());
        Ok(prepared)
    }

    fn lock_prepared(&self) -> std::sync::MutexGuard<'_, HashMap<StatementId, tokio_postgres::Statement>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self, error: &Error) -> Failure {
        failure(error, self.client.is_closed())
    }
}

/// Runs a statement, and ends its turn when it is written, which is when it is first polled.
async fn written<T>(mut turn: Option<Turn<'_>>, statement: impl Future<Output = T>) -> T {
    let mut statement = pin!(statement);
    poll_fn(|cx| {
        let polled = statement.as_mut().poll(cx);
        turn = None;
        polled
    })
    .await
}
