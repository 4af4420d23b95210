//! Opening connections, with TLS or without.

use futures_util::stream::{self, BoxStream, StreamExt};
use pm_queue::{BoxFuture, Runtime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Error};

/// What a connection hears besides answers. It has to be polled for the connection to move at all.
pub type Messages = BoxStream<'static, Result<AsyncMessage, Error>>;

/// Why a connection could not be opened: an [`Error`] of tokio-postgres, or whatever the runtime says.
pub type DialError = Box<dyn std::error::Error + Send + Sync>;

/// A runtime that opens connections for this driver: [`runtime::Tokio`](crate::runtime::Tokio), and with features
/// `smol` and `async-std` those.
///
/// Implement it for sockets or TLS of your own: open a stream, log in with `Config::connect_raw`, and return what
/// [`opened`] makes of that.
pub trait Sockets: Runtime {
    /// Opens a connection. The driver bounds its time.
    fn dial<'a>(&'a self, config: &'a Config) -> BoxFuture<'a, Result<(Client, Messages), DialError>>;
}

#[cfg(feature = "tokio")]
impl Sockets for pm_queue::runtime::Tokio {
    fn dial<'a>(&'a self, config: &'a Config) -> BoxFuture<'a, Result<(Client, Messages), DialError>> {
        Box::pin(async move {
            #[cfg(feature = "tls")]
            if wants_tls(config) {
                let tls = tokio_postgres_rustls::MakeRustlsConnect::new(tls_config());
                return Ok(opened(config.connect(tls).await?));
            }
            Ok(opened(config.connect(tokio_postgres::NoTls).await?))
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

/// Returns whether connections are to be encrypted.
#[cfg(feature = "tls")]
pub(crate) fn wants_tls(config: &Config) -> bool {
    config.get_ssl_mode() == tokio_postgres::config::SslMode::Require
}

/// Returns the configuration that trusts what the system trusts, made once.
#[cfg(feature = "tls")]
pub(crate) fn tls_config() -> rustls::ClientConfig {
    static CONFIG: std::sync::OnceLock<rustls::ClientConfig> = std::sync::OnceLock::new();
    let make = || {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().expect("ring speaks the default versions");
        builder.with_root_certificates(roots).with_no_client_auth()
    };
    CONFIG.get_or_init(make).clone()
}
