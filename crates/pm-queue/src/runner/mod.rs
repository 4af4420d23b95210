//! The runner: a loop over a stream that calls a handler for each job and settles the job by what it returns.

mod context;
mod options;

pub use context::{AckGuard, JobContext, Outcome, StopReason};
pub use options::RunOptions;

use crate::observe::Span;
use crate::runtime::BoxFuture;
use crate::sending::Link;
use crate::worker::{Cancelled, JobAck, JobStream, PendingJob, QueueNames, catch_panic};
use crate::{Error, Queue};
use context::RunningJob;
use futures_channel::oneshot;
use futures_util::future::{AbortHandle, Either, Shared, abortable, select};
use futures_util::lock::Mutex;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt};
use serde::de::DeserializeOwned;
use std::error::Error as StdError;
use std::future::{pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

/// For how long the runner waits for a handler to be dropped, and for its ack. One that blocks its thread cannot be.
const DROP_WAIT: Duration = Duration::from_secs(1);

impl Queue {
    /// Runs `handler` for each job of one or more queues, several at a time, until the runner is stopped or the queue
    /// handle is closed.
    ///
    /// The handler gets the payload and a [`JobContext`], and returns what becomes of the job: an [`Outcome`], `()` for
    /// done, or an error, which is a soft fail with the error and its causes as the reason. Each handler runs as its
    /// own task of the runtime.
    ///
    /// ```no_run
    /// # use pm_queue::{Error, JobContext, Outcome, Queue, RunOptions};
    /// # use std::time::Duration;
    /// # type BoxError = Box<dyn std::error::Error + Send + Sync>;
    /// # async fn send(mail: &str) -> Result<u16, BoxError> { Ok(200) }
    /// async fn handle(mail: String, _job: JobContext) -> Result<Outcome, BoxError> {
    ///     Ok(match send(&mail).await? {
    ///         400 => Outcome::Fail("the address is refused".to_owned()),
    ///         429 => Outcome::RetryAfter(Duration::from_secs(30), "busy".to_owned()),
    ///         _ => Outcome::Done,
    ///     })
    /// }
    ///
    /// # async fn work(queue: &Queue) -> Result<(), Error> {
    /// queue.run("mails", RunOptions::new().concurrency(8).timeout(Duration::from_secs(60)), handle).await
    /// # }
    /// ```
    ///
    /// What happens to one job does not concern the others:
    ///
    /// * A handler that panics soft-fails its job, with the panic's message.
    /// * One that takes longer than its [timeout](RunOptions::timeout), has lost its lease, is to be cancelled, or is
    ///   still running when the runner has to end, is asked to stop ([`JobContext::stopped`]). If it returns an outcome
    ///   within the [grace](RunOptions::grace), that is the job's; an error is then a soft fail with the timeout as its
    ///   reason, or a release. After the grace it is dropped.
    /// * One that blocks its thread can be neither stopped nor dropped. Its job is settled like that of the others and
    ///   another takes its place, but the thread is lost to the runtime until it returns. Use a runtime with several
    ///   threads, and its own function for work that blocks.
    ///
    /// A payload that cannot be decoded as `T` leaves its job to another worker, as [`JobAck::unreadable`] describes. A
    /// slot is free again when the settlement of its job is durable. If the returned future is dropped, the handlers
    /// are dropped too, and their jobs soft-fail.
    ///
    /// # Errors
    ///
    /// `Invalid` for a bad name, for no name, or for a timeout of zero; `QueueNotFound` when none of the queues exists
    /// any more; `Schema` when the tables do not fit this version. Failures of the connection are no errors: it
    /// reconnects.
    pub async fn run<T, Handler, Running, O, E>(
        &self,
        queues: impl QueueNames,
        options: RunOptions,
        handler: Handler,
    ) -> Result<(), Error>
    where
        T: DeserializeOwned + Send + 'static,
        Handler: Fn(T, JobContext) -> Running + Send + Sync + 'static,
        Running: Future<Output = Result<O, E>> + Send + 'static,
        O: Into<Outcome>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let RunOptions { concurrency, timeout, grace, drain, mut stream, stop } = options;
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(Error::invalid("a timeout of zero; leave it out for no limit"));
        }
        // A handler that may take that long keeps its lease.
        if let (Some(timeout), Some(heartbeat)) = (timeout, stream.heartbeat) {
            stream.heartbeat = Some(heartbeat.max(timeout.saturating_add(grace)));
        }
        let (shut_down, shutting_down) = oneshot::channel();
        let runner = Arc::new(Runner {
            handler,
            timeout,
            grace,
            shutting_down: shutting_down.shared(),
            link: self.link().clone(),
        });
        let mut jobs = self.try_stream_jobs_with::<T>(queues, stream);
        let mut stop = stop.map_or_else(|| Box::pin(pending()) as BoxFuture<'static, ()>, |stop| stop.0).fuse();
        let mut active = FuturesUnordered::new();
        let mut last_error = None;
        let result = loop {
            match next(&mut stop, &mut active, &mut jobs, concurrency).await {
                Next::Job(job) => match *job {
                    Ok(job) => {
                        last_error = None;
                        active.push(runner.clone().supervise(job));
                    }
                    Err(error) => {
                        // Dropping the ack of an unreadable payload leaves its job to another worker.
                        drop(error.take_ack());
                        last_error = Some(error);
                    }
                },
                // The last error is why the stream has ended, unless this handle was closed.
                Next::Ended => break last_error.filter(|_| self.check_open().is_ok()).map_or(Ok(()), Err),
                Next::Stopped => break Ok(()),
            }
        };
        // Its jobs that no handler has are released.
        drop(jobs);
        let mut drained = pin!(active.collect::<()>());
        if let Either::Right(_) = select(drained.as_mut(), runner.link.runtime.sleep(drain)).await {
            drop(shut_down);
            drained.await;
        }
        result
    }
}

