//! pm, a Postgres job queue, on sqlx.
//!
//! Put jobs on queues, take them off as a stream, say how each ended. Jobs are plain serde types.
//!
//! ```no_run
//! use futures_util::StreamExt;
//! use pm_driver_sqlx::{ConnectOptions, EnqueueOptions, InTransaction, catch_panic};
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
//! # #[cfg(feature = "tokio")]
//! # async fn shop() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = sqlx::PgPool::connect("postgres://localhost/app").await?; // the one that the app has anyway
//! let queue = pm_driver_sqlx::from_pool(pool.clone(), ConnectOptions::default()).await?;
//! queue.create_queue("mails", false).await?;
//!
//! let mut transaction = pool.begin().await?;
//! sqlx::query("insert into orders (item) values ('tea')").execute(&mut *transaction).await?;
//! let payload = Mail { to: "ada@example.org".to_owned() };
//! let inside = InTransaction::new(&mut transaction);
//! let id: uuid::Uuid = queue.enqueue_in(&inside, "mails", payload, EnqueueOptions::default()).await?;
//! transaction.commit().await?; // the order and the job, or neither
//!
//! let mut jobs = pin!(queue.try_stream_jobs::<Mail>("mails"));
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
//! * `tokio` (default), `smol`, `async-std`: the runtimes, any number of them in one program. The [`Runtime`] given to
//!   [`connect_on`] or [`from_pool_on`] drives everything; its feature has to be on in this crate, because sqlx needs to
//!   know it too. sqlx itself gives connections back in small tasks of its own: on tokio where a tokio runtime is
//!   entered, else on smol's global executor when that feature is on, else on async-std's.
//! * `tls`: TLS over rustls, as libpq's `sslmode` has it. Without it, connections are not encrypted, and an `sslmode`
//!   that wants encryption is refused.

mod driver;
mod listener;
mod server;
mod statement;
mod transaction;

pub use driver::Sqlx;
pub use pm_queue::*;
pub use transaction::InTransaction;

use sqlx::PgPool;
use std::sync::Arc;

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
/// The URL, or `key=value` pairs, is read as libpq reads it, `PGHOST`, `PGPASSWORD` and their kind included:
/// `docs/connecting.md`. The handle has a pool of its own.
///
/// # Errors
///
/// `Invalid` for a bad URL; `Unavailable`, `Schema` and `Database` as [`Queue::open`].
pub async fn connect_on(url: &str, options: ConnectOptions, runtime: Arc<dyn Runtime>) -> Result<Queue, Error> {
    Queue::open(Arc::new(Sqlx::new(url, &options, runtime.clone())?), runtime, &options).await
}

/// Returns a handle on the queues of the database that a pool of the caller's leads to. To be called in a tokio runtime.
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

/// Returns a handle on the queues of the database that a pool of the caller's leads to, driven by the given runtime.
///
/// Statements run on connections of the pool, one at a time each, in transactions that begin with timeouts and settings for
/// their plans: three round trips each, and nothing is left in the pool's sessions. One
/// further connection listens beside the pool, while a stream wants notifications; one looks, before the first statement,
/// whether the pool leads to a transaction pooler of which the options say nothing. Closing the queue leaves the pool
/// open. Of the options, those that concern single connections have no effect.
///
/// # Errors
///
/// As [`Queue::open`].
pub async fn from_pool_on(pool: PgPool, options: ConnectOptions, runtime: Arc<dyn Runtime>) -> Result<Queue, Error> {
    let queue = Queue::open(Arc::new(Sqlx::of_pool(pool, &options, runtime.clone())?), runtime, &options).await?;
    // Through a pooler it has been done.
    if options.check_schema && !options.pooler {
        queue.advance_positions().await;
    }
    Ok(queue)
}
