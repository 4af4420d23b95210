//! How the runner runs jobs, and when it stops.

use crate::runtime::BoxFuture;
use crate::worker::StreamOptions;
use futures_channel::oneshot;
use futures_util::FutureExt;
use std::time::Duration;

/// How [`Queue::run`](crate::Queue::run) runs jobs.
#[derive(Debug)]
pub struct RunOptions {
    pub(super) concurrency: usize,
    pub(super) timeout: Option<Duration>,
    pub(super) grace: Duration,
    /// After the runner was stopped, for how long handlers may go on before they are asked to stop.
    pub(super) drain: Duration,
    pub(super) stream: StreamOptions,
    pub(super) stop: Option<Stop>,
}

/// A future that completes when the program should end.
pub(super) struct Stop(pub(super) BoxFuture<'static, ()>);

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stop")
    }
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
    /// Returns the default options: 10 jobs at the same time, no limit to their time, 10 s of grace, until the queue
    /// handle is closed.
    pub fn new() -> Self {
        RunOptions::default()
    }

    /// Sets how many jobs run at the same time (default 10); at least 1.
    pub fn concurrency(mut self, jobs: usize) -> Self {
        self.concurrency = jobs.max(1);
        self
    }

    /// Sets how long a handler may take, unless its job or queue has a timeout (default: no limit). It must be longer
    /// than zero. A handler that takes longer is asked to stop; if it does not succeed within the grace, its job
    /// soft-fails with the reason `timed out after …`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets for how long a handler that was asked to stop may continue before it is dropped (default 10 s).
    ///
    /// If jobs or queues have timeouts, keep it under 20 s: their leases end 30 s after the timeout at the latest,
    /// counted from the claim, which may be some seconds older than the call of the handler.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets for how long handlers may go on before they are asked to stop, after the runner was stopped or the queue
    /// handle closed (default 30 s).
    pub fn drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// Sets how the stream claims jobs.
    pub fn stream(mut self, options: StreamOptions) -> Self {
        self.stream = options;
        self
    }

    /// Stops the runner when this future completes. It claims no further job then, and its handlers have the time
    /// [`drain`](RunOptions::drain) to end. Those that have not are asked to stop, dropped after the grace, and their
    /// jobs released.
    ///
    /// The future completes when the program should end; [`RunOptions::stop_on_signal`] is one for the usual signals.
    pub fn stop_when(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        self.stop = Some(Stop(Box::pin(stop)));
        self
    }
}

#[cfg(unix)]
impl RunOptions {
    /// Stops the runner, as [`RunOptions::stop_when`] does, when the process gets SIGTERM or SIGINT (Ctrl-C). A second
    /// signal ends the process at once.
    ///
    /// It starts a thread that waits for the signals, on any runtime. From this call on they no longer end the process
    /// by themselves.
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
        Ok(self.drain(drain).stop_when(stopped.map(|_| ())))
    }
}
