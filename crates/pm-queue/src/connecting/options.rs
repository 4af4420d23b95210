//! How to connect, and how the connections behave.

use super::target::Password;
use crate::observe::{Observer, Observing};
use pm_core::SchemaName;
use std::sync::Arc;
use std::time::Duration;

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
    /// The whole URL, because it may contain a password.
    listener_url: Option<Password>,
    pub(crate) observing: Observing,
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
            observing: Observing::default(),
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
        self.listener_url = Some(Password(listener_url.into()));
        self
    }

    /// Adds an observer, which gets the events of the queue handle (default: none). See [`observe`](crate::observe).
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observing.add(observer);
        self
    }

    /// Returns the listener's URL, if it differs from the one for statements. For driver authors.
    pub fn listens_at(&self) -> Option<&str> {
        self.listener_url.as_ref().map(Password::reveal)
    }

    /// Returns the SQL that sets timeouts and planner settings in a session that only pm uses. The planner settings
    /// keep plans on the indexes, whatever the tables contained when a statement was prepared.
    ///
    /// For driver authors; most send [`opening_script`](crate::driver::opening_script), which includes it.
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
