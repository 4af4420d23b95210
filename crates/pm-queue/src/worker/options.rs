//! How a stream claims jobs, and of which queues.

use pm_core::QueueName;
use pm_core::machine::WorkerOptions;
use std::time::Duration;

/// How a stream claims jobs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StreamOptions {
    /// The maximum number of jobs claimed ahead of the handlers (default 1,000). The stream claims no more than the
    /// handlers took in the last second or, if a claim takes longer than that, four times what the last claim
    /// returned.
    pub prefetch: usize,
    /// How long the heartbeat extends the lease of a job that a handler works on (default 1 h); `None` turns it off.
    pub heartbeat: Option<Duration>,
    /// The first interval between polls of an empty queue (default 20 ms); it grows while the queue stays empty.
    pub poll_least: Duration,
    /// The longest interval between polls of an empty queue while no listener is connected (default 1 s).
    pub poll_most: Duration,
    /// Whether notifications of other processes wake the stream (default true). One listener, on its own connection,
    /// serves all streams of a queue handle. While it is connected, `idle_poll` applies instead of `poll_most`.
    pub listen: bool,
    /// The longest interval between polls of an empty queue while the listener is connected (default 30 s, at most a
    /// day).
    pub idle_poll: Duration,
    /// Whether the stream reaps expired leases, of other workers too, and fires schedules (default true).
    pub reaper: bool,
    /// The worker's name, for humans (default: process id and host). The first 200 bytes are kept, and every NUL is
    /// replaced.
    pub worker_name: Option<String>,
}

impl Default for StreamOptions {
    fn default() -> Self {
        StreamOptions {
            prefetch: 1_000,
            heartbeat: Some(Duration::from_secs(3_600)),
            poll_least: Duration::from_millis(20),
            poll_most: Duration::from_secs(1),
            listen: true,
            idle_poll: Duration::from_secs(30),
            reaper: true,
            worker_name: None,
        }
    }
}

impl StreamOptions {
    /// Sets the maximum number of jobs claimed ahead; at least 1.
    pub fn prefetch(mut self, prefetch: usize) -> Self {
        self.prefetch = prefetch.max(1);
        self
    }

    /// Sets how long the heartbeat extends leases; with `None`, handlers extend them with `JobAck::refresh_lock`.
    pub fn heartbeat(mut self, heartbeat: Option<Duration>) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// Sets the intervals between polls of an empty queue: `least` at first, growing up to `most`. `least` is at least
    /// 1 ms.
    pub fn poll(mut self, least: Duration, most: Duration) -> Self {
        (self.poll_least, self.poll_most) = (least.max(Duration::from_millis(1)), most.max(least));
        self
    }

    /// Sets whether notifications of other processes wake the stream.
    pub fn listen(mut self, listen: bool) -> Self {
        self.listen = listen;
        self
    }

    /// Sets the longest interval between polls of an empty queue while the listener is connected.
    pub fn idle_poll(mut self, idle_poll: Duration) -> Self {
        self.idle_poll = idle_poll;
        self
    }

    /// Sets whether the stream reaps expired leases and fires schedules.
    pub fn reaper(mut self, reaper: bool) -> Self {
        self.reaper = reaper;
        self
    }

    /// Sets the worker's name. The first 200 bytes are kept, and every NUL is replaced.
    pub fn worker_name(mut self, worker_name: impl Into<String>) -> Self {
        self.worker_name = Some(worker_name.into());
        self
    }

    pub(crate) fn into_core(
        self,
        queues: Vec<QueueName>,
        worker: &str,
        channel: String,
        statement_timeout: Duration,
    ) -> WorkerOptions {
        WorkerOptions {
            queues,
            worker: stored_name(self.worker_name.as_deref().unwrap_or(worker)),
            prefetch: self.prefetch,
            heartbeat: self.heartbeat,
            poll_least: self.poll_least,
            poll_most: self.poll_most,
            reaps: self.reaper,
            channel,
            statement_timeout,
        }
    }
}

/// Returns a worker's name as it is stored: without NUL, which Postgres cannot store, and no longer than a queue's.
fn stored_name(name: &str) -> String {
    let name = name.replace('\0', "\u{fffd}");
    name[..name.floor_char_boundary(QueueName::MAX_BYTES)].to_owned()
}

/// One queue name or several: a string, or a slice, array or vector of strings.
pub trait QueueNames {
    /// Returns the names.
    fn into_names(self) -> Vec<String>;
}

impl QueueNames for &str {
    fn into_names(self) -> Vec<String> {
        vec![self.to_owned()]
    }
}

impl QueueNames for String {
    fn into_names(self) -> Vec<String> {
        vec![self]
    }
}

impl QueueNames for &String {
    fn into_names(self) -> Vec<String> {
        vec![self.clone()]
    }
}

impl<S: AsRef<str>> QueueNames for &[S] {
    fn into_names(self) -> Vec<String> {
        self.iter().map(|name| name.as_ref().to_owned()).collect()
    }
}

impl<S: AsRef<str>, const N: usize> QueueNames for [S; N] {
    fn into_names(self) -> Vec<String> {
        self.as_slice().into_names()
    }
}

impl<S: AsRef<str>, const N: usize> QueueNames for &[S; N] {
    fn into_names(self) -> Vec<String> {
        self.as_slice().into_names()
    }
}

impl<S: AsRef<str>> QueueNames for Vec<S> {
    fn into_names(self) -> Vec<String> {
        self.as_slice().into_names()
    }
}
