//! The driver: statements and scripts over a pool.

use crate::listener::ChannelListener;
use crate::server::Server;
use crate::statement::{failure, rows, unreachable};
use pm_queue::driver::{
    BorrowedConnection, BoxFuture, Driver, Executor, Failure, Listener, Room, Rows, SESSION_MARK, Statement, Value,
    listen_script, opening_script, session_guard,
};
use pm_queue::runtime::Runtime;
use pm_queue::{ConnectOptions, Error};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// A connection that was idle for longer than this is pinged before it is used.
const TRUSTED_IDLE: Duration = Duration::from_millis(100);

/// A driver that runs statements on a pool.
pub struct Sqlx {
    pool: RwLock<PgPool>,
    room: Room,
    /// The server of the driver's own pool; none for the caller's pool.
    server: Option<Server>,
    /// The listener's server, if it differs from that of the pool.
    listener: Option<Server>,
    /// Whether connections go through a transaction pooler, so that no state may be kept in a session.
    pooler: bool,
    /// The script that begins each statement's transaction, in sessions that pm shares with others.
    beginning: Option<Arc<str>>,
    /// Whether the check for an unexpected pooler has passed, or is not needed.
    probed: AtomicBool,
    connect_timeout: Duration,
}

impl std::fmt::Debug for Sqlx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlx").field("connections", &self.pool().size()).finish_non_exhaustive()
    }
}

impl Sqlx {
    /// Returns a driver for the database at `url`, with its own pool. Opens no connection yet.
    ///
    /// # Errors
    ///
    /// `Invalid` when `url` is not a Postgres URL or key-value string, or asks for something that sqlx does not
    /// support.
    pub fn new(url: &str, options: &ConnectOptions, runtime: Arc<dyn Runtime>) -> Result<Self, Error> {
        let server = Server::new(url, options, runtime.clone())?;
        let (room, connections) = Room::of_own_pool(options);
        let connections = u32::try_from(connections).unwrap_or(u32::MAX);
        let pool = pool_of(server.first(), connections, server.connect_timeout(), opening_script(options));
        Sqlx::over((pool, room), Some(server), options, runtime)
    }

    /// Returns a driver over the caller's pool.
    ///
    /// # Errors
    ///
    /// `Invalid` when the options name a `listener_url` that is not a Postgres URL.
    pub fn of_pool(pool: PgPool, options: &ConnectOptions, runtime: Arc<dyn Runtime>) -> Result<Self, Error> {
        let room = Room::of_pool(pool.options().get_max_connections() as usize);
        Sqlx::over((pool, room), None, options, runtime)
    }

    fn over(
        (pool, room): (PgPool, Room),
        server: Option<Server>,
        options: &ConnectOptions,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Self, Error> {
        let is_shared = server.is_none();
        Ok(Sqlx {
            pool: RwLock::new(pool),
            room,
            server,
            listener: options.listens_at().map(|url| Server::new(url, options, runtime)).transpose()?,
            pooler: options.pooler,
            beginning: (is_shared || options.pooler).then(|| options.transaction_script().into()),
            probed: AtomicBool::new(options.pooler),
            connect_timeout: options.connect_timeout,
        })
    }

    fn pool(&self) -> PgPool {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Borrows a connection from the pool.
    async fn borrow(&self) -> Result<BorrowedConnection<PoolConnection<Postgres>>, Failure> {
        match &self.server {
            Some(server) if !server.is_chosen() => server.choose(|chosen| self.switch_to(chosen)).await?,
            None if !self.probed.load(Ordering::Acquire) => {
                self.probe().await?;
                self.probed.store(true, Ordering::Release);
            }
            _ => {}
        }
        let pool = self.pool();
        let connection = pool.acquire().await.map_err(|error| unreachable(&pool, error))?;
        Ok(BorrowedConnection::new(connection, |connection| drop(connection.detach())))
    }

    /// Replaces the pool by one for this server. Statements on the old pool finish there, and then it is dropped.
    fn switch_to(&self, chosen: PgConnectOptions) {
        let mut pool = self.pool.write().unwrap_or_else(PoisonError::into_inner);
        *pool = pool.options().clone().connect_lazy_with(chosen);
    }

    /// Returns a guard that makes the server be chosen again, unless it is dismissed.
    fn doubt(&self) -> Doubt<'_> {
        Doubt { server: self.server.as_ref() }
    }

    /// Checks that there is no transaction pooler. sqlx uses the same names for prepared statements on all
    /// connections, so through a pooler one statement might run in options of another, and sometimes without an error.
    async fn probe(&self) -> Result<(), Failure> {
        let server = self.pool().connect_options().as_ref().clone().options([SESSION_MARK]);
        let pool = pool_of(server, 1, self.connect_timeout, String::new());
        let checked = sqlx::raw_sql(AssertSqlSafe(session_guard())).execute(&pool).await;
        checked.map(drop).map_err(|error| unreachable(&pool, error))
    }

    async fn answer(
        &self,
        connection: &mut PgConnection,
        statement: &Statement,
        params: &[Value<'_>],
    ) -> Result<Rows, sqlx::Error> {
        let Some(beginning) = &self.beginning else {
            return rows(connection, statement, params, true).await;
        };
        // Timeouts and settings apply to this transaction only. Through a pooler the transaction is needed in any
        // case: sqlx parses a statement in one round trip and runs it in the next. Without a transaction the pooler
        // might send them to two servers, the second of which would run the statement that was parsed there last.
        let mut transaction = connection.begin_with(AssertSqlSafe(beginning.clone())).await?;
        let rows = rows(&mut transaction, statement, params, !self.pooler).await?;
        transaction.commit().await?;
        Ok(rows)
    }
}

/// Guards a statement in flight: if its future is dropped or its connection fails, the server is chosen again.
struct Doubt<'a> {
    server: Option<&'a Server>,
}

impl Doubt<'_> {
    fn dismiss(&mut self) {
        self.server = None;
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if let Some(server) = self.server {
            server.doubt();
        }
    }
}

