//! A small set of connections that heal themselves.

use crate::connection::{Connection, words};
use crate::dial::{Messages, Sockets};
use crate::listener::ChannelListener;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::lock::Mutex;
use pm_queue::{
    BoxFuture, ConnectOptions, Driver, Error, Executor, Failure, Listener, Rows, SESSION_MARK, Statement, Value,
    application_name, opening_script,
};
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config};

/// Carries statements over a few pipelined connections, opened when first needed and again when lost.
pub struct TokioPostgres {
    config: Config,
    /// Where notifications are heard, if anywhere.
    listener: Option<Config>,
    sockets: Arc<dyn Sockets>,
    connect_timeout: Duration,
    session_script: String,
    /// Whether a transaction pooler stands between: nothing may be kept in a session.
    pooler: bool,
    slots: Vec<Slot>,
}

/// A place for one connection.
#[derive(Default)]
struct Slot {
    current: RwLock<Option<Arc<Connection>>>,
    /// Held while connecting, so that many tasks open one connection, or share one failure to.
    connecting: Mutex<Option<Failed>>,
}

/// The last failure to connect, since when nothing else was tried.
struct Failed {
    at: Instant,
    failure: Failure,
    /// How many there were in a row.
    times: u32,
}

impl Failed {
    /// Returns until when nobody tries again, however many want to.
    fn pause_until(&self) -> Instant {
        let pause = SHORTEST_PAUSE * 2u32.saturating_pow(self.times.saturating_sub(1));
        self.at + pause.min(LONGEST_PAUSE)
    }
}

/// The pause after a failure to connect doubles from this to [`LONGEST_PAUSE`]; who asks meanwhile waits and shares
/// the next attempt.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What tokio-postgres says of the idle time before a connection is probed when the URL says nothing: 2 h.
const UNSAID_IDLE: Duration = Duration::from_secs(7_200);
/// An idle connection whose server is gone without a word is given up after about a minute.
const PROBED_AFTER: Duration = Duration::from_secs(30);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;

impl std::fmt::Debug for TokioPostgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokioPostgres").field("connections", &self.slots.len()).finish_non_exhaustive()
    }
}

impl Slot {
    fn usable(&self) -> Option<Arc<Connection>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone().filter(|connection| connection.is_usable())
    }

    fn replace(&self, connection: Option<Arc<Connection>>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = connection;
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
        let mut config = config(url, options)?;
        if !options.pooler {
            mark(&mut config);
        }
        let mut listener = options.listens_at().map(|url| self::config(url, options)).transpose()?;
        listener.iter_mut().for_each(mark);
        Ok(TokioPostgres {
            listener: listener.or_else(|| (!options.pooler).then(|| config.clone())),
            config,
            sockets,
            connect_timeout: options.connect_timeout,
            session_script: opening_script(options),
            pooler: options.pooler,
            slots: (0..options.connections.max(1)).map(|_| Slot::default()).collect(),
        })
    }

    /// Returns the least busy connection, opening one when all are busy and there is room.
    async fn connection(&self) -> Result<Arc<Connection>, Failure> {
        let mut least_busy: Option<Arc<Connection>> = None;
        let mut empty = None;
        for slot in &self.slots {
            match slot.usable() {
                Some(connection) if connection.in_flight() == 0 => return Ok(connection),
                Some(connection) => {
                    if least_busy.as_ref().is_none_or(|other| connection.in_flight() < other.in_flight()) {
                        least_busy = Some(connection);
                    }
                }
                None => empty = empty.or(Some(slot)),
            }
        }
        match (empty, least_busy) {
            (Some(slot), None) => self.open(slot).await,
            // Room for one more, but a failure to open it is no reason to fail.
            (Some(slot), Some(busy)) => Ok(self.open_spare(slot).await.unwrap_or(busy)),
            (None, Some(busy)) => Ok(busy),
            (None, None) => Err(Failure::not_sent("there is no room for a connection")),
        }
    }

    async fn open(&self, slot: &Slot) -> Result<Arc<Connection>, Failure> {
        let asked_at = Instant::now();
        let mut failed = slot.connecting.lock().await;
        if let Some(connection) = slot.usable() {
            return Ok(connection);
        }
        if let Some(failed) = &*failed {
            if failed.at >= asked_at {
                return Err(failed.failure.clone());
            }
            self.sockets.sleep(failed.pause_until().saturating_duration_since(Instant::now())).await;
        }
        self.connect_into(slot, &mut failed).await
    }

    /// Opens a connection that others can do without: not while someone else does, nor in the pause after a failure.
    async fn open_spare(&self, slot: &Slot) -> Option<Arc<Connection>> {
        let mut failed = slot.connecting.try_lock()?;
        if let Some(connection) = slot.usable() {
            return Some(connection);
        }
        let pauses = failed.as_ref().is_some_and(|failed| failed.pause_until() > Instant::now());
        if pauses { None } else { self.connect_into(slot, &mut failed).await.ok() }
    }

    async fn connect_into(&self, slot: &Slot, failed: &mut Option<Failed>) -> Result<Arc<Connection>, Failure> {
        match self.connect().await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                slot.replace(Some(connection.clone()));
                *failed = None;
                Ok(connection)
            }
            Err(failure) => {
                let times = failed.as_ref().map_or(1, |failed| failed.times.saturating_add(1));
                *failed = Some(Failed { at: Instant::now(), failure: failure.clone(), times });
                Err(failure)
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        self.in_time(self.establish()).await
    }

    /// Returns what comes of connecting, no later than the connect timeout.
    async fn in_time<T>(&self, connecting: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        match select(pin!(connecting), self.sockets.sleep(self.connect_timeout)).await {
            Either::Left((connected, _)) => connected,
            Either::Right(_) => Err(Failure::unreachable(&places(&self.config), None, "no answer in time")),
        }
    }

    async fn establish(&self) -> Result<Connection, Failure> {
        let (client, mut messages) = self.dial(&self.config).await?;
        // The end of the connection is seen by whoever uses it next.
        self.sockets.spawn(Box::pin(async move { while let Some(Ok(_)) = messages.next().await {} }));
        if !self.pooler {
            client.batch_execute(&self.session_script).await.map_err(|error| unreachable(&self.config, &error))?;
        }
        Ok(Connection::new(client, !self.pooler))
    }

    async fn dial(&self, config: &Config) -> Result<(Client, Messages), Failure> {
        self.sockets.dial(config).await.map_err(|error| match error.downcast_ref() {
            Some(error) => unreachable(config, error),
            None => Failure::unreachable(&places(config), None, words(&*error)),
        })
    }

    async fn start_listening(&self, listener: &Config, channel: &str) -> Result<Box<dyn Listener>, Failure> {
        let (client, messages) = self.dial(listener).await?;
        Ok(Box::new(ChannelListener::new(client, messages, channel).await?))
    }
}

