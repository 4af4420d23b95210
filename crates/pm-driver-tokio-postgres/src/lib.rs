//! pm, a Postgres job queue, on tokio-postgres.
//!
//! Put jobs on queues, take them off as a stream, say how each ended. Jobs are plain serde types.
//!
//! ```no_run
//! use futures_util::StreamExt;
//! use pm_driver_tokio_postgres::{EnqueueOptions, catch_panic};
//! use std::pin::pin;
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Mail {
//!     to: String,
//! }
//!
//! /// Stands for the work.
//! async fn send(mail: &Mail) -> Result<(), String> {
//!     let (_, domain) = mail.to.split_once('@').expect("an address has an @");
//!     println!("mail to {} by way of {domain}", mail.to);
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), pm_driver_tokio_postgres::Error> {
//! let queue = pm_driver_tokio_postgres::connect("postgres://localhost/app").await?;
//! queue.create_queue("tasks", false).await?;
//! let payload = Mail { to: "ada@example.org".to_owned() };
//! let id: uuid::Uuid = queue.enqueue("tasks", payload, EnqueueOptions::default()).await?;
//!
//! let mut jobs = pin!(queue.try_stream_jobs::<Mail>("tasks"));
//! while let Some(job) = jobs.next().await {
//!     let (mail, ack) = match job {
//!         Ok(job) => job.into_parts(),
//!         Err(error) => {
//!             eprintln!("{error}");
//!             continue; // one bad payload does not end a worker
//!         }
//!     };
//!     // Neither does a panic: it soft-fails this job, with its text as the reason.
//!     let settling = match catch_panic(send(&mail)).await {
//!         Ok(Ok(())) => ack.commit(),
//!         Ok(Err(reason)) => ack.soft_fail(reason), // again later; or hard_fail, never again
//!         Err(panic) => ack.soft_fail(panic),
//!     };
//!     if let Err(error) = settling.await {
//!         eprintln!("{error}");
//!     }
//! }
//! # Ok(())
//! # }
//! ```

//!
//! # Features
//!
//! * `tokio` (default), `smol`, `async-std`: the runtimes, any number of them in one program: see [`connect_on`]. The
//!   last two need no tokio runtime.
//! * `tls`: TLS over rustls, as libpq's `sslmode` has it. Without it, connections are not encrypted, and an `sslmode`
//!   that wants encryption is refused.
//! * `deadpool`: `from_pool`, on a pool of the caller's.

mod cell;
mod connection;
mod dial;
mod driver;
mod enclosing;
mod listener;
#[cfg(feature = "deadpool")]
mod pool;
mod server;
mod sets;
mod slot;
#[cfg(any(feature = "smol", feature = "async-std"))]
mod sockets;
#[cfg(feature = "tls")]
mod tls;
mod transaction;

pub use dial::{Dial, DialError, Messages, Sockets, opened};
pub use driver::TokioPostgres;
pub use pm_queue::*;
#[cfg(feature = "deadpool")]
pub use pool::from_pool;
#[cfg(feature = "tls")]
pub use tls::Connector;
pub use transaction::InTransaction;

use std::sync::Arc;

// The program in the README is compiled with the examples in here.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// Returns a handle on the queues of the database at `url`, with default [`ConnectOptions`].
///
/// It migrates an empty or older schema. To be called in a tokio runtime, which then drives everything.
///
/// # Errors
///
/// `Invalid` for a bad URL; `Unavailable` when no server answers within 5 s; `Schema` when the schema is newer than this
/// program; `Database` when the role may not create what is missing.
#[cfg(feature = "tokio")]
pub async fn connect(url: &str) -> Result<Queue, Error> {
    connect_with(url, ConnectOptions::default()).await
}

/// Returns a handle on the queues of the database at `url`. To be called in a tokio runtime.
///
/// # Errors
///
/// As [`connect`]; `Schema` also when the schema is missing or older and the options say not to migrate.
#[cfg(feature = "tokio")]
pub async fn connect_with(url: &str, options: ConnectOptions) -> Result<Queue, Error> {
    connect_on(url, options, Arc::new(runtime::Tokio::current())).await
}

/// Returns a handle on the queues of the database at `url`, driven by the given runtime.
///
/// The URL, or `key=value` pairs, is read as libpq reads it; what it leaves open comes from `PGHOST`, `PGPASSWORD` and
/// their kind, and from the password file: `docs/connecting.md`.
///
/// # Errors
///
/// `Invalid` for a bad URL; `Unavailable`, `Schema` and `Database` as [`Queue::open`].
pub async fn connect_on(url: &str, options: ConnectOptions, runtime: Arc<dyn Sockets>) -> Result<Queue, Error> {
    let driver = TokioPostgres::on(url, &options, runtime.clone())?;
    Queue::open(Arc::new(driver), runtime, &options).await
}
