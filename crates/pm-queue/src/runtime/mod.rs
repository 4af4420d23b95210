//! What the façade needs of an async runtime: four methods, one small file a runtime.

#[cfg(feature = "async-std")]
mod async_std;
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

use crate::BoxFuture;
use pm_core::Instant;
use std::time::Duration;

/// An async runtime and its clocks.
pub trait Runtime: Send + Sync + 'static {
    /// Runs a task to its end, or until the runtime goes away.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Returns a future that ends after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// Returns the time on a monotonic clock that goes on while the machine sleeps.
    fn now(&self) -> Instant {
        monotonic_now()
    }

    /// Returns the wall clock's milliseconds since 1970, for the time part of job ids. It decides nothing.
    fn unix_ms(&self) -> u64 {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since_1970.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A source of random bits: for job ids, lease numbers and jitter.
pub trait Randomness: Send + Sync + 'static {
    /// Returns 64 random bits. Lease numbers are made of them: two processes must never draw the same.
    fn next_u64(&self) -> u64;
}

/// The operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandomness;

impl Randomness for SystemRandomness {
    fn next_u64(&self) -> u64 {
        getrandom::u64().expect("every supported system gives random bytes to a running process")
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
