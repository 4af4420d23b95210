//! Time that passes when a test says so.

use crate::Clock;
use futures_channel::oneshot;
use futures_util::FutureExt;
use pm_core::Instant;
use pm_queue::{BoxFuture, Runtime, Timestamp};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// 2026-01-01 00:00 UTC, where virtual time starts.
const START_US: i64 = 1_767_225_600_000_000;

/// The clock of a database and of its workers, which stands still until it is told to go on. Clones are the same clock.
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
/// job.expect("the stream goes on")?.into_parts().1.commit().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct VirtualTime(Arc<Mutex<Passed>>);

#[derive(Debug, Default)]
struct Passed {
    since_start: Duration,
    sleepers: BTreeMap<(Duration, u64), oneshot::Sender<()>>,
    last_sleeper: u64,
}

impl VirtualTime {
    /// Returns a clock that stands at the start of 2026.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock on, and wakes whoever slept until then.
    ///
    /// What was to happen meanwhile happens late: advance by less than a third of a lease to have leases kept alive.
    pub fn advance(&self, by: Duration) {
        let mut passed = self.lock();
        passed.since_start += by;
        let now = passed.since_start;
        let later = passed.sleepers.split_off(&(now, u64::MAX));
        for sleeper in std::mem::replace(&mut passed.sleepers, later).into_values() {
            // Whoever slept may have lost interest.
            sleeper.send(()).unwrap_or_default();
        }
    }

    /// Returns what `future` says; the clock moves on by `step` whenever it waits and others have had their turn.
    pub async fn pass<T>(&self, step: Duration, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let answer = future.as_mut().poll(cx);
            if answer.is_pending() {
                self.advance(step);
                cx.waker().wake_by_ref();
            }
            answer
        })
        .await
    }

    /// Returns a runtime that runs tasks on `runtime`, in this time.
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
            passed.last_sleeper += 1;
            let sleeper = passed.last_sleeper;
            passed.sleepers.insert((until, sleeper), sender);
        }
        // It also ends when its sender is dropped.
        Box::pin(receiver.map(|_| ()))
    }

    fn now(&self) -> Instant {
        Instant::from_start(self.time.lock().since_start)
    }

    fn unix_ms(&self) -> u64 {
        (Clock::now(&self.time).unix_us() / 1_000) as u64
    }
}
