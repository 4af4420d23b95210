//! Connections for smol and async-std: `connect_raw` over their common sockets.

use crate::dial::{Dial, DialError, Messages, Sockets, opened};
use async_net::TcpStream;
use futures_util::{AsyncRead, AsyncWrite};
use pm_queue::driver::BoxFuture;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::compat::FuturesAsyncReadCompatExt;

#[cfg(feature = "smol")]
impl Sockets for pm_queue::runtime::Smol {
    fn dial<'a>(&'a self, dial: &'a Dial) -> BoxFuture<'a, Result<(Client, Messages), DialError>> {
        Box::pin(self::dial(dial))
    }
}

#[cfg(feature = "async-std")]
impl Sockets for pm_queue::runtime::AsyncStd {
    fn dial<'a>(&'a self, dial: &'a Dial) -> BoxFuture<'a, Result<(Client, Messages), DialError>> {
        Box::pin(self::dial(dial))
    }
}

/// Opens a connection to the one address of `dial`.
async fn dial(dial: &Dial) -> Result<(Client, Messages), DialError> {
    let config = dial.config();
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let (host, address) = (config.get_hosts().first(), config.get_hostaddrs().first());
    match (host, address) {
        #[cfg(unix)]
        (Some(Host::Unix(directory)), _) => {
            let socket = directory.join(format!(".s.PGSQL.{port}"));
            start(dial, async_net::unix::UnixStream::connect(socket).await?, "").await
        }
        (Some(Host::Tcp(name)), Some(address)) => {
            start(dial, tuned(config, TcpStream::connect((*address, port)).await?)?, name).await
        }
        (Some(Host::Tcp(name)), None) => {
            start(dial, tuned(config, TcpStream::connect((name.as_str(), port)).await?)?, name).await
        }
        _ => Err(DialError::Other("a host or an address is missing".into())),
    }
}

/// Sets the socket options that detect a dead peer.
fn tuned(config: &Config, stream: TcpStream) -> std::io::Result<TcpStream> {
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

/// Logs in over a stream. `name` is the host name for the certificate.
async fn start<S>(dial: &Dial, stream: S, name: &str) -> Result<(Client, Messages), DialError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = stream.compat();
    #[cfg(feature = "tls")]
    if let Some(mut tls) = dial.tls() {
        use tokio_postgres::tls::MakeTlsConnect;
        let tls = MakeTlsConnect::<tokio_util::compat::Compat<S>>::make_tls_connect(&mut tls, name);
        let tls = tls.map_err(|error| DialError::Other(error.into()))?;
        return Ok(opened(dial.config().connect_raw(stream, tls).await?));
    }
    let _only_used_for_tls = name;
    Ok(opened(dial.config().connect_raw(stream, NoTls).await?))
}
