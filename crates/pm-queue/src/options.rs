//! How to connect, enqueue, stream and list.

use crate::Error;
use pm_core::machine::WorkerOptions;
use pm_core::op;
use pm_core::{QueueName, SchemaName, State};
use std::time::Duration;
use uuid::Uuid;

/// How to connect, and how the connections behave.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// The schema that holds pm's tables (default `pm`).
    pub schema: String,
    /// Whether a missing or older schema is migrated when connecting (default true).
    pub migrate: bool,
    /// Whether the schema's version is checked when connecting (default true).
    pub check_schema: bool,
    /// The maximum number of connections for statements that hardly ever wait for a lock (default 2).
    ///
    /// Each carries many statements at a time, if the driver pipelines. Connections are opened on demand. There are
    /// more for other statements, see [`waiting_connections`](Self::waiting_connections), and one for the listener.
    pub connections: usize,
    /// The maximum number of connections for operators' statements, which may wait for a lock or read many rows
    /// (default 2).
    ///
    /// Unless this is 0, there is also one connection for enqueues with keys and one for extending leases, so that
    /// claims, settles, extensions and enqueues without keys never wait behind these statements. With 0, all
    /// statements share `connections`: for a program that does one thing after another.
    pub waiting_connections: usize,
    /// The time limit for opening a session on one address of the server (default 5 s). Like all timeouts, 1 ms to
    /// 24.8 days. `connect_timeout` in the URL overrides it; `PGCONNECT_TIMEOUT` overrides its default.
    pub connect_timeout: Duration,
    /// The server's `statement_timeout` for pm's statements (default 30 s). On sessions of the caller's pool it is set
    /// for each statement, and a shorter timeout of the session is kept.
    ///
    /// The time to send the rows counts: a job of 300 MB needs 24 s over 100 Mbit/s. The client waits 5 s longer for
    /// the reply, and one more second for every 128 KiB of payloads sent.
    pub statement_timeout: Duration,
    /// The server's `lock_timeout` for pm's statements (default 5 s), set in the same way. Enqueues outside a caller's
    /// transaction wait at most 50 ms for a lock, whatever this is, and are then sent again.
    pub lock_timeout: Duration,
    /// The `application_name` of the sessions (default `pm`). `application_name` in the URL overrides it; `PGAPPNAME`
    /// overrides its default.
    pub application_name: String,
    /// Whether the connections go through a transaction pooler such as PgBouncer (default false).
    ///
    /// If so, no state is kept in a session: each statement is sent unprepared, in a transaction that begins with
    /// timeouts and planner settings. There are no notifications without [`listener_url`](Self::listener_url), so idle
    /// streams poll. If this is false and there is a pooler, opening a connection fails with an error of kind
    /// `Invalid`.
    pub pooler: bool,
    listener_url: Option<Hidden>,
}

/// A URL whose `Debug` output does not contain the password.
#[derive(Clone)]
struct Hidden(String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        ConnectOptions {
            schema: SchemaName::default().to_string(),
            migrate: true,
            check_schema: true,
            connections: 2,
            waiting_connections: 2,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(5),
            application_name: "pm".to_owned(),
            pooler: false,
            listener_url: None,
        }
    }
}

impl ConnectOptions {
    /// Sets the schema.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// Sets whether a missing or older schema is migrated when connecting.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Sets whether the schema's version is checked when connecting.
    pub fn check_schema(mut self, check_schema: bool) -> Self {
        self.check_schema = check_schema;
        self
    }

    /// Sets the maximum number of connections; at least 1.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// Sets the maximum number of connections for operators' statements; with 0, all statements share `connections`.
    pub fn waiting_connections(mut self, waiting_connections: usize) -> Self {
        self.waiting_connections = waiting_connections;
        self
    }

    /// Sets the time limit for opening a session on one address of the server.
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// Sets the server's `statement_timeout` for pm's statements.
    pub fn statement_timeout(mut self, statement_timeout: Duration) -> Self {
        self.statement_timeout = statement_timeout;
        self
    }

    /// Sets the server's `lock_timeout` for pm's statements.
    pub fn lock_timeout(mut self, lock_timeout: Duration) -> Self {
        self.lock_timeout = lock_timeout;
        self
    }

    /// Sets the `application_name` of the sessions.
    pub fn application_name(mut self, application_name: impl Into<String>) -> Self {
        self.application_name = application_name.into();
        self
    }