/// Returns a pool that connects on demand, keeps its connections open, and needs no maintenance task.
fn pool_of(server: PgConnectOptions, connections: u32, timeout: Duration, script: String) -> PgPool {
    let script: Arc<str> = script.into();
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(timeout)
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect(move |connection, _| {
            let script = AssertSqlSafe(script.clone());
            Box::pin(async move { sqlx::raw_sql(script).execute(connection).await.map(drop) })
        })
        .test_before_acquire(false)
        .before_acquire(|connection, life| {
            Box::pin(async move {
                if life.idle_for > TRUSTED_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(server)
}

impl Executor for Sqlx {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        Box::pin(async move {
            let mut doubt = self.doubt();
            let mut borrowed = self.borrow().await?;
            let answer = self.answer(borrowed.connection(), statement, params).await.map_err(failure);
            if answer.as_ref().err().is_none_or(Failure::spares_connection) {
                doubt.dismiss();
            }
            borrowed.give_back(answer)
        })
    }
}

impl Driver for Sqlx {
    fn room(&self) -> Room {
        self.room
    }

    fn opens_connections(&self) -> bool {
        self.server.is_some()
    }

    fn run_script<'a>(&'a self, script: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            // Not returned to the pool, because a script that fails leaves its connection inside the failed
            // transaction.
            let mut doubt = self.doubt();
            let mut borrowed = self.borrow().await?;
            let done = sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut **borrowed.connection()).await;
            let done = done.map(drop).map_err(failure);
            if done.as_ref().err().is_none_or(Failure::spares_connection) {
                doubt.dismiss();
            }
            done
        })
    }

    fn listen<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Option<Box<dyn Listener>>, Failure>> {
        Box::pin(async move {
            let own = self.server.as_ref().filter(|_| !self.pooler);
            let (options, timeout) = match self.listener.as_ref().or(own) {
                Some(server) => (server.find(true).await?, server.connect_timeout()),
                None if self.pooler => return Ok(None),
                None => {
                    let options = self.pool().connect_options().as_ref().clone().options([SESSION_MARK]);
                    (options, self.connect_timeout)
                }
            };
            // `LISTEN` is sent while connecting, so that the pool's timeout applies to it.
            let listener = ChannelListener::new(&pool_of(options, 1, timeout, listen_script(channel))).await?;
            Ok(Some(Box::new(listener) as Box<dyn Listener>))
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        if self.server.is_some() {
            // Only the statements that run on the old pool keep it alive.
            let mut pool = self.pool.write().unwrap_or_else(PoisonError::into_inner);
            *pool = pool.options().clone().connect_lazy_with(pool.connect_options().as_ref().clone());
        }
        Box::pin(async {})
    }
}
