//! The driver: a small set of connections that are reopened when lost.

use crate::dial::Sockets;
use crate::server::Server;
use crate::sets::ConnectionSets;
use pm_queue::driver::{BoxFuture, Driver, Executor, Failure, Listener, Room, Rows, Statement, Value};
use pm_queue::{ConnectOptions, Error};
use std::sync::{Arc, PoisonError, RwLock};

/// A driver that pipelines statements on a few connections, which it opens on demand and again when they are lost.
pub struct TokioPostgres {
    server: Arc<Server>,
    sets: RwLock<Arc<ConnectionSets>>,
    options: ConnectOptions,
}

impl std::fmt::Debug for TokioPostgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokioPostgres").field("connections", &self.sets().len()).finish_non_exhaustive()
    }
}

impl TokioPostgres {
    /// Returns a driver for the database at `url`, on the tokio runtime in which this is called. Opens no connection
    /// yet.
    ///
    /// # Errors
    ///
    /// As [`TokioPostgres::on`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[cfg(feature = "tokio")]
    pub fn new(url: &str, options: &ConnectOptions) -> Result<Self, Error> {
        TokioPostgres::on(url, options, Arc::new(pm_queue::runtime::Tokio::current()))
    }

    /// Returns a driver for the database at `url`, on a given runtime. Opens no connection yet.
    ///
    /// # Errors
    ///
    /// `Invalid` when `url` is not a Postgres URL or key-value string, or needs TLS without the feature `tls`.
    pub fn on(url: &str, options: &ConnectOptions, sockets: Arc<dyn Sockets>) -> Result<Self, Error> {
        let server = Arc::new(Server::new(url, options, sockets)?);
        Ok(TokioPostgres {
            server,
            sets: RwLock::new(Arc::new(ConnectionSets::new(options))),
            options: options.clone(),
        })
    }

    fn sets(&self) -> Arc<ConnectionSets> {
        self.sets.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Executor for TokioPostgres {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        Box::pin(async move {
            let sets = self.sets();
            sets.of(statement.id.class()).run(&self.server, statement, params).await
        })
    }
}

impl Driver for TokioPostgres {
    fn room(&self) -> Room {
        Room::of_pipelined(&self.options)
    }

    fn run_script<'a>(&'a self, script: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        // On a separate connection, because a script that fails leaves its connection inside the failed transaction.
        Box::pin(async move { self.server.connect().await?.run_script(script).await })
    }

    fn listen<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Option<Box<dyn Listener>>, Failure>> {
        Box::pin(self.server.listen(channel))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        // A connection that is being opened still goes into the old slots, and is dropped with them.
        *self.sets.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ConnectionSets::new(&self.options));
        Box::pin(async {})
    }
}
