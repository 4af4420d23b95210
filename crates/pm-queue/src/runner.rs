//! The runner: a loop over a stream that calls a handler for each job and settles the job by what it returns.

use crate::observe::Span;
use crate::runtime::BoxFuture;
use crate::sending::Link;
use crate::worker::{
    Cancelled, JobAck, JobStream, Lost, PendingJob, PendingMetadata, QueueNames, Reporter, StreamOptions, catch_panic,
};
use crate::{Error, Queue};
use futures_channel::oneshot;
use futures_util::future::{AbortHandle, Either, Shared, abortable, select};
use futures_util::lock::{Mutex, MutexGuard};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error as StdError;
use std::future::{pending, poll_fn};
use std::ops::{Deref, DerefMut};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

/// For how long the runner waits for a handler to be dropped. One that blocks its thread cannot be.
const DROP_WAIT: Duration = Duration::from_secs(1);

/// How [`Queue::run`] runs jobs.
#[non_exhaustive]
pub struct RunOptions {
    /// How many jobs run at the same time (default 10).
    pub concurrency: usize,
    /// How long a handler may take, unless its job or queue has a timeout (default: no limit). A handler that takes longer is asked to stop; if it does not
    /// succeed within the grace, its job soft-fails with the reason `timed out after …`.
    pub timeout: Option<Duration>,
    /// For how long a handler that was asked to stop may continue before it is dropped (default 10 s).
    pub grace: Duration,
    /// After the runner was stopped, for how long handlers may go on before they are asked to stop (default 30 s).
    pub drain: Duration,
    /// How the stream claims jobs.
    pub stream: StreamOptions,
    stop: Option<BoxFuture<'static, ()>>,
}

impl Default for RunOptions {
    fn default() -> Self {
        RunOptions {
            concurrency: 10,
            timeout: None,
            grace: Duration::from_secs(10),
            drain: Duration::from_secs(30),
            stream: StreamOptions::default(),
            stop: None,
        }
    }
}

impl RunOptions {
    /// Returns the default options.
    pub fn new() -> Self {
        RunOptions::default()
    }

    /// Sets how many jobs run at the same time; at least 1.
    pub fn concurrency(mut self, jobs: usize) -> Self {
        self.concurrency = jobs.max(1);
        self
    }

    /// Sets how long a handler may take, unless its job or queue has a timeout. It must be longer than zero.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets for how long a handler that was asked to stop may continue before it is dropped.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets how the stream claims jobs.
    pub fn stream(mut self, options: StreamOptions) -> Self {
        self.stream = options;
        self
    }

    /// Stops the runner when this future completes. It claims no further job then, and its handlers have `drain` to
    /// end. Those that have not are asked to stop, dropped after the grace, and their jobs released.
    ///
    /// The future says that the program should end; [`RunOptions::stop_on_signal`] is one for the usual signals.
    pub fn stop_when(mut self, stop: impl Future<Output = ()> + Send + 'static, drain: Duration) -> Self {
        self.stop = Some(Box::pin(stop));
        self.drain = drain;
        self
    }
}

#[cfg(unix)]
impl RunOptions {
    /// Stops the runner, as [`RunOptions::stop_when`] does, when the process gets SIGTERM or SIGINT (Ctrl-C). A second
    /// signal ends the process at once.
    ///
    /// It starts a thread that waits for the signals, on any runtime. From this call on they no longer end the process by
    /// themselves.
    ///
    /// # Errors
    ///
    /// When the operating system refuses to handle the signals or to start a thread.
    pub fn stop_on_signal(self, drain: Duration) -> std::io::Result<Self> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
        let (stop, stopped) = oneshot::channel();
        std::thread::Builder::new().name("pm-signals".to_owned()).spawn(move || {
            let mut signals = signals.forever();
            let _first = signals.next();
            let _runner_is_gone = stop.send(());
            if let Some(second) = signals.next() {
                let _refused = signal_hook::low_level::emulate_default_handler(second);
            }
        })?;
        Ok(self.stop_when(stopped.map(|_| ()), drain))
    }
}

impl std::fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let RunOptions { concurrency, timeout, grace, drain, stream, stop } = self;
        f.debug_struct("RunOptions")
            .field("concurrency", concurrency)
            .field("timeout", timeout)
            .field("grace", grace)
            .field("drain", drain)
            .field("stream", stream)
            .field("stops", &stop.is_some())
            .finish()
    }
}