/// What the runner does next.
enum Next<T> {
    /// Start a job, or note an error of the stream.
    Job(Box<Result<PendingJob<T>, Error>>),
    /// End, because the stream has.
    Ended,
    /// End, because the program is to.
    Stopped,
}

/// Waits for a job, while fewer than `concurrency` run, or for the end.
async fn next<T: DeserializeOwned + 'static>(
    stop: &mut (impl Future<Output = ()> + Unpin),
    active: &mut FuturesUnordered<impl Future<Output = ()>>,
    jobs: &mut JobStream<T>,
    concurrency: usize,
) -> Next<T> {
    poll_fn(|cx| {
        if stop.poll_unpin(cx).is_ready() {
            return Poll::Ready(Next::Stopped);
        }
        while let Poll::Ready(Some(())) = Pin::new(&mut *active).poll_next(cx) {}
        if active.len() >= concurrency {
            return Poll::Pending;
        }
        Pin::new(&mut *jobs).poll_next(cx).map(|job| job.map_or(Next::Ended, |job| Next::Job(Box::new(job))))
    })
    .await
}

/// What all jobs of a run share.
struct Runner<Handler> {
    handler: Handler,
    timeout: Option<Duration>,
    grace: Duration,
    /// Completes when handlers are to be stopped.
    shutting_down: Shared<oneshot::Receiver<()>>,
    link: Arc<Link>,
}

/// What a handler returned, or the reason of its failure.
type Returned = Result<Outcome, String>;

