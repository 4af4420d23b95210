//! For authors of drivers: what a driver implements, and what it needs for that.
//!
//! Implement [`Executor`] and [`Driver`], and [`Listener`] if the driver can listen, and pass the driver to
//! [`Queue::open`](crate::Queue::open) with a [runtime](crate::runtime). A driver does not interpret statements.
//!
//! Other programs need two items: [`Executor`] is the trait of a caller's transaction, and [`WithoutNotify`] wraps one
//! that will be prepared.

mod borrowed;
mod room;
mod session;
mod traits;

pub use borrowed::BorrowedConnection;
pub use pm_core::wire::{Column, Columns};
pub use pm_core::{ConnectionClass, Failure, Rows, Statement, StatementId, Type, Value};
pub use room::Room;
pub use session::{SESSION_MARK, application_name, listen_script, opening_script, session_guard};
pub use traits::{BoxFuture, Driver, Executor, Listener, WithoutNotify};
