//! A pool of the caller's.

use crate::connection::{failure, words};
use crate::enclosing::Enclosing;
use crate::{ConnectOptions, Error, Queue, TokioPostgres};
use deadpool_postgres::{Object, Pool, PoolError};
use pm_queue::runtime::Tokio;
use pm_queue::{BorrowedConnection, BoxFuture, Driver, Executor, Failure, Listener, Room, Rows, Statement, Value};
use std::sync::Arc;

/// Returns a handle on the queues of a database that a pool of the caller's leads to.
///
/// Statements run on connections of the pool, one at a time each, and are sent whole each time, so that the pool may lead
/// to a transaction pooler: [`connect`](crate::connect) is faster. Each runs in a transaction that begins with timeouts
/// and settings for its plan, all in one round trip, so that nothing is left in the pool's sessions. There are no notifications, and idle streams poll, unless the options name a `listener_url`. Closing the queue leaves
/// the pool open. Of the other options, those that concern single connections have no effect.
///
/// # Errors
///
/// As [`connect_with`](crate::connect_with).
pub async fn from_pool(pool: Pool, options: ConnectOptions) -> Result<Queue, Error> {
    let runtime = Arc::new(Tokio::current());
    let listener = options.listens_at().map(|url| TokioPostgres::on(url, &options, runtime.clone())).transpose()?;
    let driver = PoolDriver { pool, enclosing: Enclosing::new(&options), listener };
    let queue = Queue::open(Arc::new(driver), runtime, &options).await?;
    // Through a pooler it has been done.
    if options.check_schema && !options.pooler {
        queue.advance_positions().await;
    }
    Ok(queue)
}

/// Carries statements over a pool of the caller's.
struct PoolDriver {
    pool: Pool,
    enclosing: Enclosing,
    /// Carries no statements, only notifications, if they can be heard at all.
    listener: Option<TokioPostgres>,
}

impl PoolDriver {
    async fn client(&self) -> Result<Object, Failure> {
        self.pool.get().await.map_err(|error| match &error {
            PoolError::Backend(backend) if backend.as_db_error().is_some() => failure(backend, true),
            other => Failure::not_sent(format!("no connection from the pool: {}", words(other))),
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

    fn run_script<'a>(&'a self, script: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            // Taken out of the pool: a script that fails inside its transaction leaves the connection in there.
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
