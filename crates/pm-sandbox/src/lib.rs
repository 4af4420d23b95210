//! A private, temporary Postgres server for tests, benchmarks and demos.
//!
//! [`Server::start`] finds Postgres on this machine, creates a data directory under the system's
//! temporary directory and starts a server that only the user of this process can reach. Dropping
//! the [`Server`] stops it and removes its files. The same happens when the process ends in any
//! other way, even by SIGKILL.
//!
//! ```no_run
//! let server = pm_sandbox::Server::start()?;
//! let url = server.create_database("shop")?;
//! let rows = server.execute("shop", "SELECT 1")?;
//! # Ok::<(), pm_sandbox::Error>(())
//! ```
//!
//! A test uses a [`TestDatabase`]: its own empty database on the server given by the environment
//! variable `PM_TEST_SERVER`, or on a server that the test process starts. The binary `pm-sandbox`
//! starts a shared server and sets that variable: `pm-sandbox cargo nextest run`.
//!
//! All calls block the calling thread, each for a bounded time.

mod account;
mod address;
mod binaries;
mod error;
mod options;
mod pooler;
mod server;
mod supervisor;
mod template;
mod test_database;
mod wire;

pub use error::Error;
pub use options::ServerOptions;
pub use pooler::Pooler;
pub use server::Server;
pub use test_database::{TEST_SERVER_VARIABLE, TestDatabase};

/// The rows of a query. Each value is text as Postgres prints it, or `None` for NULL.
pub type Rows = Vec<Vec<Option<String>>>;
