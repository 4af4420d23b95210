//! A clock that tests control.

use crate::Clock;
use futures_channel::oneshot;
use futures_util::FutureExt;
use pm_core::Instant;
use pm_queue::Timestamp;
use pm_queue::driver::BoxFuture;
use pm_queue::runtime::Runtime;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// 2026-01-01 00:00 UTC, where virtual time starts.
const START_US: i64 = 1_767_225_600_000_000;

/// A clock for a database and its workers that advances only when a test advances it. Clones share the time.
///
/// ```
/// # use pm_driver_memory::{Database, EnqueueOptions, RunAt, VirtualTime, queue_on, runtime::Tokio};
/// # use futures_util::StreamExt;
/// # use std::{sync::Arc, time::Duration};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let time = VirtualTime::new();
/// let queue = queue_on(Database::with_clock(time.clone()), Arc::new(time.on(Tokio::current())));
/// queue.create_queue("reminders", false).await?;
/// let hour = Duration::from_secs(3_600);
/// queue.enqueue("reminders", "tea", EnqueueOptions::default().run_at(RunAt::In(hour))).await?;
/// let mut jobs = queue.try_stream_jobs::<String>("reminders");
/// let job = time.pass(hour / 60, jobs.next()).await; // a moment later
/// job.expect("the stream does not end")?.into_parts().1.commit().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct VirtualTime(Arc<Mutex<Passed>>);

#[derive(Debug, Default)]
struct Passed {
    since_start: Duration,
    timers: BTreeMap<(Duration, u64), oneshot::Sender<()>>,
    last_timer: u64,
}

impl VirtualTime {
    /// Returns a clock set to the start of 2026.
    pub fn new() -> Self {
        Self::default()
    }

    /// Advances the clock, and completes the sleeps that end by then.
    ///
    /// Timers that were due before the new time fire late. Advance by less than a third of a lease at a time, so that
    /// heartbeats can extend leases.
    pub fn advance(&self, by: Duration) {
        let mut passed = self.lock();
        passed.since_start += by;
        let now = passed.since_start;
        let later = passed.timers.split_off(&(now, u64::MAX));
        for timer in std::mem::replace(&mut passed.timers, later).into_values() {
            // The receiver may have been dropped.
            timer.send(()).unwrap_or_default();
        }
    }

    /// Awaits `future` and returns its output. While it is pending, the clock advances by `step` and other tasks run.
    pub async fn pass<T>(&self, step: Duration, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let output = future.as_mut().poll(cx);
            if output.is_pending() {
                self.advance(step);
                cx.waker().wake_by_ref();
            }
            output
        })
        .await
    }

    /// Returns a runtime that runs its tasks on `runtime` and takes its time from this clock.
    pub fn on(&self, runtime: impl Runtime) -> impl Runtime {
        InVirtualTime { time: self.clone(), runtime }
    }

    fn lock(&self) -> MutexGuard<'_, Passed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for VirtualTime {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_us(START_US + self.lock().since_start.as_micros() as i64)
    }
}

struct InVirtualTime<R> {
    time: VirtualTime,
    runtime: R,
}

impl<R: Runtime> Runtime for InVirtualTime<R> {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.runtime.spawn(task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (sender, receiver) = oneshot::channel();
        let mut passed = self.time.lock();
        let until = passed.since_start.saturating_add(duration);
        if until > passed.since_start {
            passed.last_timer += 1;
            let timer = passed.last_timer;
            passed.timers.insert((until, timer), sender);
        }
        // An error means that the sender was dropped: at once if the duration is zero.
        Box::pin(receiver.map(|_| ()))
    }

    fn now(&self) -> Instant {
        Instant::from_start(self.time.lock().since_start)
    }

    fn unix_ms(&self) -> u64 {
        (Clock::now(&self.time).unix_us() / 1_000) as u64
    }
}
