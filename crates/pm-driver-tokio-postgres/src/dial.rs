//! Opening connections, with TLS or without.

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls, Socket};

/// What a connection hears besides answers. It has to be polled for the connection to move at all.
pub(crate) type Messages = BoxStream<'static, Result<AsyncMessage, Error>>;

/// Opens a connection. With feature `tls`, `sslmode=require` in the URL means TLS with a verified certificate.
pub(crate) async fn dial(config: &Config) -> Result<(Client, Messages), Error> {
    #[cfg(feature = "tls")]
    if config.get_ssl_mode() == tokio_postgres::config::SslMode::Require {
        return connect(config, tokio_postgres_rustls::MakeRustlsConnect::new(tls_config())).await;
    }
    connect(config, NoTls).await
}

async fn connect<T>(config: &Config, tls: T) -> Result<(Client, Messages), Error>
where
    T: MakeTlsConnect<Socket, Stream: Send + 'static>,
{
    let (client, mut connection) = config.connect(tls).await?;
    Ok((client, stream::poll_fn(move |cx| connection.poll_message(cx)).boxed()))
}

/// Returns the configuration that trusts what the system trusts, made once.
#[cfg(feature = "tls")]
fn tls_config() -> rustls::ClientConfig {
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
