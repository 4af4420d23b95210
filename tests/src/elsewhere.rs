//! A machine with clocks of its own.

use pm_core::Instant;
use pm_driver_tokio_postgres::{BoxFuture, Runtime};
use pm_queue::runtime::Tokio;
use std::time::Duration;

/// A machine whose wall clock is off, and which was started at another time.
pub struct Elsewhere {
    runtime: Tokio,
    started_earlier: Duration,
    off_ms: Box<dyn Fn(u64) -> i64 + Send + Sync>,
}

impl Elsewhere {
    /// Returns a machine that was started so much earlier, and whose wall clock is off by what `off_ms` says at a true time.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub fn new(started_earlier: Duration, off_ms: impl Fn(u64) -> i64 + Send + Sync + 'static) -> Elsewhere {
        Elsewhere { runtime: Tokio::current(), started_earlier, off_ms: Box::new(off_ms) }
    }
}

impl Runtime for Elsewhere {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.runtime.spawn(task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.runtime.sleep(duration)
    }

    fn now(&self) -> Instant {
        self.runtime.now() + self.started_earlier
    }

    fn unix_ms(&self) -> u64 {
        let now = self.runtime.unix_ms();
        now.saturating_add_signed((self.off_ms)(now))
    }
}
