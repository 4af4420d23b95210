//! Connecting as libpq does. For driver authors, and for programs that inspect connection strings.
//!
//! A [`Target`] is read from a connection string and its [`Surroundings`] (environment variables and files), without
//! touching the network. A [`Route`] tries the hosts of a target in turn and remembers which did not answer.
//! `docs/connecting.md` is the documentation for users.

mod conninfo;
mod failed;
mod files;
mod libpq;
mod options;
mod parameters;
mod route;
mod surroundings;
mod target;
#[cfg(test)]
mod tests;
mod tls;

pub use failed::Failed;
pub use libpq::Libpq;
pub use options::ConnectOptions;
pub use route::{Address, Attempt, Open, Refusal, Role, Route};
pub use surroundings::{Surroundings, System};
pub use target::{Host, Keepalives, Password, Place, SessionAttrs, Target};
pub use tls::{ChannelBinding, Roots, SslMode, Tls};