/// What becomes of a job whose handler has returned without an error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is finished.
    Done,
    /// It is finished with this result, as [`JobAck::commit_with`] does. If the result is larger than 1 MiB, the job
    /// soft-fails with that as its reason.
    DoneWith(serde_json::Value),
    /// It soft-fails for this reason, and is retried after the next delay of its backoff, if retries are left.
    Retry(String),
    /// It soft-fails for this reason, and is retried after this time, if retries are left.
    RetryAfter(Duration, String),
    /// It is put off for this time, with neither an attempt nor a retry counted.
    Snooze(Duration),
    /// It is put back for another worker, as [`JobAck::release`] does.
    Release,
    /// It has failed for this reason, and is not retried.
    Fail(String),
}

/// A handler that has nothing to say is done.
impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Outcome::Done
    }
}

/// Why a handler is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// It has taken longer than its timeout.
    TimedOut,
    /// Its lease can no longer be trusted: another worker may have the job.
    LeaseLost,
    /// The job was cancelled; see [`Queue::cancel_jobs`].
    Cancelled,
    /// The runner was stopped, and the time for its handlers to end is over.
    ShuttingDown,
}

/// What a handler of [`Queue::run`] knows of its job, and its ack. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct JobContext {
    job: Arc<RunningJob>,
}

#[derive(Debug)]
struct RunningJob {
    metadata: PendingMetadata,
    /// None after the runner has taken it back to settle the job.
    ack: Mutex<Option<JobAck>>,
    reporter: Reporter,
    stop_reason: OnceLock<StopReason>,
    stopped: Shared<oneshot::Receiver<()>>,
}

impl JobContext {
    /// Returns the job's metadata: id, queue, attempt, retries, key and so on.
    pub fn metadata(&self) -> &PendingMetadata {
        &self.job.metadata
    }

    /// Returns whether the job has failed if this attempt soft-fails.
    pub fn is_last_attempt(&self) -> bool {
        self.job.metadata.is_last_attempt()
    }

    /// Reports how far the job has come, as [`JobAck::set_progress`] does.
    ///
    /// ```
    /// # use pm_queue::{Error, JobContext};
    /// # fn handle(job: &JobContext) -> Result<(), Error> {
    /// job.set_progress(serde_json::json!({ "page": 3, "of": 20 }))
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`JobAck::set_progress`].
    pub fn set_progress(&self, progress: impl Serialize) -> Result<(), Error> {
        self.job.reporter.set(&progress)
    }

    /// Waits until the handler is asked to stop, and returns why.
    ///
    /// A handler with something to clean up races its work against this. It then has the [grace](RunOptions::grace) to
    /// return; one that does not watch this is dropped after the grace.
    pub async fn stopped(&self) -> StopReason {
        let _runner_is_gone = self.job.stopped.clone().await;
        self.stop_reason().unwrap_or(StopReason::ShuttingDown)
    }

    /// Returns why the handler is asked to stop, if it is.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.job.stop_reason.get().copied()
    }

    /// Returns the job's ack, to settle the job in a transaction of the handler's or to extend its lease.
    ///
    /// A job that was settled through it is left as it is, whatever the handler returns. Drop the guard before returning
    /// from the handler.
    ///
    /// ```no_run
    /// # use pm_queue::{Error, JobContext, Outcome};
    /// # use pm_queue::driver::Executor;
    /// # struct Transaction;
    /// # impl Transaction { async fn commit(self) -> Result<(), Error> { Ok(()) } }
    /// # async fn handle(job: JobContext, inside: &dyn Executor, transaction: Transaction) -> Result<Outcome, Error> {
    /// let mut ack = job.ack().await?;
    /// let settlement = ack.commit_in(inside).await?;
    /// transaction.commit().await?;
    /// settlement.committed();
    /// # Ok(Outcome::Done)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `LeaseLost` after the handler has returned, in a task that outlives it.
    pub async fn ack(&self) -> Result<AckGuard<'_>, Error> {
        let ack = self.job.ack.lock().await;
        if ack.is_none() {
            return Err(pm_core::Error::LeaseLost.into());
        }
        Ok(AckGuard(ack))
    }
}

/// The ack of a running job; see [`JobContext::ack`].
#[derive(Debug)]
pub struct AckGuard<'a>(MutexGuard<'a, Option<JobAck>>);

impl Deref for AckGuard<'_> {
    type Target = JobAck;

    fn deref(&self) -> &JobAck {
        self.0.as_ref().expect("checked when the guard was made")
    }
}

impl DerefMut for AckGuard<'_> {
    fn deref_mut(&mut self) -> &mut JobAck {
        self.0.as_mut().expect("checked when the guard was made")
    }
}

