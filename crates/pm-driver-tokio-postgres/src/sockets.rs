//! Connections without tokio: `connect_raw` over the sockets that smol and async-std share.

use crate::dial::{DialError, Messages, Sockets, opened};
use async_net::TcpStream;
use futures_util::{AsyncRead, AsyncWrite};
use pm_queue::BoxFuture;
use tokio_postgres::config::{Host, TargetSessionAttrs};
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::compat::FuturesAsyncReadCompatExt;

#[cfg(feature = "smol")]
impl Sockets for pm_queue::runtime::Smol {
    fn dial<'a>(&'a self, config: &'a Config) -> BoxFuture<'a, Result<(Client, Messages), DialError>> {
        Box::pin(dial(config))
    }
}

#[cfg(feature = "async-std")]
impl Sockets for pm_queue::runtime::AsyncStd {
    fn dial<'a>(&'a self, config: &'a Config) -> BoxFuture<'a, Result<(Client, Messages), DialError>> {
        Box::pin(dial(config))
    }
}

/// Opens a connection to the first host that answers.
async fn dial(config: &Config) -> Result<(Client, Messages), DialError> {
    if config.get_target_session_attrs() != TargetSessionAttrs::Any {
        return Err("target_session_attrs is only understood on tokio".into());
    }
    let mut failed: DialError = "the database URL names no host".into();
    for place in 0..config.get_hosts().len().max(config.get_hostaddrs().len()) {
        match dial_place(config, place).await {
            Ok(connection) => return Ok(connection),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn dial_place(config: &Config, place: usize) -> Result<(Client, Messages), DialError> {
    let ports = config.get_ports();
    let port = ports.get(place).or(ports.first()).copied().unwrap_or(5432);
    let host = config.get_hosts().get(place);
    if let Some(address) = config.get_hostaddrs().get(place) {
        let name = if let Some(Host::Tcp(name)) = host { name } else { "" };
        return start(config, tuned(config, TcpStream::connect((*address, port)).await?)?, name).await;
    }
    match host {
        Some(Host::Tcp(name)) => {
            let stream = TcpStream::connect((name.as_str(), port)).await?;
            start(config, tuned(config, stream)?, name).await
        }
        #[cfg(unix)]
        Some(Host::Unix(directory)) => {
            let socket = directory.join(format!(".s.PGSQL.{port}"));
            start(config, async_net::unix::UnixStream::connect(socket).await?, "").await
        }
        None => Err("a host or an address is missing".into()),
    }
}

/// Sets what lets a dead peer be noticed, as the URL says.
fn tuned(config: &Config, stream: TcpStream) -> Result<TcpStream, DialError> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        use rustix::net::sockopt;
        if let Some(limit) = config.get_tcp_user_timeout() {
            sockopt::set_tcp_user_timeout(&stream, u32::try_from(limit.as_millis()).unwrap_or(u32::MAX))?;
        }
        if config.get_keepalives() {
            sockopt::set_socket_keepalive(&stream, true)?;
            sockopt::set_tcp_keepidle(&stream, config.get_keepalives_idle())?;
            config.get_keepalives_interval().map_or(Ok(()), |every| sockopt::set_tcp_keepintvl(&stream, every))?;
            config.get_keepalives_retries().map_or(Ok(()), |most| sockopt::set_tcp_keepcnt(&stream, most))?;
        }
    }
    Ok(stream)
}

/// Logs in over a stream to the host of this name, which a certificate has to bear.
async fn start<S>(config: &Config, stream: S, name: &str) -> Result<(Client, Messages), DialError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = stream.compat();
    #[cfg(feature = "tls")]
    if crate::dial::wants_tls(config) {
        use tokio_postgres::tls::MakeTlsConnect;
        use tokio_postgres_rustls::MakeRustlsConnect;
        let mut tls = MakeRustlsConnect::new(crate::dial::tls_config());
        let tls = MakeTlsConnect::<tokio_util::compat::Compat<S>>::make_tls_connect(&mut tls, name)?;
        return Ok(opened(config.connect_raw(stream, tls).await?));
    }
    let _only_a_certificate_bears_it = name;
    Ok(opened(config.connect_raw(stream, NoTls).await?))
}
