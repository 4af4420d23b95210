//! Tokio.

use super::Runtime;
use crate::BoxFuture;
use std::time::Duration;

/// A tokio runtime, by its handle: it works from any thread.
#[derive(Debug, Clone)]
pub struct Tokio(tokio::runtime::Handle);

impl Tokio {
    /// Returns the runtime this is called in.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime; see [`Tokio::of`].
    pub fn current() -> Self {
        Tokio(tokio::runtime::Handle::current())
    }

    /// Returns the runtime of this handle.
    pub fn of(handle: tokio::runtime::Handle) -> Self {
        Tokio(handle)
    }
}

impl Runtime for Tokio {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let _entered = self.0.enter();
        Box::pin(tokio::time::sleep(duration))
    }
}
