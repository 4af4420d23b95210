//! A pool of the caller's.

use crate::cell::Parameter;
use crate::connection::{collect, failure, parameter_types, words};
use crate::{ConnectOptions, Error, Queue};
use deadpool_postgres::{Object, Pool, PoolError};
use pm_queue::runtime::Tokio;
use pm_queue::{BoxFuture, Driver, Executor, Failure, Rows, Statement, Value};
use std::sync::Arc;

/// Returns a handle on the queues of a database that a pool of the caller's leads to.
///
/// Statements run on connections of the pool, one at a time each: less is shared than with [`connect`](crate::connect),
/// which is faster. Plans and timeouts are those of the pool's sessions. There are no notifications: idle streams poll.
/// Closing the queue leaves the pool open.
///
/// # Errors
///
/// As [`connect_with`](crate::connect_with).
pub async fn from_pool(pool: Pool, options: ConnectOptions) -> Result<Queue, Error> {
    Queue::open(Arc::new(PoolDriver(pool)), Arc::new(Tokio::current()), &options).await
}

/// Carries statements over a pool of the caller's.
struct PoolDriver(Pool);

impl PoolDriver {
    async fn client(&self) -> Result<Object, Failure> {
        self.0.get().await.map_err(|error| match &error {
            PoolError::Backend(backend) if backend.as_db_error().is_some() => failure(backend, true),
            other => Failure::not_sent(format!("no connection from the pool: {}", words(other))),
        })
    }
}

impl Executor for PoolDriver {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        Box::pin(async move {
            let client = Lent(Some(self.client().await?));
            let answer = answer(&client, statement, params).await;
            client.give_back();
            answer
        })
    }
}

async fn answer(client: &Object, statement: &Statement, params: &[Value<'_>]) -> Result<Rows, Failure> {
    let failed = |error| failure(&error, client.is_closed());
    let prepared = client.prepare_typed_cached(&statement.text, &parameter_types(statement)).await.map_err(failed)?;
    let rows = client.query_raw(&prepared, params.iter().map(Parameter)).await.map_err(failed)?;
    collect(rows, statement).await.map_err(failed)
}

/// A connection of the pool: given back when it has answered, and otherwise taken out of the pool.
struct Lent(Option<Object>);

impl Lent {
    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl std::ops::Deref for Lent {
    type Target = Object;

    fn deref(&self) -> &Object {
        self.0.as_ref().expect("it is there until it is given back")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Object::take(client));
        }
    }
}

impl Driver for PoolDriver {
    fn run_script<'a>(&'a self, script: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            // Taken out of the pool: a script that fails inside its transaction leaves the connection in there.
            let client = Object::take(self.client().await?);
            client.batch_execute(script).await.map_err(|error| failure(&error, client.is_closed()))
        })
    }
}
