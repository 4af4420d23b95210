//! The runtime async-std.

use super::Runtime;
use crate::driver::BoxFuture;
use std::time::Duration;

/// async-std's global executor, for programs that are still on it.
///
/// async-std is discontinued (RUSTSEC-2025-0052); its authors recommend smol, which is `Smol` here.
#[derive(Debug, Clone, Copy, Default)]
pub struct AsyncStd;

impl Runtime for AsyncStd {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        // Dropping the handle leaves the task running.
        drop(async_std::task::spawn(task));
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async_std::task::sleep(duration))
    }
}
