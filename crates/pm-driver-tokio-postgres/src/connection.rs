//! One pipelined connection and its prepared statements.

use crate::cell::{Cell, Parameter};
use crate::enclosing::Enclosing;
use futures_util::TryStreamExt;
use pm_core::StatementId;
use pm_queue::{Failure, Rows, Statement, Value};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, RowStream};

/// A connection. Statements of many tasks are pipelined on it.
pub(crate) struct Connection {
    client: Client,
    /// What each statement's transaction begins with, through a transaction pooler; otherwise the session keeps settings and
    /// prepared statements.
    enclosing: Option<Enclosing>,
    prepared: Mutex<HashMap<StatementId, tokio_postgres::Statement>>,
    in_flight: AtomicUsize,
    /// When it was last idle or answered, in milliseconds after `opened_at`.
    moved_at: AtomicU64,
    opened_at: Instant,
    /// Whether no further statement is sent: one timed out, or was told that this is no primary.
    retired: AtomicBool,
}

/// A connection that has not answered for so long is held up, by a lock perhaps.
const HELD_UP_MS: u64 = 50;

/// Counts a statement in flight; retires the connection when the statement is dropped unanswered.
struct InFlight<'a> {
    connection: &'a Connection,
    retires: bool,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.connection.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.connection.moved();
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
            moved_at: AtomicU64::new(0),
            opened_at: Instant::now(),
            retired: AtomicBool::new(false),
        }
    }

    /// Returns how many statements wait for their answer; far more when none has been answered for a while.
    pub(crate) fn load(&self) -> usize {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        let since = self.age_ms().saturating_sub(self.moved_at.load(Ordering::Relaxed));
        in_flight + if in_flight > 0 && since > HELD_UP_MS { usize::MAX / 2 } else { 0 }
    }

    fn moved(&self) {
        self.moved_at.store(self.age_ms(), Ordering::Relaxed);
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.opened_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns whether statements can be sent on it.
    pub(crate) fn is_usable(&self) -> bool {
        !self.client.is_closed() && !self.retired.load(Ordering::Relaxed)
    }

    pub(crate) async fn run(&self, statement: &Statement, params: &[Value<'_>]) -> Result<Rows, Failure> {
        if self.in_flight.fetch_add(1, Ordering::Relaxed) == 0 {
            self.moved();
        }
        let mut in_flight = InFlight { connection: self, retires: true };
        let answer = self.answer(statement, params).await.map_err(|error| self.failure(&error));
        in_flight.retires = answer.as_ref().is_err_and(|failure| failure.is_read_only() || failure.ends_session());
        answer
    }

    pub(crate) async fn run_script(&self, script: &str) -> Result<(), Failure> {
        self.client.batch_execute(script).await.map_err(|error| self.failure(&error))
    }

    async fn answer(&self, statement: &Statement, params: &[Value<'_>]) -> Result<Rows, Error> {
        if let Some(enclosing) = &self.enclosing {
            return enclosing.run(&self.client, statement, params).await;
        }
        let rows = self.client.query_raw(&self.prepared(statement).await?, params.iter().map(Parameter)).await?;
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

/// Returns the types of a statement's parameters.
pub(crate) fn parameter_types(statement: &Statement) -> Vec<Type> {
    statement.params.iter().filter_map(|ty| postgres_type(ty.oid())).collect()
}

/// Returns the parameters with their types.
pub(crate) fn typed<'a>(params: &'a [Value<'a>]) -> impl ExactSizeIterator<Item = (Parameter<'a>, Type)> {
    params.iter().map(|param| (Parameter(param), postgres_type(param.ty().oid()).unwrap_or(Type::UNKNOWN)))
}

/// Returns the rows of a reply.
pub(crate) async fn collect(rows: RowStream, statement: &Statement) -> Result<Rows, Error> {
    let mut rows = pin!(rows);
    let mut collected = Rows::builder(statement.columns.len());
    while let Some(row) = rows.try_next().await? {
        for column in 0..row.len() {
            collected.push(row.try_get::<_, Cell<'_>>(column)?.0);
        }
    }
    Ok(collected.finish())
}

/// Returns what an error allows, for a connection that is closed or not.
pub(crate) fn failure(error: &Error, closed: bool) -> Failure {
    if let Some(reported) = error.as_db_error() {
        let told = Failure::reported(reported.code().code(), reported.constraint(), reported.message());
        return told.with_detail(reported.detail());
    }
    let broken = std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>());
    match closed || broken || error.is_closed() {
        true => Failure::no_reply(words(error)),
        false => Failure::unsendable(words(error)),
    }
}

fn postgres_type(oid: u32) -> Option<Type> {
    Type::from_oid(oid)
}

/// Returns an error with its causes in one line.
pub(crate) fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let said = source.to_string();
        if !words.contains(&said) {
            words = format!("{words}: {said}");
        }
        cause = source.source();
    }
    words
}
