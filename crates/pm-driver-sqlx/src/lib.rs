//! pm, a Postgres job queue, with the client library sqlx.
//!
//! Enqueue jobs, and run a function for each, or take them as a stream and settle each one. Payloads are serde types.
//!
//! ```no_run
//! use pm_driver_sqlx::{ConnectOptions, EnqueueOptions, InTransaction, JobContext, Outcome, RunOptions};
//! use std::time::Duration;
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Mail {
//!     to: String,
//! }
//!
//! /// Sends a mail. An error, or a panic, is a soft fail: the job is tried again later.
//! async fn send(mail: Mail, _job: JobContext) -> Result<Outcome, String> {
//!     let Some((_, domain)) = mail.to.split_once('@') else {
//!         return Ok(Outcome::Fail("an address has an @".to_owned())); // never again
//!     };
//!     println!("mail to {} by way of {domain}", mail.to);
//!     Ok(Outcome::Done)
//! }
//!
//! # #[cfg(feature = "tokio")]
//! # async fn shop() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = sqlx::PgPool::connect("postgres://localhost/app").await?; // the application's own pool
//! let queue = pm_driver_sqlx::from_pool(pool.clone(), ConnectOptions::default()).await?;
//! queue.create_queue("mails", false).await?;
//!
//! let mut transaction = pool.begin().await?;
//! sqlx::query("insert into orders (item) values ('tea')").execute(&mut *transaction).await?;
//! let payload = Mail { to: "ada@example.org".to_owned() };
//! let inside = InTransaction::new(&mut transaction);
//! let id = queue.enqueue_in(&inside, "mails", payload, EnqueueOptions::default()).await?;
//! transaction.commit().await?; // the order and the job, or neither
//! println!("job {id}");
//!
//! let options = RunOptions::new().concurrency(8).timeout(Duration::from_secs(60));
//! queue.run("mails", options, send).await?; // until the process ends
//! # Ok(())
//! # }
//! ```
//!
//! # Where to look
//!
//! `connect` returns a [`Queue`], whose methods do everything else. A program meets the types in this order:
//! [`ConnectOptions`]; [`EnqueueOptions`] with [`RetryPolicy`] and [`OnConflict`]; [`RunOptions`], [`JobContext`] and
//! [`Outcome`], or [`StreamOptions`], [`JobStream`], [`PendingJob`] and [`JobAck`]; [`InTransaction`]; [`Schedule`];
//! and everywhere [`Error`], with an [`ErrorKind`] and perhaps [`Advice`]. The documentation of `pm_queue`, which this
//! crate re-exports, has a complete table. [`driver`] and [`connecting`] are for authors of drivers, but for
//! [`driver::Executor`] and [`driver::WithoutNotify`], which concern your own transactions.
//!
//! # Features
//!
//! * `tokio` (default), `smol`, `async-std`: the runtimes. A program may use several. All tasks run on the [`Runtime`]
//!   passed to [`connect_on`] or [`from_pool_on`]; enable its feature in this crate, because sqlx needs it too. sqlx
//!   returns connections to a pool in its own small tasks: on tokio inside a tokio runtime, otherwise on smol's global
//!   executor if that feature is enabled, otherwise on that of async-std.
//! * `tracing`: spans and events of the crate `tracing`, listed in `docs/observability.md`.
//! * `tls`: TLS with rustls, controlled by `sslmode` as in libpq. Without it, connections are not encrypted, and an
//!   `sslmode` that requires encryption is refused.

mod listener;
mod pooled;
mod server;
mod statement;
mod transaction;

pub use pm_queue::*;
pub use pooled::Sqlx;
pub use transaction::InTransaction;

use runtime::Runtime;
use sqlx::PgPool;
use std::sync::Arc;

/// Opens a handle on the queues of the database at `url`, with default [`ConnectOptions`].
///
/// Migrates a missing or older schema. Call it in a tokio runtime, which then runs all tasks of the handle.
///
/// # Errors
///
/// `Invalid` for a bad URL; `Unavailable` when no server answers within 5 s; `Schema` when the schema is newer than
/// this program; `Forbidden` when the role lacks a privilege, for example to create missing tables.
#[cfg(feature = "tokio")]
pub async fn connect(url: &str) -> Result<Queue, Error> {
    connect_with(url, ConnectOptions::default()).await
}

/// Opens a handle on the queues of the database at `url`, with these options. Call it in a tokio runtime.
///
/// # Errors
///
/// As [`connect`]; `Schema` also when the schema is missing or older while [`ConnectOptions::migrate`] is off.
#[cfg(feature = "tokio")]
pub async fn connect_with(url: &str, options: ConnectOptions) -> Result<Queue, Error> {
    connect_on(url, options, Arc::new(runtime::Tokio::current())).await
}

/// Opens a handle on the queues of the database at `url`, on the given runtime.
///
/// `url` is a URL or `key=value` pairs, read as libpq does: parameters that it does not set come from `PGHOST`,
/// `PGPASSWORD` and the other environment variables, and from the password file. See `docs/connecting.md`. The handle
/// has its own pool.
///
/// # Errors
///
/// `Invalid` for a bad URL; otherwise as [`Queue::open`].
pub async fn connect_on(url: &str, options: ConnectOptions, runtime: Arc<dyn Runtime>) -> Result<Queue, Error> {
    Queue::open(Arc::new(Sqlx::new(url, &options, runtime.clone())?), runtime, &options).await
}

/// Opens a handle on the queues of a database, over the caller's pool. Call it in a tokio runtime.
///
/// See [`from_pool_on`].
///
/// # Errors
///
/// As [`Queue::open`].
#[cfg(feature = "tokio")]
pub async fn from_pool(pool: PgPool, options: ConnectOptions) -> Result<Queue, Error> {
    from_pool_on(pool, options, Arc::new(runtime::Tokio::current())).await
}

/// Opens a handle on the queues of a database, over the caller's pool and on the given runtime.
///
/// Each connection of the pool carries one statement at a time. Each statement runs in a transaction that begins with
/// timeouts and planner settings, in three round trips, and leaves the sessions of the pool unchanged. A separate
/// connection listens while a stream uses notifications. Before the first statement, another one checks whether the
/// pool leads to a transaction pooler although [`ConnectOptions::pooler`] is not set. Closing the queue does not close
/// the pool. Options about single connections have no effect.
///
/// # Errors
///
/// As [`Queue::open`].
pub async fn from_pool_on(pool: PgPool, options: ConnectOptions, runtime: Arc<dyn Runtime>) -> Result<Queue, Error> {
    Queue::open(Arc::new(Sqlx::of_pool(pool, &options, runtime.clone())?), runtime, &options).await
}
