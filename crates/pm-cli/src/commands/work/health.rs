//! Reports the health of the database: outages on stderr, and HTTP health checks.

use crate::context::Context;
use crate::error::CommandError;
use pm_driver_tokio_postgres::Queue;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How many statements in a row must fail before the database counts as unreachable: one failure may be a restart.
const MIN_FAILURES: u32 = 2;
/// How often the database is polled: while commands run, there may be no other statements for a long time.
const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// How often the database is polled while it is unreachable.
const OUTAGE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a health check may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many health checks are served at once; more wait.
const MAX_PROBES: usize = 16;

/// The outage last reported on stderr, if it has not ended.
#[derive(Default)]
pub(super) struct Outage {
    since: Option<Instant>,
}

impl Outage {
    /// Reports on stderr when an outage begins and when it ends.
    pub(super) fn check(&mut self, queue: &Queue, context: &mut Context) {
        let health = queue.health();
        match self.since {
            None if health.failures >= MIN_FAILURES => {
                self.since = Some(Instant::now());
                let why = health.last_failure.unwrap_or_default();
                context.output.message(&format!("The database is unreachable; waiting for it: {why}"));
            }
            Some(since) if health.failures == 0 => {
                self.since = None;
                context
                    .output
                    .message(&format!("The database is reachable again after {} s.", since.elapsed().as_secs()));
            }
            _ => {}
        }
    }
}

/// Polls the database periodically, and never returns; [`Queue::health`] has the result.
pub(super) async fn poll(queue: Queue) {
    loop {
        let pause = if queue.health().failures > 0 { OUTAGE_POLL_INTERVAL } else { POLL_INTERVAL };
        tokio::time::sleep(pause).await;
        // Only whether the statement succeeds matters, and `Queue::health` records that.
        drop(queue.schema_version().await);
    }
}

/// Listens for health checks. Errors: exit code 3 when the address is not available.
pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener, CommandError> {
    let failed = |error| CommandError::trouble(format!("cannot listen on {address}: {error}"));
    TcpListener::bind(address).await.map_err(failed)
}

/// Serves health checks, and never returns: `/live` succeeds while this process responds, `/ready` while the database
/// is reachable.
pub(super) async fn serve(listener: TcpListener, queue: Queue) {
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(MAX_PROBES));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let queue = queue.clone();
                tokio::spawn(async move {
                    // Errors are ignored: the client has disconnected.
                    drop(tokio::time::timeout(PROBE_TIMEOUT, answer(stream, &queue)).await);
                    drop(permit);
                });
            }
            // Probably out of file descriptors, which may pass.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, queue: &Queue) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 512];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < 8_192 {
        match stream.read(&mut chunk).await? {
            0 => return Ok(()),
            length => request.extend(&chunk[..length]),
        }
    }
    let (status, text) = response(&request, queue.health().failures < MIN_FAILURES);
    let length = text.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n");
    let body = if request.starts_with(b"HEAD ") { "" } else { text };
    stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).await?;
    stream.shutdown().await
}

fn response(request: &[u8], is_ready: bool) -> (&'static str, &'static str) {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut parts = line.split(|byte| *byte == b' ');
    let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if method != b"GET" && method != b"HEAD" {
        return ("405 Method Not Allowed", "use GET\n");
    }
    match target.split(|byte| *byte == b'?').next().unwrap_or_default() {
        b"/live" => ("200 OK", "alive\n"),
        b"/ready" if is_ready => ("200 OK", "ready\n"),
        b"/ready" => ("503 Service Unavailable", "the database is unreachable\n"),
        _ => ("404 Not Found", "use /live or /ready\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_depend_on_path_and_method() {
        for (request, is_ready, status) in [
            ("GET /live HTTP/1.1\r\n\r\n", false, "200"),
            ("HEAD /ready HTTP/1.0\r\n\r\n", true, "200"),
            ("GET /ready?verbose HTTP/1.1\r\n\r\n", false, "503"),
            ("GET / HTTP/1.1\r\n\r\n", true, "404"),
            ("POST /live HTTP/1.1\r\n\r\n", true, "405"),
            ("\r\n\r\n", true, "405"),
            ("GET", true, "404"),
        ] {
            assert!(response(request.as_bytes(), is_ready).0.starts_with(status), "{request}");
        }
    }
}
