//! How to connect, enqueue, stream and list.

use crate::Error;
use pm_core::machine::WorkerOptions;
use pm_core::op;
use pm_core::{Codec, JobOptions, KeyHold, OnConflict, QueueName, RunAt, SchemaName, State};
use std::time::Duration;
use uuid::Uuid;

/// How to connect.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// The schema that holds pm's tables (default `pm`).
    pub schema: String,
    /// Whether an empty or older schema is migrated (default yes).
    pub migrate: bool,
    /// Whether the schema's version is looked at (default yes).
    pub check_schema: bool,
    /// How many connections at most for statements that hardly ever wait for a lock (default 2; statements share them).
    ///
    /// Further ones are opened when first needed: see [`waiting_connections`](Self::waiting_connections). A stream that
    /// listens has one more.
    pub connections: usize,
    /// How many further connections at most for operators' statements, which may wait for a lock or read many rows
    /// (default 2). Besides, one carries enqueues with keys, and one extends leases.
    ///
    /// So claims, settles, extensions and enqueues without keys never wait behind them. With 0 there are none of these
    /// connections, and everything shares `connections`: for a program that does one thing after another.
    pub waiting_connections: usize,
    /// How long one address of the server may take until its session is ready (default 5 s). 1 ms to 24.8 days, as all
    /// timeouts. `connect_timeout` in the URL comes before it, and `PGCONNECT_TIMEOUT` before its default.
    pub connect_timeout: Duration,
    /// After how long the server gives up a statement (default 30 s). On sessions that are not our own it travels with each
    /// statement, and a shorter one of theirs stays.
    ///
    /// The time it takes to send the rows counts: a job of 300 MB needs 24 s over 100 Mbit/s. An answer is waited for 5 s
    /// longer, and a second more for every 128 KiB of payloads sent.
    pub statement_timeout: Duration,
    /// After how long a statement that waits for a lock is given up (default 5 s), likewise. Enqueues outside a transaction
    /// of the caller's wait 50 ms at most, whatever this says, and are then sent again.
    pub lock_timeout: Duration,
    /// The name the server shows (default `pm`). `application_name` in the URL comes before it, and `PGAPPNAME` before
    /// its default.
    pub application_name: String,
    /// Whether a transaction pooler, PgBouncer for example, stands between (default no).
    ///
    /// Then nothing is kept in a session: statements are sent whole each time, each in a transaction that begins with
    /// timeouts and settings for its plan, and there are no notifications without [`listener_url`](Self::listener_url): idle streams poll.
    /// One that stands there unsaid is noticed when a connection is opened, with an error of kind `Invalid`.
    pub pooler: bool,
    listener_url: Option<Hidden>,
}

/// A URL, whose password nobody is shown.
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
    /// Changes the schema.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// Changes whether an empty or older schema is migrated.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Changes whether the schema's version is looked at.
    pub fn check_schema(mut self, check_schema: bool) -> Self {
        self.check_schema = check_schema;
        self
    }

    /// Changes how many connections there may be, at least 1.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// Changes how many further connections there may be for operators' statements; with 0, these and extensions of
    /// leases share the others.
    pub fn waiting_connections(mut self, waiting_connections: usize) -> Self {
        self.waiting_connections = waiting_connections;
        self
    }

    /// Changes how long to wait for a connection.
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// Changes after how long the server gives up a statement.
    pub fn statement_timeout(mut self, statement_timeout: Duration) -> Self {
        self.statement_timeout = statement_timeout;
        self
    }

    /// Changes after how long a statement that waits for a lock is given up.
    pub fn lock_timeout(mut self, lock_timeout: Duration) -> Self {
        self.lock_timeout = lock_timeout;
        self
    }

    /// Changes the name the server shows.
    pub fn application_name(mut self, application_name: impl Into<String>) -> Self {
        self.application_name = application_name.into();
        self
    }

    /// Changes whether a transaction pooler stands between.
    pub fn pooler(mut self, pooler: bool) -> Self {
        self.pooler = pooler;
        self
    }

    /// Changes where notifications are heard (default: where statements go): one connection past a pooler, for example.
    pub fn listener_url(mut self, listener_url: impl Into<String>) -> Self {
        self.listener_url = Some(Hidden(listener_url.into()));
        self
    }

    /// Returns where notifications are heard, if not where statements go: for drivers.
    pub fn listens_at(&self) -> Option<&str> {
        self.listener_url.as_ref().map(|Hidden(url)| url.as_str())
    }

    /// Returns the SQL that sets timeouts, and plans that stay on the indexes whatever the tables held when the
    /// statements were prepared: for sessions that nobody else uses. Drivers send [`opening_script`](crate::opening_script).
    pub fn session_script(&self) -> String {
        let (statement_ms, lock_ms) = (setting_ms(self.statement_timeout), setting_ms(self.lock_timeout));
        format!(
            "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_bitmapscan = off; \
             set jit = off; set statement_timeout = {statement_ms}; set lock_timeout = {lock_ms}; \
             set default_transaction_isolation = 'read committed'; set search_path = pg_catalog"
        )
    }

    /// Returns the SQL that begins a transaction in which the same holds, for sessions that others use too: those of a
    /// pool of the caller's, or of a transaction pooler. Send it as a simple query, together with the statement it is for.
    ///
    /// A timeout of the session that is shorter stays.
    pub fn transaction_script(&self) -> String {
        let at_most = |name: &str, limit: Duration| {
            let (ms, theirs) = (setting_ms(limit), format!("current_setting('{name}')"));
            let shorter = format!("{theirs}::interval > interval '0' and {theirs}::interval < interval '{ms} ms'");
            format!("set_config('{name}', case when {shorter} then {theirs} else '{ms}' end, true)")
        };
        format!(
            "begin isolation level read committed; set local search_path = pg_catalog; \
             select set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true), \
             set_config('enable_bitmapscan', 'off', true), set_config('jit', 'off', true), {}, {}",
            at_most("statement_timeout", self.statement_timeout),
            at_most("lock_timeout", self.lock_timeout),
        )
    }
}

