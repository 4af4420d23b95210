//! The traits that a driver implements: it carries statements to the database and rows back.

use super::Room;
use pm_core::{Failure, Rows, Statement, Value};
use std::pin::Pin;

/// A boxed future. The cost of the box is negligible beside a round trip to the database.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs statements: on a set of connections, on one connection, or in a caller's transaction.
pub trait Executor: Send + Sync {
    /// Runs one statement and returns its rows.
    ///
    /// `params` have the types of `statement.params`, in order. Every cell is returned in binary format.
    /// `statement.id` identifies the statement for the lifetime of the driver, so it can be kept prepared under it.
    ///
    /// The future is dropped before it completes only when the statement has timed out; do not use its connection
    /// again then.
    ///
    /// # Errors
    ///
    /// [`Failure::reported`] with the SQLSTATE when the server reported an error, [`Failure::not_sent`] when the
    /// statement was certainly not sent, [`Failure::no_reply`] when it may have run.
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>>;

    /// Returns whether `NOTIFY` may be sent. It must not be in a transaction that will be prepared; see
    /// [`WithoutNotify`].
    fn notifies(&self) -> bool {
        true
    }
}

/// A caller's transaction that sends no notification, so that it can be prepared for a two-phase commit.
///
/// Postgres refuses `PREPARE TRANSACTION` after `NOTIFY`, which [`Queue::enqueue_in`](crate::Queue::enqueue_in) sends
/// when workers may be idle. Without this wrapper the refusal would depend on the load. After `COMMIT PREPARED` call
/// [`Queue::wake_workers`](crate::Queue::wake_workers); otherwise idle workers find the jobs only when they poll,
/// within 30 s ([`StreamOptions::idle_poll`](crate::StreamOptions::idle_poll)).
///
/// ```no_run
/// # use pm_queue::{EnqueueOptions, Error, Queue};
/// # use pm_queue::driver::{Executor, WithoutNotify};
/// # async fn order(queue: &Queue, inside: &dyn Executor) -> Result<(), Error> {
/// queue.enqueue_in(&WithoutNotify(inside), "mails", "order confirmed", EnqueueOptions::default()).await?;
/// // PREPARE TRANSACTION 'order 7'. When all participants have prepared: COMMIT PREPARED 'order 7'. Then:
/// queue.wake_workers().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct WithoutNotify<'a>(pub &'a dyn Executor);

impl std::fmt::Debug for WithoutNotify<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WithoutNotify")
    }
}

impl Executor for WithoutNotify<'_> {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        self.0.run(statement, params)
    }

    fn notifies(&self) -> bool {
        false
    }
}

/// The database as a [`Queue`](crate::Queue) uses it.
///
/// Many tasks run statements at the same time; the driver decides on how many connections. It opens a new connection
/// in place of a lost one on the next use.
pub trait Driver: Executor + 'static {
    /// Runs a script of several statements, without parameters or rows, as one simple query.
    ///
    /// # Errors
    ///
    /// As [`Executor::run`].
    fn run_script<'a>(&'a self, script: &'a str) -> BoxFuture<'a, Result<(), Failure>>;

    /// Returns how many statements of each [class](pm_core::ConnectionClass) the driver carries at the same time
    /// (default: any number). Further ones wait until there is room.
    ///
    /// Statements of different classes must not wait for each other on a connection;
    /// [`statement.id.class()`](pm_core::StatementId::class) returns the class of a statement.
    fn room(&self) -> Room {
        Room::default()
    }

    /// Returns whether the driver opens its connections itself, and sends [`opening_script`](super::opening_script) on
    /// each (default true). On other connections [`Queue::open`](crate::Queue::open) does what is needed of it.
    fn opens_connections(&self) -> bool {
        true
    }

    /// Returns a listener on a channel, or `None` if this driver cannot listen; workers then only poll.
    ///
    /// # Errors
    ///
    /// As [`Executor::run`].
    fn listen<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Option<Box<dyn Listener>>, Failure>> {
        let _unused = channel;
        Box::pin(async { Ok(None) })
    }

    /// Closes the driver's connections, each after the reply to its last statement. A later statement opens new ones.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Receives the notifications of one channel.
pub trait Listener: Send {
    /// Returns the payload of the next notification.
    ///
    /// # Errors
    ///
    /// When the connection is lost. Notifications may have been missed, and a new listener is needed.
    fn next(&mut self) -> BoxFuture<'_, Result<String, Failure>>;
}
