//! A server to connect to.

use crate::connection::{Connection, words};
use crate::dial::{Messages, Sockets};
use crate::enclosing::Enclosing;
use crate::listener::ChannelListener;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use pm_queue::{BoxFuture, ConnectOptions, Error, Failure, Listener, SESSION_MARK, application_name, opening_script};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config};

/// What tokio-postgres says of the idle time before a connection is probed when the URL says nothing: 2 h.
const UNSAID_IDLE: Duration = Duration::from_secs(7_200);
/// An idle connection whose server is gone without a word is given up after about a minute.
const PROBED_AFTER: Duration = Duration::from_secs(30);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;

/// Where the server is, and how connections to it begin.
pub(crate) struct Server {
    config: Config,
    /// Where notifications are heard, if anywhere.
    listener: Option<Config>,
    sockets: Arc<dyn Sockets>,
    connect_timeout: Duration,
    session_script: String,
    options: ConnectOptions,
    /// Whether a transaction pooler stands between: nothing may be kept in a session.
    pooler: bool,
}

impl Server {
    pub(crate) fn new(url: &str, options: &ConnectOptions, sockets: Arc<dyn Sockets>) -> Result<Self, Error> {
        let mut config = config(url, options)?;
        if !options.pooler {
            mark(&mut config);
        }
        let mut listener = options.listens_at().map(|url| self::config(url, options)).transpose()?;
        listener.iter_mut().for_each(mark);
        Ok(Server {
            listener: listener.or_else(|| (!options.pooler).then(|| config.clone())),
            config,
            sockets,
            connect_timeout: options.connect_timeout,
            session_script: opening_script(options),
            options: options.clone(),
            pooler: options.pooler,
        })
    }

    pub(crate) fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.sockets.spawn(task);
    }

    pub(crate) fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        self.sockets.sleep(duration)
    }

    /// Returns a new connection, ready for statements.
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
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
        Ok(Connection::new(client, self.pooler.then(|| Enclosing::new(&self.options))))
    }

    async fn dial(&self, config: &Config) -> Result<(Client, Messages), Failure> {
        self.sockets.dial(config).await.map_err(|error| match error.downcast_ref() {
            Some(error) => unreachable(config, error),
            None => Failure::unreachable(&places(config), None, words(&*error)),
        })
    }

    /// Returns a listener on a channel, if notifications are heard anywhere.
    pub(crate) async fn listen(&self, channel: &str) -> Result<Option<Box<dyn Listener>>, Failure> {
        let Some(listener) = &self.listener else { return Ok(None) };
        let start = async {
            let (client, messages) = self.dial(listener).await?;
            ChannelListener::new(client, messages, channel).await
        };
        Ok(Some(Box::new(self.in_time(start).await?)))
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
