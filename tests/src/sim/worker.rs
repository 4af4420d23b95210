//! Worker processes: streams and handlers, which start, end, take long and are dropped.

use super::stack::{Process, Stack};
use super::world::SECOND;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt};
use pm_queue::runtime::Runtime;
use pm_queue::{Error, JobAck, Lease, PendingJob, Queue, Settling, StreamOptions};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

/// The queues that jobs are enqueued on; `c` is also deleted, created again, and renamed to `d` and back.
pub(super) const QUEUES: [&str; 3] = ["a", "b", "c"];
pub(super) const ALL_QUEUES: [&str; 4] = ["a", "b", "c", "d"];

impl Process {
    pub(super) async fn sleep_us(self: &Arc<Self>, us: u64) {
        Stack(self.clone()).sleep(Duration::from_micros(us)).await;
    }

    /// Returns the output of a future, or drops it after `us`.
    pub(super) async fn within_us<T>(self: &Arc<Self>, us: u64, future: impl Future<Output = T>) -> Option<T> {
        match select(pin!(future), Stack(self.clone()).sleep(Duration::from_micros(us))).await {
            Either::Left((answer, _)) => Some(answer),
            Either::Right(_) => None,
        }
    }
}

enum Next {
    Job(Option<Result<Box<PendingJob<u64>>, Error>>),
    Handled,
    Alarm,
}

/// Works for as long as its process lives, or until it closes its queue.
pub(super) async fn work(process: Arc<Process>, queue: Queue) {
    loop {
        let (options, handlers) = drawn_options(&process);
        process.world.auditor().open_stream(process.number);
        let mut jobs = queue.try_stream_jobs_with::<u64>(ALL_QUEUES, options);
        let mut active = FuturesUnordered::new();
        let alarm_us = |process: &Process| SECOND / 2 + process.world.below(15 * SECOND);
        let mut alarm = Stack(process.clone()).sleep(Duration::from_micros(alarm_us(&process)));
        loop {
            let next = poll_fn(|cx| {
                if alarm.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Next::Alarm);
                }
                if let Poll::Ready(Some(())) = active.poll_next_unpin(cx) {
                    return Poll::Ready(Next::Handled);
                }
                if active.len() < handlers
                    && let Poll::Ready(job) = std::pin::Pin::new(&mut jobs).poll_next(cx)
                {
                    return Poll::Ready(Next::Job(job.map(|job| job.map(Box::new))));
                }
                Poll::Pending
            });
            match next.await {
                Next::Job(Some(Ok(job))) => active.push(handle(process.clone(), *job)),
                Next::Job(Some(Err(_))) | Next::Handled => {}
                Next::Job(None) => break,
                Next::Alarm if process.world.is_peaceful() => {
                    alarm = Stack(process.clone()).sleep(Duration::from_micros(alarm_us(&process)));
                }
                Next::Alarm => break,
            }
        }
        match process.world.below(4) {
            // Running handlers are dropped, and their acks with them.
            0 => drop(active),
            1 if !process.world.is_peaceful() => {
                process.world.executor.spawn(process.number, Box::pin(active.collect()));
                process.retires.store(true, Ordering::Relaxed);
                queue.close().await;
                process.world.auditor().closed(&process.world, process.number);
                return;
            }
            _ => process.world.executor.spawn(process.number, Box::pin(active.collect())),
        }
        drop(jobs);
        process.sleep_us(SECOND / 4).await;
    }
}

fn drawn_options(process: &Process) -> (StreamOptions, usize) {
    let mut seed = process.world.chance();
    let heartbeat = seed.pick(&[None, Some(Duration::from_secs(2)), Some(Duration::from_secs(3_600))]);
    let options = StreamOptions::default()
        .prefetch(1 + seed.below(20) as usize)
        .heartbeat(heartbeat)
        .listen(seed.below(4) > 0)
        .reaper(seed.below(3) > 0)
        .worker_name(format!("process {}", process.number));
    (options, 1 + seed.below(4) as usize)
}

/// A handler's trust in a lease, until it is dropped.
struct Trust(Arc<Process>, Lease);

impl Drop for Trust {
    fn drop(&mut self) {
        self.0.world.auditor().distrust(self.1);
    }
}

/// Handles a job, and settles it or not. The handler has the job from this call on.
pub(super) fn handle(process: Arc<Process>, job: PendingJob<u64>) -> impl Future<Output = ()> + Send + 'static {
    let has_timeout = job.metadata().timeout.is_some();
    let (_, ack) = job.into_parts();
    let lease = ack.lease();
    process.world.auditor().trust(process.number, lease);
    let trust = Trust(process.clone(), lease);
    work_on(process, ack, trust, has_timeout)
}

async fn work_on(process: Arc<Process>, mut ack: JobAck, trust: Trust, has_timeout: bool) {
    let peaceful = process.world.is_peaceful();
    let takes_us = match process.world.below(8) {
        _ if peaceful => process.world.below(50_000),
        // Longer than a lease may last: no one asks the handler to stop.
        0 if has_timeout => 25 * SECOND + process.world.below(20 * SECOND),
        0..3 => 0,
        3..6 => process.world.below(SECOND / 2),
        6 => process.world.below(2 * SECOND),
        _ => process.world.below(7 * SECOND),
    };
    if process.world.below(4) == 0 {
        // It is stored or not, but only while the job has this lease.
        drop(ack.set_progress(lease_and_time(&process, ack.lease())));
    }
    let stopped = select(ack.lost(), ack.cancelled());
    let stopped = process.within_us(takes_us, stopped).await;
    let is_lost = matches!(stopped, Some(Either::Left(_)));
    if !is_lost && !peaceful && process.world.below(8) == 0 {
        let lost = ack.lost();
        // The following steps show whether it worked.
        drop(select(pin!(ack.refresh_lock()), lost).await);
    }
    drop(trust);
    let settled = match process.world.below(5) {
        0 => super::transaction::settle(&process, ack).await,
        _ => Some(ack),
    };
    let Some(ack) = settled else { return };
    settle(&process, ack, if peaceful { process.world.below(10) * 8 } else { process.world.below(80) }).await;
}

/// Returns progress that no other handler reports.
fn lease_and_time(process: &Process, lease: Lease) -> (i64, u64) {
    (lease.number, process.world.now_us())
}

async fn settle(process: &Arc<Process>, ack: JobAck, roll: u64) {
    let lease = ack.lease();
    let (verdict, settling): (i16, Settling) = match roll {
        0..3 => return drop(ack),
        3..6 if !process.world.is_peaceful() => {
            ack.leave();
            return;
        }
        6..9 => (2, ack.hard_fail("no → way")),
        9..20 => (1, ack.soft_fail("later")),
        20..24 => (3, ack.release()),
        24..27 => (9, ack.snooze(Duration::from_micros(process.world.below(2 * SECOND)))),
        27..30 => (1, ack.soft_fail_after(Duration::from_micros(process.world.below(2 * SECOND)), "busy")),
        30..44 => (0, ack.commit_with(lease.number)),
        _ => (0, ack.commit()),
    };
    let timeout_us = match process.world.below(6) {
        0 if !process.world.is_peaceful() => process.world.below(SECOND),
        _ => 3_600 * SECOND,
    };
    if let Some(answer) = process.within_us(timeout_us, settling).await {
        process.world.auditor().settled(&process.world, lease, verdict, &answer);
    }
}
