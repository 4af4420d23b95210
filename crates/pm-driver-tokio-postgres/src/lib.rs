//! pm, a Postgres job queue, with the client library tokio-postgres.
//!
//! Enqueue jobs, and run a function for each, or take them as a stream and settle each one. Payloads are serde types.
//!
//! ```no_run
//! use pm_driver_tokio_postgres::{EnqueueOptions, JobContext, Outcome, RunOptions};
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
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), pm_driver_tokio_postgres::Error> {
//! let queue = pm_driver_tokio_postgres::connect("postgres://localhost/app").await?;
//! queue.create_queue("tasks", false).await?;
//! let payload = Mail { to: "ada@example.org".to_owned() };
//! let id = queue.enqueue("tasks", payload, EnqueueOptions::default()).await?;
//! println!("job {id}");
//!
//! let options = RunOptions::new().concurrency(8).timeout(Duration::from_secs(60));
//! queue.run("tasks", options, send).await?; // until the process ends
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
//! * `tokio` (default), `smol`, `async-std`: the runtimes. A program may use several; see [`connect_on`]. The last two
//!   need no tokio runtime.
//! * `tracing`: spans and events of the crate `tracing`, listed in `docs/observability.md`.
//! * `tls`: TLS with rustls, controlled by `sslmode` as in libpq. Without it, connections are not encrypted, and an
//!   `sslmode` that requires encryption is refused.
//! * `deadpool`: `from_pool`, for a deadpool-postgres pool of the caller's.

mod cell;
mod connection;
mod dial;
mod enclosing;
mod listener;
mod pipelined;
#[cfg(feature = "deadpool")]
mod pool;
mod role;
mod server;
mod sets;
mod slot;
#[cfg(any(feature = "smol", feature = "async-std"))]
mod sockets;
mod statement;
#[cfg(feature = "tls")]
mod tls;
mod transaction;

pub use dial::{Dial, DialError, Messages, Sockets, opened};
pub use pipelined::TokioPostgres;
pub use pm_queue::*;
#[cfg(feature = "deadpool")]
pub use pool::from_pool;
#[cfg(feature = "tls")]
pub use tls::Connector;
pub use transaction::InTransaction;

use std::sync::Arc;

// Compiles the programs of these pages as doctests.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../../../docs/handlers.md")]
struct Handlers;

#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../../../docs/results.md")]
struct Results;

// The same for the README.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../../../README.md")]
struct Readme;

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
/// `PGPASSWORD` and the other environment variables, and from the password file. See `docs/connecting.md`.
///
/// # Errors
///
/// `Invalid` for a bad URL; otherwise as [`Queue::open`].
pub async fn connect_on(url: &str, options: ConnectOptions, runtime: Arc<dyn Sockets>) -> Result<Queue, Error> {
    let driver = TokioPostgres::on(url, &options, runtime.clone())?;
    Queue::open(Arc::new(driver), runtime, &options).await
}
