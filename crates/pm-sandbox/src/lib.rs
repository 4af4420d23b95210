//! A private, throwaway Postgres server for tests, benches and demos.
//!
//! [`Server::start`] finds Postgres on this machine, makes a data directory under the system's
//! temporary directory and starts a server that only this process's user can reach. Dropping the
//! [`Server`] stops it and removes everything; so does the end of the process, even by SIGKILL.
//!
//! ```no_run
//! let server = pm_sandbox::Server::start()?;
//! let url = server.create_database("shop")?;
//! let rows = server.execute("shop", "SELECT 1")?;
//! # Ok::<(), pm_sandbox::Error>(())
//! ```
//!
//! A test asks for a [`TestDatabase`]: an empty database of its own, on the server that the
//! variable `PM_TEST_SERVER` names, or on one that the test process starts for itself. The binary
//! `pm-sandbox` starts that shared server: `pm-sandbox cargo nextest run`.
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

pub use binaries::Binaries;
pub use error::Error;
pub use options::ServerOptions;
pub use pooler::Pooler;
pub use server::Server;
pub use test_database::{TEST_SERVER_VARIABLE, TestDatabase};

/// The rows of a query: each value as Postgres prints it, `None` for NULL.
pub type Rows = Vec<Vec<Option<String>>>;