impl Queue {
    /// Runs `handler` for each job of one or more queues, several at a time, until the runner is stopped or the queue
    /// handle is closed.
    ///
    /// The handler gets the payload and a [`JobContext`], and returns what becomes of the job: an [`Outcome`], `()` for
    /// done, or an error, which is a soft fail with the error and its causes as the reason. Each handler runs as its own
    /// task of the runtime.
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
    /// * One that takes longer than its [timeout](RunOptions::timeout), has lost its lease, is to be cancelled, or is still running when the
    ///   runner has to end, is asked to stop ([`JobContext::stopped`]). If it returns an outcome within the
    ///   [grace](RunOptions::grace), that is the job's; an error is then a soft fail with the timeout as its reason, or a
    ///   release. After the grace it is dropped.
    /// * One that blocks its thread can be neither stopped nor dropped. Its job is settled like that of the others and
    ///   another takes its place, but the thread is lost to the runtime until it returns. Use a runtime with several
    ///   threads, and its own function for work that blocks.
    ///
    /// A payload that cannot be decoded as `T` leaves its job to another worker, as [`JobAck::unreadable`] describes. A
    /// place is free again when the settlement of its job is durable. If the returned future is dropped, the handlers are
    /// dropped too, and their jobs soft-fail.
    ///
    /// # Errors
    ///
    /// `Invalid` for a bad name, for no name, or for a timeout of zero; `QueueNotFound` when none of the queues exists any
    /// more; `Schema` when the tables do not fit this version. Failures of the connection are no errors: it reconnects.
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
        let RunOptions { concurrency, timeout, grace, drain, stream, stop } = options;
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(Error::invalid("a timeout of zero; leave it out for no limit"));
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
        let mut stop = stop.unwrap_or_else(|| Box::pin(std::future::pending())).fuse();
        let mut active = FuturesUnordered::new();
        let mut last_error = None;
        let result = loop {
            match next(&mut stop, &mut active, &mut jobs, concurrency).await {
                Next::Job(job) => match *job {
                    Ok(job) => {
                        last_error = None;
                        active.push(runner.clone().supervise(job));
                    }
                    // Dropping the error of an unreadable payload leaves its job to another worker.
                    Err(error) => last_error = Some(error),
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
        let metadata = job.metadata().clone();
        let (payload, ack) = job.into_parts();
        let (lost, cancelled) = (ack.lost(), ack.cancelled());
        let (span, reporter) = (ack.span.clone(), ack.reporter());
        let (stop, stopped) = oneshot::channel();
        let (ack, stop_reason) = (Mutex::new(Some(ack)), OnceLock::new());
        let job = Arc::new(RunningJob { metadata, ack, reporter, stop_reason, stopped: stopped.shared() });
        let (task, returned) = self.start(payload, JobContext { job: job.clone() }, &span);
        let timeout = job.metadata.timeout.or(self.timeout);
        let returned = match select(returned, self.stop_reason(timeout, lost, cancelled)).await {
            Either::Left((returned, _)) => returned.ok(),
            Either::Right((reason, returned)) => {
                job.stop_reason.get_or_init(|| reason);
                let _handler_is_gone = stop.send(());
                self.stop(task, returned).await
            }
        };
        self.settle(&job, returned).await;
    }

    /// Starts the handler of a job in its span. Dropping the first value drops the handler; the second receives what it returns.
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
    fn stop_reason(&self, timeout: Option<Duration>, lost: Lost, cancelled: Cancelled) -> BoxFuture<'_, StopReason> {
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

    /// Settles a job by what its handler returned; `None` if it was dropped.
    async fn settle(&self, job: &RunningJob, returned: Option<Returned>) {
        // A handler that blocks its thread while it holds the ack keeps it: the job's lease will end.
        let ack = job.ack.try_lock().and_then(|mut ack| ack.take());
        let Some(ack) = ack.filter(|ack| !ack.is_settled()) else { return };
        let outcome = match (returned, job.stop_reason.get()) {
            (Some(Ok(outcome)), _) => outcome,
            (Some(Err(reason)), None) => Outcome::Retry(reason),
            (returned, Some(StopReason::TimedOut)) => {
                Outcome::Retry(timed_out(job.metadata.timeout.or(self.timeout), returned))
            }
            // Whatever it is settled with, a cancelled job has failed.
            (returned, Some(StopReason::Cancelled)) => {
                Outcome::Fail(failure(returned).unwrap_or_else(|| "cancelled".to_owned()))
            }
            (_, Some(StopReason::ShuttingDown)) => Outcome::Release,
            (_, Some(StopReason::LeaseLost)) => {
                ack.leave();
                return;
            }
            // The runtime has dropped the handler's task.
            (None, None) => return,
        };
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
