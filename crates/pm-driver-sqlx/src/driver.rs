//! A pool, and what goes over it.

use crate::listener::ChannelListener;
use crate::server::Server;
use crate::statement::{failure, rows, unreachable};
use pm_queue::{
    BorrowedConnection, BoxFuture, ConnectOptions, Driver, Error, Executor, Failure, Listener, Room, Rows, Runtime,
    SESSION_MARK, Statement, Value, listen_script, opening_script, session_guard,
};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// How long a connection may have lain idle before it is asked whether it lives.
const TRUSTED_IDLE: Duration = Duration::from_millis(100);

/// Carries statements over a pool.
pub struct Sqlx {
    pool: RwLock<PgPool>,
    room: Room,
    /// Where the pool leads, unless it is the caller's, which stays open.
    server: Option<Server>,
    /// Where notifications are heard, if not where the pool leads.
    listener: Option<Server>,
    /// Whether a transaction pooler stands between: nothing may be kept in a session.
    pooler: bool,
    /// What each statement's transaction begins with, in sessions that are not our own.
    beginning: Option<Arc<str>>,
    /// Whether sessions were seen to be kept, or a pooler was spoken of.
    probed: AtomicBool,
    connect_timeout: Duration,
}

impl std::fmt::Debug for Sqlx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlx").field("connections", &self.pool().size()).finish_non_exhaustive()
    }
}

impl Sqlx {
    /// Returns a driver for the database at `url`; no connection is opened yet.
    ///
    /// # Errors
    ///
    /// `Invalid` when `url` is not a Postgres URL or key-value string.
    pub fn new(url: &str, options: &ConnectOptions, runtime: Arc<dyn Runtime>) -> Result<Self, Error> {
        let server = Server::new(url, options, runtime.clone())?;
        let (room, connections) = Room::of_own_pool(options);
        let connections = u32::try_from(connections).unwrap_or(u32::MAX);
        let pool = pool_of(server.first(), connections, server.connect_timeout(), opening_script(options));
        Sqlx::over((pool, room), Some(server), options, runtime)
    }

    /// Returns a driver over a pool of the caller's.
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
        let foreign = server.is_none();
        Ok(Sqlx {
            pool: RwLock::new(pool),
            room,
            server,
            listener: options.listens_at().map(|url| Server::new(url, options, runtime)).transpose()?,
            pooler: options.pooler,
            beginning: (foreign || options.pooler).then(|| options.transaction_script().into()),
            probed: AtomicBool::new(options.pooler),
            connect_timeout: options.connect_timeout,
        })
    }

    fn pool(&self) -> PgPool {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns a connection of the pool.
    async fn borrow(&self) -> Result<BorrowedConnection<PoolConnection<Postgres>>, Failure> {
        match &self.server {
            Some(server) if !server.is_chosen() => server.choose(|chosen| self.lead_to(chosen)).await?,
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

    /// Makes the pool lead to a server. What runs over the old pool ends there, and with that the old pool.
    fn lead_to(&self, chosen: PgConnectOptions) {
        let mut pool = self.pool.write().unwrap_or_else(PoisonError::into_inner);
        *pool = pool.options().clone().connect_lazy_with(chosen);
    }

    /// Returns what makes the server be chosen again, unless it is dismissed.
    fn doubt(&self) -> Doubt<'_> {
        Doubt { server: self.server.as_ref() }
    }

    /// Looks whether sessions are kept. sqlx names prepared statements alike on all its connections: a transaction pooler
    /// that nobody spoke of would run one for another, and some of them in silence.
    async fn probe(&self) -> Result<(), Failure> {
        let server = self.pool().connect_options().as_ref().clone().options([SESSION_MARK]);
        let pool = pool_of(server, 1, self.connect_timeout, String::new());
        let looked = sqlx::raw_sql(AssertSqlSafe(session_guard())).execute(&pool).await;
        looked.map(drop).map_err(|error| unreachable(&pool, error))
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
        // Timeouts and settings hold for this transaction and leave nothing behind. Through a pooler it is needed anyway:
        // sqlx parses in one round trip and runs in the next: only a transaction keeps a pooler from giving them to two
        // servers, the second of which would run whatever was parsed there last.
        let mut transaction = connection.begin_with(AssertSqlSafe(beginning.clone())).await?;
        let rows = rows(&mut transaction, statement, params, !self.pooler).await?;
        transaction.commit().await?;
        Ok(rows)
    }
}

/// A statement under way: if its future is dropped or fails with the connection, the server is chosen again.
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

/// Returns a pool that connects when needed, keeps its connections, and needs no task to look after them.
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

    fn run_script<'a>(&'a self, script: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            // Never given back: a script that fails inside its transaction leaves the connection in there.
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
            let (place, timeout) = match self.listener.as_ref().or(own) {
                Some(server) => (server.find(true).await?, server.connect_timeout()),
                None if self.pooler => return Ok(None),
                None => {
                    let place = self.pool().connect_options().as_ref().clone().options([SESSION_MARK]);
                    (place, self.connect_timeout)
                }
            };
            // While connecting, so that the pool's timeout bounds it.
            let listener = ChannelListener::new(&pool_of(place, 1, timeout, listen_script(channel))).await?;
            Ok(Some(Box::new(listener) as Box<dyn Listener>))
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        if self.server.is_some() {
            // Nothing looks after the old pool but what runs on it: with that it ends.
            let mut pool = self.pool.write().unwrap_or_else(PoisonError::into_inner);
            *pool = pool.options().clone().connect_lazy_with(pool.connect_options().as_ref().clone());
        }
        Box::pin(async {})
    }
}
