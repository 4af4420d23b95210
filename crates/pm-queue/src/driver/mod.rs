//! What a driver implements, and what it needs for that.

mod borrowed;
mod room;
mod session;
mod traits;

pub use borrowed::BorrowedConnection;
pub use room::Room;
pub use session::{SESSION_MARK, application_name, listen_script, opening_script, session_guard};
pub use traits::{BoxFuture, Driver, Executor, Listener, WithoutNotify};
