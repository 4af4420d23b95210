//! What a worker says about the database, to people on stderr and to probes over HTTP.

use crate::context::Context;
use crate::error::CommandError;
use pm_driver_tokio_postgres::Queue;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// So many statements in a row must fail before the database is said to be away: one may be a server's restart.
const FAILURES: u32 = 2;
/// How often the database is asked whether it is there: while commands run, nothing else may ask it for long.
const ASK: Duration = Duration::from_secs(10);
/// How soon it is asked again when it did not answer.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// A probe that sends nothing for so long is sent away.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// So many probes are served at once; more wait.
const PROBES: usize = 16;

/// Whether the database answers, as last reported on stderr.
#[derive(Default)]
pub(super) struct Outage {
    since: Option<Instant>,
}

impl Outage {
    /// Tells people when an outage begins and when it ends.
    pub(super) fn look(&mut self, queue: &Queue, context: &mut Context) {
        let health = queue.health();
        match self.since {
            None if health.failures >= FAILURES => {
                self.since = Some(Instant::now());
                let why = health.last_failure.unwrap_or_default();
                context.output.say(&format!("The database is away; waiting for it: {why}"));
            }
            Some(since) if health.failures == 0 => {
                self.since = None;
                context.output.say(&format!("The database is back after {} s.", since.elapsed().as_secs()));
            }
            _ => {}
        }
    }
}

/// Asks the database now and then, for as long as it is polled; [`Queue::health`] shows what comes of it.
pub(super) async fn ask(queue: Queue) {
    loop {
        let pause = if queue.health().failures > 0 { ASK_AGAIN } else { ASK };
        tokio::time::sleep(pause).await;
        // What it answers does not matter here.
        drop(queue.schema_version().await);
    }
}

/// Listens for probes.
///
/// # Errors
///
/// Exit code 3 when the address cannot be had.
pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener, CommandError> {
    let failed = |error| CommandError::trouble(format!("cannot listen on {address}: {error}"));
    TcpListener::bind(address).await.map_err(failed)
}

/// Answers probes for as long as it is polled: `/live` says that this process works, `/ready` that the database does.
pub(super) async fn serve(listener: TcpListener, queue: Queue) {
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(PROBES));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let queue = queue.clone();
                tokio::spawn(async move {
                    // A probe that goes away early needs no answer.
                    drop(tokio::time::timeout(PROBE_TIMEOUT, answer(stream, &queue)).await);
                    drop(place);
                });
            }
            // Out of file descriptors, most likely: a moment later there may be one.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, queue: &Queue) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut piece = [0; 512];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < 8_192 {
        match stream.read(&mut piece).await? {
            0 => return Ok(()),
            length => request.extend(&piece[..length]),
        }
    }
    let (status, text) = response(&request, queue.health().failures < FAILURES);
    let length = text.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n");
    let body = if request.starts_with(b"HEAD ") { "" } else { text };
    stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).await?;
    stream.shutdown().await
}

fn response(request: &[u8], is_ready: bool) -> (&'static str, &'static str) {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if method != b"GET" && method != b"HEAD" {
        return ("405 Method Not Allowed", "use GET\n");
    }
    match target.split(|byte| *byte == b'?').next().unwrap_or_default() {
        b"/live" => ("200 OK", "alive\n"),
        b"/ready" if is_ready => ("200 OK", "ready\n"),
        b"/ready" => ("503 Service Unavailable", "the database is away\n"),
        _ => ("404 Not Found", "there are /live and /ready\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_answered_by_path_and_method() {
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
