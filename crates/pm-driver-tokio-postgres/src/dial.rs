//! Opening connections, with TLS or without.

use futures_util::stream::{self, BoxStream, StreamExt};
use pm_queue::connecting::{Address, Attempt, ChannelBinding, Host, SslMode, Target};
use pm_queue::{BoxFuture, ConnectOptions, Error, Runtime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, config};

/// What a connection hears besides answers. It has to be polled for the connection to move at all.
pub type Messages = BoxStream<'static, Result<AsyncMessage, tokio_postgres::Error>>;

/// Why a connection could not be opened: an [`Error`](tokio_postgres::Error) of tokio-postgres, or another.
pub type DialError = Box<dyn std::error::Error + Send + Sync>;

/// A runtime that opens connections for this driver: [`runtime::Tokio`](crate::runtime::Tokio), and with features
/// `smol` and `async-std` those.
///
/// Implement it for sockets or TLS of your own: open a stream to the one address of [`Dial::config`], log in with
/// `Config::connect_raw`, and return what [`opened`] makes of that.
pub trait Sockets: Runtime {
    /// Opens a connection to one address. The driver bounds its time.
    fn dial<'a>(&'a self, dial: &'a Dial) -> BoxFuture<'a, Result<(Client, Messages), DialError>>;
}

/// One address to connect to, and how.
#[derive(Debug)]
pub struct Dial {
    config: Config,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::Connector>,
}

impl Dial {
    /// Returns how to connect to the first place of a connection string: for connections beside those of the driver.
    ///
    /// # Errors
    ///
    /// `Invalid` when the string or a certificate cannot be read.
    pub fn first_of(url: &str, options: &ConnectOptions) -> Result<Dial, Error> {
        let target = Target::read(url, options)?;
        let there = target.places.first().ok_or_else(|| Error::invalid("the database URL names no host"))?;
        let address = match &there.host {
            Host::Socket(directory) => Address::Socket(directory.clone(), there.port),
            Host::Name(name) => Address::Name(name.clone(), there.port),
            Host::Address(address, _) => Address::Ip(*address, there.port),
        };
        let mode = if matches!(address, Address::Socket(..)) { SslMode::Disable } else { target.tls.mode };
        Dial::new(&target, &Attempt { place: 0, address, mode }, None)
    }

    /// Returns how to open this attempt's connection.
    ///
    /// # Errors
    ///
    /// `Invalid` when a certificate cannot be read.
    pub(crate) fn new(target: &Target, attempt: &Attempt, mark: Option<(&str, &str)>) -> Result<Dial, Error> {
        #[cfg(feature = "tls")]
        let tls = match attempt.mode {
            SslMode::Disable => None,
            mode => Some(crate::tls::connector(&target.tls, mode)?),
        };
        let config = config(target, attempt, mark);
        Ok(Dial {
            config,
            #[cfg(feature = "tls")]
            tls,
        })
    }

    /// Returns what tokio-postgres needs to know: one place, which is a socket's directory or an address with the name
    /// that the certificate has to bear, and how to log in there.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns how to encrypt, if the connection is to be encrypted.
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<crate::tls::Connector> {
        self.tls.clone()
    }
}

/// Refuses a target that wants what this build lacks.
///
/// # Errors
///
/// `Invalid`, with the feature that is missing.
pub(crate) fn check(target: &Target) -> Result<(), Error> {
    let mode = target.tls.mode;
    let wants_tls = mode.is_strict() || target.tls.channel_binding == ChannelBinding::Require;
    match wants_tls && !cfg!(feature = "tls") {
        true => Err(Error::invalid(format!(
            "sslmode={} with channel_binding={:?} needs TLS, which this program was built without: \
             add the feature \"tls\" of pm-driver-tokio-postgres",
            mode.name(),
            target.tls.channel_binding
        ))),
        false => Ok(()),
    }
}

fn config(target: &Target, attempt: &Attempt, mark: Option<(&str, &str)>) -> Config {
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
    // What shows a pooler comes first: whoever sets it again wants it so.
    let mark = mark.map(|(name, value)| format!("-c {name}={value}"));
    let options: Vec<_> = mark.as_deref().into_iter().chain(target.options.as_deref()).collect();
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

/// Returns a connection as the driver uses it: for implementations of [`Sockets`].
pub fn opened<S, T>((client, mut connection): (Client, Connection<S, T>)) -> (Client, Messages)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T: TlsStream + Send + Unpin + 'static,
{
    (client, stream::poll_fn(move |cx| connection.poll_message(cx)).boxed())
}
