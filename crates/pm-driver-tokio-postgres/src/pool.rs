//! The driver over the caller's deadpool-postgres pool.

use crate::enclosing::Enclosing;
use crate::statement::{failure, message_chain};
use crate::{ConnectOptions, Error, Queue, TokioPostgres};
use deadpool_postgres::{Object, Pool, PoolError};
use pm_queue::driver::{
    BorrowedConnection, BoxFuture, Driver, Executor, Failure, Listener, Room, Rows, Statement, Value,
};
use pm_queue::runtime::Tokio;
use std::sync::Arc;

/// Opens a handle on the queues of a database, over the caller's pool. Call it in a tokio runtime.
///
/// Each connection of the pool carries one statement at a time. Statements are not prepared, so the pool may lead to a
/// transaction pooler, but [`connect`](crate::connect) is faster. Each statement runs in a transaction that begins
/// with timeouts and planner settings, all in one round trip, and leaves the sessions of the pool unchanged. There are
/// no notifications unless the options set a `listener_url`, so idle streams poll. Closing the queue does not close
/// the pool. Options about single connections have no effect.
///
/// # Errors
///
/// As [`connect_with`](crate::connect_with).
pub async fn from_pool(pool: Pool, options: ConnectOptions) -> Result<Queue, Error> {
    let runtime = Arc::new(Tokio::current());
    let listener = options.listens_at().map(|url| TokioPostgres::on(url, &options, runtime.clone())).transpose()?;
    let driver = PoolDriver { pool, enclosing: Enclosing::new(&options), listener };
    Queue::open(Arc::new(driver), runtime, &options).await
}

/// Carries statements over the caller's pool.
struct PoolDriver {
    pool: Pool,
    enclosing: Enclosing,
    /// Opens the listener's connection, if the options set its URL; carries no statements.
    listener: Option<TokioPostgres>,
}

impl PoolDriver {
    async fn client(&self) -> Result<Object, Failure> {
        self.pool.get().await.map_err(|error| match &error {
            PoolError::Backend(backend) if backend.as_db_error().is_some() => failure(backend, true),
            other => Failure::not_sent(format!("no connection from the pool: {}", message_chain(other))),
        })
    }
}

impl Executor for PoolDriver {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        Box::pin(async move {
            let mut borrowed = BorrowedConnection::new(self.client().await?, |client| drop(Object::take(client)));
            let client = borrowed.connection();
            let answer = self.enclosing.run(client, statement, params).await;
            let answer = answer.map_err(|error| failure(&error, client.is_closed()));
            borrowed.give_back(answer)
        })
    }
}

impl Driver for PoolDriver {
    fn room(&self) -> Room {
        Room::of_pool(self.pool.status().max_size)
    }

    fn opens_connections(&self) -> bool {
        false
    }

    fn run_script<'a>(&'a self, script: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            // Taken out of the pool, because a script that fails leaves its connection inside the failed transaction.
            let client = Object::take(self.client().await?);
            client.batch_execute(script).await.map_err(|error| failure(&error, client.is_closed()))
        })
    }

    fn listen<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Option<Box<dyn Listener>>, Failure>> {
        match &self.listener {
            Some(listener) => listener.listen(channel),
            None => Box::pin(async { Ok(None) }),
        }
    }
}
