//! A machine with clocks of its own.

use pm_core::Instant;
use pm_driver_tokio_postgres::{BoxFuture, Runtime};
use pm_queue::runtime::Tokio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A machine whose wall clock is off, and which was started at another time.
pub struct Elsewhere {
    runtime: Tokio,
    started_earlier: Duration,
    suspended_ms: AtomicU64,
    off_ms: Box<dyn Fn(u64) -> i64 + Send + Sync>,
}

impl Elsewhere {
    /// Returns a machine that was started so much earlier, and whose wall clock is off by what `off_ms` says at a true time.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub fn new(started_earlier: Duration, off_ms: impl Fn(u64) -> i64 + Send + Sync + 'static) -> Elsewhere {
        Elsewhere {
            runtime: Tokio::current(),
            started_earlier,
            suspended_ms: AtomicU64::new(0),
            off_ms: Box::new(off_ms),
        }
    }

    /// Lets the machine have been suspended just now for so many milliseconds: the runtime's timers know nothing of it.
    pub fn suspend(&self, ms: u64) {
        self.suspended_ms.fetch_add(ms, Ordering::SeqCst);
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
        self.runtime.now() + self.started_earlier + Duration::from_millis(self.suspended_ms.load(Ordering::SeqCst))
    }

    fn unix_ms(&self) -> u64 {
        let now = self.runtime.unix_ms();
        now.saturating_add_signed((self.off_ms)(now))
    }
}
