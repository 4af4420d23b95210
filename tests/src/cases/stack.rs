//! A stack: a driver, and the runtime that drives it.

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use pm_driver_memory::Database;
use pm_driver_tokio_postgres::{Dial, Sockets};
use pm_queue::driver::{BoxFuture, Executor, Failure, Rows, Statement, Value};
use pm_queue::{ConnectOptions, Error, Queue, runtime};
use sqlx::Postgres;
use sqlx::postgres::PgConnectOptions;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A driver, as the cases use it.
pub trait Client: 'static {
    /// Its name.
    const NAME: &'static str;
    /// Whether there is a Postgres behind it.
    const HAS_SERVER: bool = true;

    /// Opens a handle.
    fn connect(
        url: String,
        options: ConnectOptions,
        runtime: Arc<dyn Sockets>,
    ) -> BoxFuture<'static, Result<Queue, Error>>;

    /// Begins a transaction on a separate connection, like a program that has its own; through a pooler or not.
    fn begin(url: String, pooled: bool, runtime: Arc<dyn Sockets>) -> BoxFuture<'static, Box<dyn Transaction>>;
}

/// The caller's transaction.
pub trait Transaction: Send {
    /// Returns an executor that runs pm's statements in it.
    fn inside(&mut self) -> Box<dyn Executor + '_>;

    /// Runs a script of the caller's in it.
    fn execute<'a>(&'a mut self, script: &'static str) -> BoxFuture<'a, ()>;

    /// Ends it.
    fn end(self: Box<Self>, commits: bool) -> BoxFuture<'static, ()>;
}

/// A runtime, as the cases use it.
pub trait AsyncRuntime: 'static {
    /// Its name.
    const NAME: &'static str;

    /// Runs a future to its end on this thread.
    fn run(future: LocalBoxFuture<'static, ()>);

    /// Returns the runtime, from inside.
    fn runtime() -> Arc<dyn Sockets>;
}

type Connect = fn(String, ConnectOptions, Arc<dyn Sockets>) -> BoxFuture<'static, Result<Queue, Error>>;
type Begin = fn(String, bool, Arc<dyn Sockets>) -> BoxFuture<'static, Box<dyn Transaction>>;

/// A driver on a runtime, through a transaction pooler or not.
#[derive(Debug, Clone, Copy)]
pub struct Stack {
    driver: &'static str,
    home: &'static str,
    has_server: bool,
    pooled: bool,
    connect: Connect,
    begin: Begin,
    run: fn(LocalBoxFuture<'static, ()>),
    runtime: fn() -> Arc<dyn Sockets>,
}

impl Stack {
    /// Returns this driver on this runtime.
    pub fn of<C: Client, H: AsyncRuntime>() -> Stack {
        Stack {
            driver: C::NAME,
            home: H::NAME,
            has_server: C::HAS_SERVER,
            pooled: false,
            connect: C::connect,
            begin: C::begin,
            run: H::run,
            runtime: H::runtime,
        }
    }

    /// Returns whether the runtime runs its tasks on several threads, as smol does not by default.
    pub(super) fn has_threads(self) -> bool {
        self.home != OnSmol::NAME
    }

    /// Returns whether there is a Postgres behind it.
    pub fn has_server(self) -> bool {
        self.has_server
    }

    /// Returns this stack behind a PgBouncer in transaction mode; the listener bypasses it.
    pub fn behind_pooler(mut self) -> Stack {
        self.pooled = true;
        self
    }

    /// Returns `driver::runtime`, and `::pgbouncer` behind one.
    pub fn name(&self) -> String {
        format!("{}::{}{}", self.driver, self.home, if self.pooled { "::pgbouncer" } else { "" })
    }

    /// Returns whether the connections go through a pooler.
    pub fn is_pooled(self) -> bool {
        self.pooled
    }

    pub(super) fn run(self, future: LocalBoxFuture<'static, ()>) {
        (self.run)(future);
    }

    pub(super) fn runtime(self) -> Arc<dyn Sockets> {
        (self.runtime)()
    }

    pub(super) async fn connect(self, url: String, options: ConnectOptions) -> Result<Queue, Error> {
        (self.connect)(url, options, self.runtime()).await
    }

    pub(super) async fn begin(self, url: String) -> Box<dyn Transaction> {
        (self.begin)(url, self.pooled, self.runtime()).await
    }
}

/// tokio-postgres.
#[derive(Debug)]
pub struct TokioPostgres;

impl Client for TokioPostgres {
    const NAME: &'static str = "tokio_postgres";

    fn connect(
        url: String,
        options: ConnectOptions,
        runtime: Arc<dyn Sockets>,
    ) -> BoxFuture<'static, Result<Queue, Error>> {
        Box::pin(async move { pm_driver_tokio_postgres::connect_on(&url, options, runtime).await })
    }

    fn begin(url: String, _pooled: bool, runtime: Arc<dyn Sockets>) -> BoxFuture<'static, Box<dyn Transaction>> {
        Box::pin(async move {
            let dial = Dial::first_of(&url, &ConnectOptions::default()).expect("the URL is valid");
            let (client, mut messages) = runtime.dial(&dial).await.expect("connecting succeeds");
            runtime.spawn(Box::pin(async move { while messages.next().await.is_some() {} }));
            // It is closed with its database. A transaction cannot own its client, so the client is leaked.
            let client: &'static mut tokio_postgres::Client = Box::leak(Box::new(client));
            let transaction = client.transaction().await.expect("the transaction begins");
            Box::new(transaction) as Box<dyn Transaction>
        })
    }
}