impl<Handler: Send + Sync + 'static> Runner<Handler> {
    /// Runs the handler of one job in its own task, stops it if need be, and settles the job.
    async fn supervise<T, Running, O, E>(self: Arc<Self>, job: PendingJob<T>)
    where
        T: Send + 'static,
        Handler: Fn(T, JobContext) -> Running,
        Running: Future<Output = Result<O, E>> + Send + 'static,
        O: Into<Outcome>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let (payload, metadata, ack) = job.into_parts_with_metadata();
        let (lost, cancelled) = (ack.lost(), ack.cancelled());
        let (span, reporter) = (ack.span.clone(), ack.reporter());
        // A handler that has settled the job in its own transaction may go on.
        let lost = lost.then({
            let reporter = reporter.clone();
            move |()| if reporter.has_lease() { Either::Left(ready(())) } else { Either::Right(pending()) }
        });
        let timeout = metadata.timeout.or(self.timeout);
        let (stop, stopped) = oneshot::channel();
        let ack = Mutex::new(Some(ack));
        let has_ended = AtomicBool::new(false);
        let job = Arc::new(RunningJob { metadata, ack, reporter, stopped: stopped.shared(), has_ended });
        let (task, returned) = self.start(payload, JobContext { job: job.clone() }, &span);
        let (returned, stop_reason) = match select(returned, self.stop_reason(timeout, lost, cancelled)).await {
            Either::Left((returned, _)) => (returned.ok(), None),
            Either::Right((reason, returned)) => {
                let _handler_is_gone = stop.send(reason);
                (self.stop(task, returned).await, Some(reason))
            }
        };
        let outcome = match (returned, stop_reason) {
            (Some(Ok(outcome)), _) => Some(outcome),
            (Some(Err(reason)), None) => Some(Outcome::Retry(reason)),
            (returned, Some(StopReason::TimedOut)) => Some(Outcome::Retry(timed_out(timeout, returned))),
            // Whatever it is settled with, a cancelled job has failed.
            (returned, Some(StopReason::Cancelled)) => {
                Some(Outcome::Fail(failure(returned).unwrap_or_else(|| "cancelled".to_owned())))
            }
            (_, Some(StopReason::ShuttingDown)) => Some(Outcome::Release),
            (_, Some(StopReason::LeaseLost)) => None,
            // The runtime has dropped the handler's task.
            (None, None) => return,
        };
        job.has_ended.store(true, Ordering::Relaxed);
        // A task of the handler may be using the ack; a handler that blocks its thread while it holds the ack keeps it,
        // and the job's lease will end.
        let ack = match select(job.ack.lock(), self.link.runtime.sleep(DROP_WAIT)).await {
            Either::Left((mut ack, _)) => ack.take(),
            Either::Right(_) => None,
        };
        let Some(ack) = ack.filter(|ack| !ack.is_settled()) else { return };
        match outcome {
            Some(outcome) => settle(ack, outcome).await,
            None => drop(ack.leave()),
        }
    }

    /// Starts the handler of a job in its span. Dropping the first value drops the handler; the second receives what it
    /// returns.
    fn start<T, Running, O, E>(
        self: &Arc<Self>,
        payload: T,
        context: JobContext,
        span: &Span,
    ) -> (HandlerTask, oneshot::Receiver<Returned>)
    where
        T: Send + 'static,
        Handler: Fn(T, JobContext) -> Running,
        Running: Future<Output = Result<O, E>> + Send + 'static,
        O: Into<Outcome>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let runner = self.clone();
        let called = span.run(async move {
            match catch_panic(async { (runner.handler)(payload, context).await }).await {
                Ok(Ok(outcome)) => Ok(outcome.into()),
                Ok(Err(error)) => Err(with_causes(&*error.into())),
                Err(panic) => Err(panic.to_string()),
            }
        });
        let (called, abort) = abortable(called);
        let (sender, returned) = oneshot::channel();
        self.link.runtime.spawn(Box::pin(async move {
            // The handler is dropped before the receiver learns of it.
            if let Ok(outcome) = called.await {
                drop(sender.send(outcome));
            }
        }));
        (HandlerTask(abort), returned)
    }

    /// Waits until the handler must stop; returns why.
    fn stop_reason(
        &self,
        timeout: Option<Duration>,
        lost: impl Future<Output = ()> + Send + Unpin + 'static,
        cancelled: Cancelled,
    ) -> BoxFuture<'_, StopReason> {
        let sleep = |timeout| self.link.runtime.sleep(timeout);
        let timed_out = timeout.map_or_else(|| Box::pin(pending()), sleep).map(|()| StopReason::TimedOut);
        let lost = lost.map(|()| StopReason::LeaseLost);
        let cancelled = cancelled.map(|()| StopReason::Cancelled);
        let shutting_down = self.shutting_down.clone().map(|_| StopReason::ShuttingDown);
        let first = select(select(timed_out, lost), select(cancelled, shutting_down));
        Box::pin(first.map(|first| match first {
            Either::Left((first, _)) => first.factor_first().0,
            Either::Right((first, _)) => first.factor_first().0,
        }))
    }

    /// Gives a handler that was asked to stop the grace to return, and drops it otherwise.
    async fn stop(&self, task: HandlerTask, returned: oneshot::Receiver<Returned>) -> Option<Returned> {
        match select(returned, self.link.runtime.sleep(self.grace)).await {
            Either::Left((returned, _)) => returned.ok(),
            Either::Right((_, returned)) => {
                drop(task);
                match select(returned, self.link.runtime.sleep(DROP_WAIT)).await {
                    Either::Left((returned, _)) => returned.ok(),
                    // It blocks its thread.
                    Either::Right(_) => None,
                }
            }
        }
    }
}

/// Settles a job.
async fn settle(ack: JobAck, outcome: Outcome) {
    let settling = match outcome {
        Outcome::Done => ack.commit(),
        Outcome::DoneWith(result) => match ack.commit_with(result).await {
            // Its ack was not used.
            Err(refused) => match refused.take_ack() {
                Some(ack) => ack.soft_fail(refused.message()),
                None => return,
            },
            Ok(()) => return,
        },
        Outcome::Retry(reason) => ack.soft_fail(reason),
        Outcome::RetryAfter(delay, reason) => ack.soft_fail_after(delay, reason),
        Outcome::Snooze(delay) => ack.snooze(delay),
        Outcome::Release => ack.release(),
        Outcome::Fail(reason) => ack.hard_fail(reason),
    };
    // An error means that the lease was lost, or the database was away for too long. The job is reaped then.
    drop(settling.await);
}

/// The task of a handler. Dropping it drops the handler.
struct HandlerTask(AbortHandle);

impl Drop for HandlerTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Returns the reason of a job that has timed out, with the error that its handler returned in the end.
fn timed_out(timeout: Option<Duration>, returned: Option<Returned>) -> String {
    let reason = format!("timed out after {:?}", timeout.unwrap_or_default());
    failure(returned).map_or(reason.clone(), |error| format!("{reason}: {error}"))
}

/// Returns the error that a handler returned.
fn failure(returned: Option<Returned>) -> Option<String> {
    returned.and_then(Result::err)
}

/// Returns the message of an error with those of its causes, unless a message contains the next one already.
fn with_causes(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| (*cause).source()) {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}
