//! Connecting as libpq does: for drivers, and for programs that want to know where a connection string leads.
//!
//! A [`Target`] is read from a connection string and its [`Surroundings`], without touching the network. A [`Route`]
//! tries its places in turn and remembers which of them were silent. `docs/connecting.md` is the user's view.

mod conninfo;
mod files;
mod libpq;
mod parameters;
mod route;
mod surroundings;
mod target;
#[cfg(test)]
mod tests;
mod tls;

pub use libpq::Libpq;
pub use route::{Address, Attempt, Open, Refusal, Role, Route};
pub use surroundings::{Surroundings, System};
pub use target::{Host, Keepalives, Password, Place, SessionAttrs, Target};
pub use tls::{ChannelBinding, Roots, SslMode, Tls};
