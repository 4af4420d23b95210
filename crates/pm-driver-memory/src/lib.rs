//! pm, a job queue, in memory: for unit tests of programs that use pm.
//!
//! It behaves as pm on Postgres does, without a server: it passes the same conformance suite, and tests compare the
//! results of random lists of operations on both. It is not for production: no data survives the process.
//!
//! ```
//! use futures_util::StreamExt;
//! use pm_driver_memory::{EnqueueOptions, State};
//!
//! # #[cfg(feature = "tokio")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let queue = pm_driver_memory::queue();
//! queue.create_queue("mails", false).await?;
//! let id = queue.enqueue("mails", "hello", EnqueueOptions::default()).await?;
//!
//! let mut jobs = queue.try_stream_jobs::<String>("mails");
//! let (payload, ack) = jobs.next().await.expect("the stream does not end")?.into_parts();
//! assert_eq!(payload, "hello");
//! ack.commit().await?;
//! assert_eq!(queue.job(id).await?.state, State::Finished);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "tokio"))]
//! # fn main() {}
//! ```
//!
//! With [`VirtualTime`] hours pass in a moment. Several handles can share a [`Database`], as several processes do.
//! [`Database::begin`] begins a [`Transaction`] for methods like [`Queue::enqueue_in`] and [`JobAck::commit_in`].

mod database;
mod engine;
mod time;
mod transaction;

pub use database::{Clock, Database, SystemClock};
pub use engine::tables::{AttemptRow, FrontierRow, JobRow, QueueRow, ScheduleRow, Tables};
pub use pm_queue::*;
pub use time::VirtualTime;
pub use transaction::Transaction;

use futures_util::FutureExt;
use runtime::Runtime;
use std::sync::Arc;

/// Returns a handle on a new, empty database, whose tasks run on the current tokio runtime.
///
/// # Panics
///
/// If it is called outside a tokio runtime; see [`queue_on`].
#[cfg(feature = "tokio")]
pub fn queue() -> Queue {
    queue_on(Database::new(), Arc::new(runtime::Tokio::current()))
}

/// Returns a handle on a database, whose tasks run on the given runtime.
pub fn queue_on(database: Database, runtime: Arc<dyn Runtime>) -> Queue {
    let options = ConnectOptions::default().check_schema(false);
    let opened = Queue::open(Arc::new(database), runtime, &options).now_or_never();
    opened.and_then(Result::ok).expect("there is no schema to check and no server to connect to")
}
