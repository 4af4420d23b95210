//! The async runtimes on which queues run: [`Runtime`] and its implementations, one for each feature.

#[cfg(feature = "async-std")]
mod async_std;
mod randomness;
#[cfg(feature = "smol")]
mod smol;
#[cfg(feature = "tokio")]
mod tokio;

#[cfg(feature = "async-std")]
pub use self::async_std::AsyncStd;
#[cfg(feature = "smol")]
pub use self::smol::Smol;
#[cfg(feature = "tokio")]
pub use self::tokio::Tokio;

pub use self::randomness::{Randomness, SystemRandomness};
pub use crate::driver::BoxFuture;

use pm_core::Instant;
use std::time::Duration;

/// An async runtime and its clocks.
pub trait Runtime: Send + Sync + 'static {
    /// Runs a task to completion, or until the runtime is shut down.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Returns a future that completes after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// Returns the time on a monotonic clock that includes the time during which the computer is suspended.
    fn now(&self) -> Instant {
        monotonic_now()
    }

    /// Returns the wall clock's milliseconds since 1970. Used for the time part of job ids, and by the doctor's check
    /// of clocks.
    fn unix_ms(&self) -> u64 {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since_1970.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn monotonic_now() -> Instant {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Instant::from_start(Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default()))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn monotonic_now() -> Instant {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    Instant::from_start(START.get_or_init(std::time::Instant::now).elapsed())
}
