//! Opening connections, with or without TLS.

use futures_util::stream::{self, BoxStream, StreamExt};
use pm_queue::connecting::{Address, Attempt, ChannelBinding, Host, SslMode, Target};
use pm_queue::driver::BoxFuture;
use pm_queue::runtime::Runtime;
use pm_queue::{ConnectOptions, Error};
use std::fmt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, config};

/// The asynchronous messages of a connection, such as notifications. Polling this stream drives the connection.
pub type Messages = BoxStream<'static, Result<AsyncMessage, tokio_postgres::Error>>;

/// Why a connection could not be opened.
#[derive(Debug)]
pub enum DialError {
    /// The server refused it, or the protocol failed.
    Postgres(tokio_postgres::Error),
    /// The socket failed, or another error occurred.
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Postgres(error) => error.fmt(f),
            DialError::Other(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DialError::Postgres(error) => error.source(),
            DialError::Other(error) => error.source(),
        }
    }
}

impl From<tokio_postgres::Error> for DialError {
    fn from(error: tokio_postgres::Error) -> Self {
        DialError::Postgres(error)
    }
}

impl From<std::io::Error> for DialError {
    fn from(error: std::io::Error) -> Self {
        DialError::Other(error.into())
    }
}

/// A runtime that opens connections for this driver: [`runtime::Tokio`](crate::runtime::Tokio) and, with the features
/// `smol` and `async-std`, these runtimes.
///
/// To use your own sockets or TLS, implement it for your own runtime: open a stream to the one address of
/// [`Dial::config`], log in with `Config::connect_raw`, and pass the result to [`opened`].
pub trait Sockets: Runtime {
    /// Opens a connection to one address. The driver limits its time.
    fn dial<'a>(&'a self, dial: &'a Dial) -> BoxFuture<'a, Result<(Client, Messages), DialError>>;
}

/// One address to connect to, with all parameters of the connection.
#[derive(Debug)]
pub struct Dial {
    config: Config,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::Connector>,
}

impl Dial {
    /// Returns the parameters for the first host of a connection string. For connections besides those of the driver.
    ///
    /// # Errors
    ///
    /// `Invalid` when the string cannot be parsed or a certificate cannot be read.
    pub fn first_of(url: &str, options: &ConnectOptions) -> Result<Dial, Error> {
        let target = Target::read(url, options)?;
        let first = target.places.first().ok_or_else(|| Error::invalid("the database URL has no host"))?;
        let address = first.address();
        let mode = if matches!(address, Address::Socket(..)) { SslMode::Disable } else { target.tls.mode };
        Dial::new(&target, &Attempt { place: 0, address, mode }, None)
    }

    /// Returns the parameters of this attempt's connection. Errors: `Invalid` when a certificate cannot be read.
    pub(crate) fn new(target: &Target, attempt: &Attempt, session_mark: Option<(&str, &str)>) -> Result<Dial, Error> {
        #[cfg(feature = "tls")]
        let tls = match attempt.mode {
            SslMode::Disable => None,
            mode => Some(crate::tls::connector(&target.tls, mode)?),
        };
        let config = config(target, attempt, session_mark);
        Ok(Dial {
            config,
            #[cfg(feature = "tls")]
            tls,
        })
    }

    /// Returns the configuration for tokio-postgres: one host, which is the directory of a Unix socket or an address
    /// with the host name for the certificate, and the login.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the TLS connector, if the connection is to be encrypted.
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<crate::tls::Connector> {
        self.tls.clone()
    }
}

/// Refuses a target that needs a feature which this build lacks. Errors: `Invalid`, naming the missing feature.
pub(crate) fn check(target: &Target) -> Result<(), Error> {
    let mode = target.tls.mode;
    let wants_tls = mode.is_strict() || target.tls.channel_binding == ChannelBinding::Require;
    match wants_tls && !cfg!(feature = "tls") {
        true => Err(Error::invalid(format!(
            "sslmode={} with channel_binding={:?} needs TLS, but this program was built without it: \
             enable the feature \"tls\" of pm-driver-tokio-postgres",
            mode.name(),
            target.tls.channel_binding
        ))),
        false => Ok(()),
    }
}

fn config(target: &Target, attempt: &Attempt, session_mark: Option<(&str, &str)>) -> Config {
    let mut config = Config::new();
    config.user(&target.user).dbname(&target.database).application_name(&target.application_name);
    let place = target.places.get(attempt.place);
    match &attempt.address {
        #[cfg(unix)]
        Address::Socket(directory, port) => config.host_path(directory).port(*port),
        #[cfg(not(unix))]
        Address::Socket(directory, port) => config.host(directory.to_string_lossy()).port(*port),
        Address::Name(name, port) => config.host(name).port(*port),
        Address::Ip(address, port) => {
            let name = place.and_then(|place| match &place.host {
                Host::Name(name) | Host::Address(_, name) => Some(name.clone()),
                Host::Socket(_) => None,
            });
            config.host(name.unwrap_or_else(|| address.to_string())).hostaddr(*address).port(*port)
        }
    };
    if let Some(password) = place.and_then(|place| place.password.as_ref()) {
        config.password(password.reveal());
    }
    // The session mark that detects a pooler comes first, so that the caller's options can override it.
    let session_mark = session_mark.map(|(name, value)| format!("-c {name}={value}"));
    let options: Vec<_> = session_mark.as_deref().into_iter().chain(target.options.as_deref()).collect();
    if !options.is_empty() {
        config.options(options.join(" "));
    }
    config.keepalives(target.keepalives.is_some());
    if let Some(keepalives) = target.keepalives {
        config.keepalives_idle(keepalives.idle).keepalives_interval(keepalives.interval);
        keepalives.count.map(|count| config.keepalives_retries(count));
    }
    if let Some(limit) = target.tcp_user_timeout {
        config.tcp_user_timeout(limit);
    }
    config.ssl_mode(match attempt.mode {
        SslMode::Disable => config::SslMode::Disable,
        SslMode::Prefer | SslMode::Allow => config::SslMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => config::SslMode::Require,
    });
    if target.tls.direct && attempt.mode.is_strict() {
        config.ssl_negotiation(config::SslNegotiation::Direct);
    }
    config.channel_binding(match target.tls.channel_binding {
        ChannelBinding::Disable => config::ChannelBinding::Disable,
        ChannelBinding::Prefer => config::ChannelBinding::Prefer,
        ChannelBinding::Require => config::ChannelBinding::Require,
    });
    config
}

#[cfg(feature = "tokio")]
impl Sockets for pm_queue::runtime::Tokio {
    fn dial<'a>(&'a self, dial: &'a Dial) -> BoxFuture<'a, Result<(Client, Messages), DialError>> {
        Box::pin(async move {
            #[cfg(feature = "tls")]
            if let Some(tls) = dial.tls() {
                return Ok(opened(dial.config.connect(tls).await?));
            }
            Ok(opened(dial.config.connect(tokio_postgres::NoTls).await?))
        })
    }
}

/// Converts a connection into the form that the driver uses. For implementations of [`Sockets`].
pub fn opened<S, T>((client, mut connection): (Client, Connection<S, T>)) -> (Client, Messages)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T: TlsStream + Send + Unpin + 'static,
{
    (client, stream::poll_fn(move |cx| connection.poll_message(cx)).boxed())
}