    /// Sets whether the connections go through a transaction pooler.
    pub fn pooler(mut self, pooler: bool) -> Self {
        self.pooler = pooler;
        self
    }

    /// Sets the URL on which the listener connects (default: the same as for statements). With a pooler, give the URL
    /// of the server itself.
    pub fn listener_url(mut self, listener_url: impl Into<String>) -> Self {
        self.listener_url = Some(Hidden(listener_url.into()));
        self
    }

    /// Returns the listener's URL, if it differs from the one for statements. For driver authors.
    pub fn listens_at(&self) -> Option<&str> {
        self.listener_url.as_ref().map(|Hidden(url)| url.as_str())
    }

    /// Returns the SQL that sets timeouts and planner settings in a session that only pm uses. The planner settings
    /// keep plans on the indexes, whatever the tables contained when a statement was prepared.
    ///
    /// For driver authors; most send [`opening_script`](crate::opening_script), which includes it.
    pub fn session_script(&self) -> String {
        let (statement_ms, lock_ms) = (setting_ms(self.statement_timeout), setting_ms(self.lock_timeout));
        format!(
            "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_bitmapscan = off; \
             set jit = off; set statement_timeout = {statement_ms}; set lock_timeout = {lock_ms}; \
             set default_transaction_isolation = 'read committed'; set search_path = pg_catalog"
        )
    }

    /// Returns the SQL that begins a transaction with the same settings, for sessions that pm shares: those of the
    /// caller's pool or of a transaction pooler. Send it as a simple query, before the statement it is for.
    ///
    /// For driver authors. A shorter timeout of the session is kept.
    pub fn transaction_script(&self) -> String {
        let at_most = |name: &str, limit: Duration| {
            let (ms, theirs) = (setting_ms(limit), format!("current_setting('{name}')"));
            let shorter = format!("{theirs}::interval > interval '0' and {theirs}::interval < interval '{ms} ms'");
            format!("set_config('{name}', case when {shorter} then {theirs} else '{ms}' end, true)")
        };
        format!(
            "begin isolation level read committed; set local search_path = pg_catalog; \
             select set_config('plan_cache_mode', 'force_generic_plan', true), \
             set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), \
             set_config('jit', 'off', true), {}, {}",
            at_most("statement_timeout", self.statement_timeout),
            at_most("lock_timeout", self.lock_timeout),
        )
    }
}

/// Returns a timeout in milliseconds, in the type of the server's settings.
fn setting_ms(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}

/// The shortest timeout: Postgres counts milliseconds, and zero turns a timeout off.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);
/// The longest timeout that Postgres accepts: 24 days, 20 h, 31 min, 23.647 s.
const LONGEST_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

impl ConnectOptions {
    /// Refuses a timeout that the server would reject, or would treat as no timeout.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let timeouts = [
            ("connect_timeout", self.connect_timeout),
            ("statement_timeout", self.statement_timeout),
            ("lock_timeout", self.lock_timeout),
        ];
        match timeouts.into_iter().find(|(_, timeout)| !(SHORTEST_TIMEOUT..=LONGEST_TIMEOUT).contains(timeout)) {
            Some((name, timeout)) => Err(Error::invalid(format!(
                "a {name} of {timeout:?} is not between 1 ms and 2147483647 ms (24.8 days)"
            ))),
            None => Ok(()),
        }
    }
}

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

/// Which jobs to list. Jobs are listed newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobFilter {
    /// Only jobs of this queue.
    pub queue: Option<String>,
    /// Only jobs in this state; [`State::Paused`] also means the pending jobs of a paused queue.
    pub state: Option<State>,
    /// Only jobs older than this one. To get the next page, give the last id of the page before.
    pub after: Option<Uuid>,
    /// The maximum number of jobs to return (default 100).
    pub limit: usize,
}

impl Default for JobFilter {
    fn default() -> Self {
        JobFilter { queue: None, state: None, after: None, limit: 100 }
    }
}

impl JobFilter {
    /// Lists only jobs of this queue.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Lists only jobs in this state.
    pub fn state(mut self, state: State) -> Self {
        self.state = Some(state);
        self
    }

    /// Lists only jobs older than this one.
    pub fn after(mut self, after: Uuid) -> Self {
        self.after = Some(after);
        self
    }

    /// Sets the maximum number of jobs to return.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn into_core(self) -> Result<op::JobFilter, Error> {
        let queue = self.queue.as_deref().map(QueueName::new).transpose()?;
        Ok(op::JobFilter { queue, state: self.state, after: self.after, limit: self.limit })
    }
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