/// Returns a timeout as the server takes it, in milliseconds.
fn setting_ms(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}

/// The shortest timeout: Postgres reckons in milliseconds, and zero means none to it.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);
/// The longest timeout that Postgres takes: 24 days, 20 h, 31 min, 23.647 s.
const LONGEST_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

impl ConnectOptions {
    /// Returns an error of kind `Invalid` for a timeout that the server would not take, or would take for none.
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

/// In which state a job starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum InitialState {
    /// Pending, held while its queue is paused.
    #[default]
    Auto,
    /// The same as `Auto`: a queue's pause is never overruled.
    Pending,
    /// Paused by itself, until its queue is resumed.
    Paused,
}

/// What may be said of a job besides its payload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EnqueueOptions {
    /// In which state it starts.
    pub initial_state: InitialState,
    /// Higher first (default 0).
    pub priority: i32,
    /// For people; at most 8 KiB.
    pub description: Option<String>,
    /// Keeps another job with the same key off the queue until this one has ended; 1 to 1,000 bytes.
    pub key: Option<String>,
    /// For how long the key is held (default until the job has ended).
    pub key_hold: KeyHold,
    /// What to do when another job holds the key (default: keep that one).
    pub on_conflict: OnConflict,
    /// When to start, if not at once.
    pub run_at: Option<RunAt>,
    /// How the payload is written (default JSON).
    pub codec: Codec,
    /// How many soft failures are retried, if not as many as the queue says.
    pub max_retries: Option<u32>,
    /// The delays before retries, if not the queue's; the last one repeats.
    pub backoff: Option<Vec<Duration>>,
    /// The jitter of the delays in percent, if not the queue's.
    pub jitter_percent: Option<u8>,
}

impl EnqueueOptions {
    /// Changes in which state the job starts.
    pub fn initial_state(mut self, initial_state: InitialState) -> Self {
        self.initial_state = initial_state;
        self
    }

    /// Changes the priority; higher first.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Changes the description.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Changes the key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Changes for how long the key is held.
    pub fn key_hold(mut self, key_hold: KeyHold) -> Self {
        self.key_hold = key_hold;
        self
    }