impl Transaction for tokio_postgres::Transaction<'static> {
    fn inside(&mut self) -> Box<dyn Executor + '_> {
        Box::new(pm_driver_tokio_postgres::InTransaction(self))
    }

    fn execute<'a>(&'a mut self, script: &'static str) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.batch_execute(script).await.expect("the script is valid") })
    }

    fn end(self: Box<Self>, commits: bool) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let ended = if commits { self.commit().await } else { self.rollback().await };
            ended.expect("the transaction ends");
        })
    }
}

/// sqlx.
#[derive(Debug)]
pub struct Sqlx;

impl Client for Sqlx {
    const NAME: &'static str = "sqlx";

    fn connect(
        url: String,
        options: ConnectOptions,
        runtime: Arc<dyn Sockets>,
    ) -> BoxFuture<'static, Result<Queue, Error>> {
        Box::pin(async move { pm_driver_sqlx::connect_on(&url, options, runtime).await })
    }

    fn begin(url: String, pooled: bool, _runtime: Arc<dyn Sockets>) -> BoxFuture<'static, Box<dyn Transaction>> {
        Box::pin(async move {
            let mut server: PgConnectOptions = url.parse().expect("the URL is valid");
            if pooled {
                server = server.statement_cache_capacity(0).extra_float_digits(None);
            }
            let pool = sqlx::PgPool::connect_with(server).await.expect("connecting succeeds");
            Box::new(pool.begin().await.expect("the transaction begins")) as Box<dyn Transaction>
        })
    }
}

impl Transaction for sqlx::Transaction<'static, Postgres> {
    fn inside(&mut self) -> Box<dyn Executor + '_> {
        Box::new(pm_driver_sqlx::InTransaction::new(self))
    }

    fn execute<'a>(&'a mut self, script: &'static str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let _rows_affected = sqlx::raw_sql(script).execute(&mut **self).await.expect("the script is valid");
        })
    }

    fn end(self: Box<Self>, commits: bool) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let ended = if commits { self.commit().await } else { self.rollback().await };
            ended.expect("the transaction ends");
        })
    }
}

/// The memory driver. A URL is any text; equal texts name the same database.
#[derive(Debug)]
pub struct Memory;

/// The databases in memory, by URL. They live as long as the process.
static DATABASES: Mutex<BTreeMap<String, Database>> = Mutex::new(BTreeMap::new());

impl Client for Memory {
    const NAME: &'static str = "memory";
    const HAS_SERVER: bool = false;

    fn connect(
        url: String,
        _options: ConnectOptions,
        runtime: Arc<dyn Sockets>,
    ) -> BoxFuture<'static, Result<Queue, Error>> {
        let database = DATABASES.lock().expect("the lock is not poisoned").entry(url).or_default().clone();
        Box::pin(async move { Ok(pm_driver_memory::queue_on(database, runtime)) })
    }

    fn begin(url: String, _pooled: bool, _runtime: Arc<dyn Sockets>) -> BoxFuture<'static, Box<dyn Transaction>> {
        let database = DATABASES.lock().expect("the lock is not poisoned").entry(url).or_default().clone();
        Box::pin(async move { Box::new(database.begin()) as Box<dyn Transaction> })
    }
}

impl Transaction for pm_driver_memory::Transaction {
    fn inside(&mut self) -> Box<dyn Executor + '_> {
        Box::new(Borrowed(self))
    }

    fn execute<'a>(&'a mut self, _script: &'static str) -> BoxFuture<'a, ()> {
        Box::pin(async { panic!("the memory driver knows no SQL: such cases need a server") })
    }

    fn end(self: Box<Self>, commits: bool) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            match commits {
                true => self.commit().expect("no other session changes the same rows"),
                false => self.rollback(),
            }
        })
    }
}

/// A transaction, borrowed for some statements.
struct Borrowed<'t>(&'t pm_driver_memory::Transaction);

impl Executor for Borrowed<'_> {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        self.0.run(statement, params)
    }
}

/// Tokio.
#[derive(Debug)]
pub struct OnTokio;

impl AsyncRuntime for OnTokio {
    const NAME: &'static str = "tokio";

    fn run(future: LocalBoxFuture<'static, ()>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("threads can be started");
        runtime.block_on(future);
        runtime.shutdown_timeout(Duration::from_secs(1));
    }

    fn runtime() -> Arc<dyn Sockets> {
        Arc::new(runtime::Tokio::current())
    }
}

/// smol.
#[derive(Debug)]
pub struct OnSmol;

impl AsyncRuntime for OnSmol {
    const NAME: &'static str = "smol";

    fn run(future: LocalBoxFuture<'static, ()>) {
        smol::block_on(future);
    }

    fn runtime() -> Arc<dyn Sockets> {
        Arc::new(runtime::Smol)
    }
}

/// async-std, discontinued (RUSTSEC-2025-0052).
#[derive(Debug)]
pub struct OnAsyncStd;

impl AsyncRuntime for OnAsyncStd {
    const NAME: &'static str = "async_std";

    fn run(future: LocalBoxFuture<'static, ()>) {
        async_std::task::block_on(future);
    }

    fn runtime() -> Arc<dyn Sockets> {
        Arc::new(runtime::AsyncStd)
    }
}
