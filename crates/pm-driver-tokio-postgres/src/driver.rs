//! A small set of connections that heal themselves.

use crate::connection::Connection;
use crate::dial::Sockets;
use crate::server::Server;
use crate::slot::Slot;
use pm_queue::{BoxFuture, ConnectOptions, Driver, Error, Executor, Failure, Listener, Rows, Statement, Value};
use std::sync::{Arc, PoisonError, RwLock};

/// Carries statements over a few pipelined connections, opened when first needed and again when lost.
pub struct TokioPostgres {
    server: Arc<Server>,
    slots: RwLock<Arc<[Slot]>>,
}

impl std::fmt::Debug for TokioPostgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokioPostgres").field("connections", &self.slots().len()).finish_non_exhaustive()
    }
}

impl TokioPostgres {
    /// Returns a driver for the database at `url` on the tokio runtime this is called in; no connection is opened yet.
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

    /// Returns a driver for the database at `url` on a runtime; no connection is opened yet.
    ///
    /// # Errors
    ///
    /// `Invalid` when `url` is not a Postgres URL or key-value string.
    pub fn on(url: &str, options: &ConnectOptions, sockets: Arc<dyn Sockets>) -> Result<Self, Error> {
        let server = Arc::new(Server::new(url, options, sockets)?);
        Ok(TokioPostgres { server, slots: RwLock::new(empty(options.connections.max(1))) })
    }

    fn slots(&self) -> Arc<[Slot]> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the least busy connection; when all are busy and there is room, one more is opened meanwhile.
    async fn connection(&self) -> Result<Arc<Connection>, Failure> {
        let slots = self.slots();
        let mut least_busy: Option<Arc<Connection>> = None;
        let mut empty = None;
        for (place, slot) in slots.iter().enumerate() {
            match slot.usable() {
                Some(connection) if connection.in_flight() == 0 => return Ok(connection),
                Some(connection) => {
                    if least_busy.as_ref().is_none_or(|other| connection.in_flight() < other.in_flight()) {
                        least_busy = Some(connection);
                    }
                }
                None => empty = empty.or(Some(place)),
            }
        }
        match (empty, least_busy) {
            (Some(place), None) => slots[place].open(&self.server).await,
            (Some(place), Some(busy)) => {
                if let Some(spare) = slots[place].spare() {
                    let (server, slots) = (self.server.clone(), slots.clone());
                    self.server.spawn(Box::pin(async move { slots[place].open_spare(&server, spare).await }));
                }
                Ok(busy)
            }
            (None, Some(busy)) => Ok(busy),
            (None, None) => Err(Failure::not_sent("there is no room for a connection")),
        }
    }
}

fn empty(connections: usize) -> Arc<[Slot]> {
    (0..connections).map(|_| Slot::default()).collect()
}

impl Executor for TokioPostgres {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        Box::pin(async move { self.connection().await?.run(statement, params).await })
    }
}

impl Driver for TokioPostgres {
    fn run_script<'a>(&'a self, script: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        // On a connection of its own: a script that fails inside its transaction leaves the connection in there.
        Box::pin(async move { self.server.connect().await?.run_script(script).await })
    }

    fn listen<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Option<Box<dyn Listener>>, Failure>> {
        Box::pin(self.server.listen(channel))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        // What is being opened still goes into the old slots, and ends with them.
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        *slots = empty(slots.len());
        Box::pin(async {})
    }
}
