//! A machine whose clocks are wrong.

use pm_core::Instant;
use pm_driver_tokio_postgres::driver::BoxFuture;
use pm_driver_tokio_postgres::runtime::Runtime;
use pm_queue::runtime::Tokio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A runtime on a machine whose wall clock is wrong, and which was started at another time.
pub struct SkewedRuntime {
    runtime: Tokio,
    started_earlier: Duration,
    suspended_ms: AtomicU64,
    off_ms: Box<dyn Fn(u64) -> i64 + Send + Sync>,
}

impl SkewedRuntime {
    /// Returns a machine that was started earlier by `started_earlier`, and whose wall clock is off by `off_ms` of the
    /// true time.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub fn new(started_earlier: Duration, off_ms: impl Fn(u64) -> i64 + Send + Sync + 'static) -> SkewedRuntime {
        SkewedRuntime {
            runtime: Tokio::current(),
            started_earlier,
            suspended_ms: AtomicU64::new(0),
            off_ms: Box::new(off_ms),
        }
    }

    /// Makes the clocks jump as if the machine had just been suspended for `ms` milliseconds. The runtime's timers do
    /// not jump.
    pub fn suspend(&self, ms: u64) {
        self.suspended_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Runtime for SkewedRuntime {
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
