//! What a driver does: carry plans to the database and rows back.

use crate::Room;
use pm_core::{Failure, Rows, Statement, Value};
use std::pin::Pin;

/// A boxed future. A box per statement is noise beside its round trip.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs statements: a set of connections, one connection, or a transaction of the caller.
pub trait Executor: Send + Sync {
    /// Runs one statement and returns its rows.
    ///
    /// `params` have the types of `statement.params`, in order; every cell goes into the rows in binary form.
    /// `statement.id` names the statement for as long as the driver lives, so that it can be kept prepared.
    ///
    /// The future is dropped before it ends only when the statement has timed out: then its connection is not to be
    /// trusted any longer.
    ///
    /// # Errors
    ///
    /// [`Failure::reported`] with the SQLSTATE when the server said no, [`Failure::not_sent`] when the statement was
    /// surely not sent, [`Failure::no_reply`] when it may have run.
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>>;

    /// Returns whether `NOTIFY` may be sent on it: not in a transaction that is to be prepared. See [`WithoutNotify`].
    fn notifies(&self) -> bool {
        true
    }
}

/// A transaction of the caller's in which nothing is notified, so that it can be prepared for a commit in two phases.
///
/// Postgres refuses `PREPARE TRANSACTION` after `NOTIFY`, which [`Queue::enqueue_in`](crate::Queue::enqueue_in) sends
/// whenever workers may be idle: so the refusal would come and go with the load. With this around the executor it never
/// sends it. After `COMMIT PREPARED` call [`Queue::wake_workers`](crate::Queue::wake_workers); without that, idle
/// workers find the jobs when they look by themselves, within 30 s
/// ([`StreamOptions::idle_poll`](crate::StreamOptions::idle_poll)).
///
/// ```no_run
/// # use pm_queue::{EnqueueOptions, Error, Executor, Queue, WithoutNotify};
/// # async fn order(queue: &Queue, inside: &dyn Executor) -> Result<(), Error> {
/// queue.enqueue_in(&WithoutNotify(inside), "mails", "order confirmed", EnqueueOptions::default()).await?;
/// // PREPARE TRANSACTION 'order 7', and, when all have prepared, COMMIT PREPARED 'order 7'. Then:
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

/// A database as a [`Queue`](crate::Queue) uses it.
///
/// Statements run at once from many tasks; the driver decides on how many connections. It re-establishes lost
/// connections by itself, on the next use.
pub trait Driver: Executor + 'static {
    /// Runs a script of several statements, without parameters and rows, as one simple query.
    ///
    /// # Errors
    ///
    /// As [`Executor::run`].
    fn run_script<'a>(&'a self, script: &'a str) -> BoxFuture<'a, Result<(), Failure>>;

    /// Returns how many statements of each [class](pm_core::ConnectionClass) it carries at once (default: any number).
    /// More wait until there is room.
    ///
    /// Statements of different classes must not wait for each other on a connection:
    /// [`statement.id.class()`](pm_core::StatementId::class) says which a statement belongs to.
    fn room(&self) -> Room {
        Room::default()
    }

    /// Returns a listener on a channel, or `None` when this driver cannot listen: polling is always enough.
    ///
    /// # Errors
    ///
    /// As [`Executor::run`].
    fn listen<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Option<Box<dyn Listener>>, Failure>> {
        let _polling_is_enough = channel;
        Box::pin(async { Ok(None) })
    }

    /// Lets go of its connections: each closes when what runs on it has its answer. A later statement opens new ones.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Hears the notifications of one channel.
pub trait Listener: Send {
    /// Returns the payload of the next notification.
    ///
    /// # Errors
    ///
    /// When the connection is lost: notifications may have been missed, and a new listener is needed.
    fn next(&mut self) -> BoxFuture<'_, Result<String, Failure>>;
}