fn config(url: &str, options: &ConnectOptions) -> Result<Config, Error> {
    let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| Error::bad_url(words(&error)))?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(Error::invalid("the database URL names no host"));
    }
    let name = application_name(config.get_application_name(), options)?;
    config.application_name(name);
    config.connect_timeout(options.connect_timeout);
    config.tcp_user_timeout(options.statement_timeout);
    if config.get_keepalives_idle() == UNSAID_IDLE {
        // A listener says nothing for hours: without probes it would never learn that nobody is there.
        config.keepalives_idle(PROBED_AFTER).keepalives_interval(PROBE_INTERVAL).keepalives_retries(PROBES);
    }
    Ok(config)
}

/// Makes connections start with what shows a pooler.
fn mark(config: &mut Config) {
    let (name, value) = SESSION_MARK;
    let given = config.get_options().unwrap_or_default();
    let options = format!("{given} -c {name}={value}");
    config.options(options.trim_start());
}

fn unreachable(config: &Config, error: &tokio_postgres::Error) -> Failure {
    let told = error.as_db_error().map(|told| Failure::reported(told.code().code(), None, told.message()));
    Failure::unreachable(&places(config), told, words(error))
}

/// Returns where the server should be.
fn places(config: &Config) -> String {
    let ports = config.get_ports();
    let port = |place: usize| ports.get(place).or(ports.first()).copied().unwrap_or(5432);
    let places = config.get_hosts().iter().enumerate().map(|(place, host)| match host {
        Host::Tcp(name) => format!("{name}:{}", port(place)),
        #[cfg(unix)]
        Host::Unix(path) => format!("{}:{}", path.display(), port(place)),
    });
    places.collect::<Vec<_>>().join(", ")
}

impl Executor for TokioPostgres {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        Box::pin(async move { self.connection().await?.run(statement, params).await })
    }
}

impl Driver for TokioPostgres {
    fn run_script<'a>(&'a self, script: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        // On a connection of its own: a script that fails inside its transaction leaves the connection in there.
        Box::pin(async move { self.connect().await?.run_script(script).await })
    }

    fn listen<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Option<Box<dyn Listener>>, Failure>> {
        Box::pin(async move {
            let Some(listener) = &self.listener else { return Ok(None) };
            self.in_time(self.start_listening(listener, channel)).await.map(Some)
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.slots.iter().for_each(|slot| slot.replace(None));
        Box::pin(async {})
    }
}
