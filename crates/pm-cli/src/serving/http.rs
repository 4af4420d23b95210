//! A small HTTP server for health checks and metrics. `httparse` reads the requests; each connection carries one.

use super::route::{Response, Routes};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// How long a connection may take, from its start to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How many connections are served at once; more wait.
const MAX_CONNECTIONS: usize = 16;
/// The maximum size of a request without its body, in bytes.
const MAX_HEAD: usize = 8 * 1024;
/// The maximum number of headers of a request.
const MAX_HEADERS: usize = 64;

/// Serves what comes in on the listener, and never returns.
pub(super) async fn serve(listener: TcpListener, routes: Arc<Routes>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let routes = routes.clone();
                tokio::spawn(async move {
                    // Errors are ignored: the client has disconnected.
                    drop(tokio::time::timeout(TIMEOUT, answer(stream, &routes)).await);
                    drop(permit);
                });
            }
            // Probably out of file descriptors, which may pass.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, routes: &Routes) -> io::Result<()> {
    let mut head = Vec::new();
    let (is_head, response) = loop {
        if let Some(answer) = response(&head, routes) {
            break answer;
        }
        // A byte at a time would read the head again and again, but no more than 8 KiB of it.
        let room = MAX_HEAD + 1 - head.len();
        if (&mut stream).take(room as u64).read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    };
    let Response { status, content_type, body } = response;
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    if !is_head {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}

/// Returns the answer to a request, and whether it is to a HEAD request; `None` if the request is not complete.
fn response(head: &[u8], routes: &Routes) -> Option<(bool, Response)> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let too_large = || Response::text("431 Request Header Fields Too Large", "the request is too large\n");
    match request.parse(head) {
        Ok(httparse::Status::Partial) if head.len() > MAX_HEAD => Some((false, too_large())),
        Ok(httparse::Status::Partial) => None,
        Ok(httparse::Status::Complete(_)) => {
            let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
            let accepts_openmetrics = request.headers.iter().any(|header| {
                header.name.eq_ignore_ascii_case("accept")
                    && std::str::from_utf8(header.value).is_ok_and(|it| it.contains("application/openmetrics-text"))
            });
            Some((method == "HEAD", routes.answer(method, target, accepts_openmetrics)))
        }
        Err(httparse::Error::TooManyHeaders) => Some((false, too_large())),
        Err(_) => Some((false, Response::text("400 Bad Request", "this is no HTTP request\n"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pm_driver_tokio_postgres::metrics::Metrics;
    use proptest::prelude::*;

    fn status(request: &[u8], routes: &Routes) -> Option<&'static str> {
        response(request, routes).map(|(_, response)| &response.status[..3])
    }

    fn of_metrics() -> Routes {
        Routes { readiness: None, metrics: Some(Arc::new(Metrics::new())) }
    }

    #[test]
    fn responses_depend_on_path_and_method() {
        for (request, expected) in [
            ("GET /metrics HTTP/1.1\r\n\r\n", Some("200")),
            ("HEAD /metrics HTTP/1.0\r\n\r\n", Some("200")),
            ("GET /metrics?x=y HTTP/1.1\r\nHost: a\r\n\r\n", Some("200")),
            ("GET /healthz HTTP/1.1\r\n\r\n", Some("404")),
            ("POST /metrics HTTP/1.1\r\n\r\n", Some("405")),
            ("GET /metrics HTTP/1.1\r\n", None),
            ("", None),
            ("GET /metrics HTTP/2.0\r\n\r\n", Some("400")),
            ("\u{0}\u{1}", Some("400")),
        ] {
            assert_eq!(status(request.as_bytes(), &of_metrics()), expected, "{request:?}");
        }
    }

    #[test]
    fn the_format_follows_the_accept_header() {
        let answer = |accept: &str| {
            let request = format!("GET /metrics HTTP/1.1\r\nAccept: {accept}\r\n\r\n");
            response(request.as_bytes(), &of_metrics()).unwrap().1
        };
        let openmetrics = answer("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1");
        assert!(openmetrics.content_type.starts_with("application/openmetrics-text"));
        assert!(openmetrics.body.ends_with("# EOF\n"));
        assert!(answer("text/plain").content_type.starts_with("text/plain; version=0.0.4"));
    }

    #[test]
    fn a_request_that_is_too_large_is_refused() {
        let headers = "A: b\r\n".repeat(MAX_HEADERS + 1);
        assert_eq!(status(format!("GET / HTTP/1.1\r\n{headers}").as_bytes(), &of_metrics()), Some("431"));
        let header = "a".repeat(MAX_HEAD);
        assert_eq!(status(format!("GET / HTTP/1.1\r\nA: {header}").as_bytes(), &of_metrics()), Some("431"));
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000), begins in any::<bool>()) {
            let request = if begins { [b"GET /metrics HTTP/1.1\r\n", &*bytes].concat() } else { bytes };
            response(&request, &of_metrics());
        }
    }
}