    /// Changes what to do when another job holds the key.
    pub fn on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.on_conflict = on_conflict;
        self
    }

    /// Changes when the job starts.
    pub fn run_at(mut self, run_at: RunAt) -> Self {
        self.run_at = Some(run_at);
        self
    }

    /// Changes how the payload is written.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Changes how many soft failures of this job are retried.
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.max_retries = Some(max_retries);
        self
    }

    /// Changes the delays before retries of this job, 1 to 64 of them.
    pub fn backoff(mut self, backoff: Vec<Duration>) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// Changes the jitter of this job's delays, 0 to 100 percent.
    pub fn jitter_percent(mut self, jitter_percent: u8) -> Self {
        self.jitter_percent = Some(jitter_percent);
        self
    }

    /// Returns the options as the core has them, for a payload written with `codec`.
    pub(crate) fn into_core(self, codec: Codec) -> JobOptions {
        JobOptions {
            codec,
            priority: self.priority,
            paused: self.initial_state == InitialState::Paused,
            description: self.description,
            run_at: self.run_at,
            key: self.key,
            key_hold: self.key_hold,
            on_conflict: self.on_conflict,
            max_retries: self.max_retries,
            backoff: self.backoff,
            jitter_percent: self.jitter_percent,
        }
    }
}

/// How a stream takes jobs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StreamOptions {
    /// How many jobs are claimed ahead at most (default 1,000); never more than were taken in the last second, or, where a
    /// claim takes longer than that, four times what the last claim brought.
    pub prefetch: usize,
    /// For how long the lease of a job in a handler's hands is kept alive (default 1 h), if at all.
    pub heartbeat: Option<Duration>,
    /// The shortest time between two looks at a dry queue (default 20 ms).
    pub poll_least: Duration,
    /// The longest time between two looks at a dry queue while no listener is there (default 1 s).
    pub poll_most: Duration,
    /// Whether to be woken by notifications of other processes (default yes): one listener serves all streams of a
    /// queue handle, on a connection of its own. While it hears, `idle_poll` holds instead of `poll_most`.
    pub listen: bool,
    /// The longest time between two looks at a dry queue while a listener is there (default 30 s, at most a day).
    pub idle_poll: Duration,
    /// Whether the stream reaps expired leases of anyone (default yes).
    pub reaper: bool,
    /// Who works, for people (default host and process id).
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
    /// Changes how many jobs are claimed ahead, at least 1.
    pub fn prefetch(mut self, prefetch: usize) -> Self {
        self.prefetch = prefetch.max(1);
        self
    }

    /// Changes for how long leases are kept alive; `None` leaves that to the handlers.
    pub fn heartbeat(mut self, heartbeat: Option<Duration>) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// Changes how often a dry queue is looked at: at first after `least`, ever later, at last after `most`.
    pub fn poll(mut self, least: Duration, most: Duration) -> Self {
        (self.poll_least, self.poll_most) = (least.max(Duration::from_millis(1)), most.max(least));
        self
    }

    /// Changes whether to be woken by notifications of other processes.
    pub fn listen(mut self, listen: bool) -> Self {
        self.listen = listen;
        self
    }

    /// Changes how long a dry queue may go unlooked at while a listener is there.
    pub fn idle_poll(mut self, idle_poll: Duration) -> Self {
        self.idle_poll = idle_poll;
        self
    }

    /// Changes whether the stream reaps.
    pub fn reaper(mut self, reaper: bool) -> Self {
        self.reaper = reaper;
        self
    }

    /// Changes who works, for people: the first 200 bytes are kept, and every NUL is replaced.
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
            worker: kept_name(self.worker_name.as_deref().unwrap_or(worker)),
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

/// Returns a worker's name as it is kept: without NUL, which Postgres cannot store, and no longer than a queue's.
fn kept_name(name: &str) -> String {
    let name = name.replace('\0', "\u{fffd}");
    name[..name.floor_char_boundary(QueueName::MAX_BYTES)].to_owned()
}

/// Which jobs to list, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobFilter {
    /// Only jobs of this queue.
    pub queue: Option<String>,
    /// Only jobs in this state, as shown.
    pub state: Option<State>,
    /// Only jobs older than this one: the last id of the page before.
    pub after: Option<Uuid>,
    /// How many at most (default 100).
    pub limit: usize,
}

impl Default for JobFilter {
    fn default() -> Self {
        JobFilter { queue: None, state: None, after: None, limit: 100 }
    }
}

impl JobFilter {
    /// Changes the queue.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Changes the state.
    pub fn state(mut self, state: State) -> Self {
        self.state = Some(state);
        self
    }

    /// Changes where to go on.
    pub fn after(mut self, after: Uuid) -> Self {
        self.after = Some(after);
        self
    }

    /// Changes how many at most.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn into_core(self) -> Result<op::JobFilter, Error> {
        let queue = self.queue.as_deref().map(QueueName::new).transpose()?;
        Ok(op::JobFilter { queue, state: self.state, after: self.after, limit: self.limit })
    }
}

/// One queue name or several.
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
