//! The runtime tokio.

use super::Runtime;
use crate::driver::BoxFuture;
use std::time::Duration;

/// A handle on a tokio runtime, usable from any thread.
#[derive(Debug, Clone)]
pub struct Tokio(tokio::runtime::Handle);

impl Tokio {
    /// Returns the runtime in which this is called.
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
