//! Metrics and health checks of `pm work` and `pm reap`.

use crate::support::{Fixture, Home};
use crate::work::{Working, await_file};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Returns an address that is free, unless another process takes it at this moment.
pub(crate) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Sends a GET request, and returns the head and the body of the response.
fn get(address: &str, path: &str, headers: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: pm\r\n{headers}\r\n").as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    (head.to_owned(), body.to_owned())
}

/// Sends a GET request, and returns the status of the response.
pub(crate) fn probe(address: &str, path: &str) -> String {
    get(address, path, "").0.split(' ').nth(1).unwrap().to_owned()
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "never {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a process listens.
fn await_server(address: &str) {
    wait_until("listening", || TcpStream::connect(address).is_ok());
}

#[track_caller]
fn assert_samples(metrics: &str, samples: &[&str]) {
    for sample in samples {
        assert!(metrics.lines().any(|line| line == *sample), "{sample} is missing in: {metrics}");
    }
}

#[test]
fn a_worker_serves_metrics_and_health_while_a_job_runs() {
    let fixture = Fixture::with_queues(&["mail"]);
    let address = free_address();
    let mut command = fixture.command();
    command.args(["work", "mail", "--ndjson", "--metrics", &address, "--health", &address, "--", "sh", "-c"]);
    let script = "echo > \"$HOME/began\"; until [ -e \"$HOME/end\" ]; do sleep 0.02; done";
    let mut working = Working::start(command.arg(script));
    fixture.add(&["mail", "1"]);
    await_file(&fixture.home.path().join("began"));
    let (head, running) = get(&address, "/metrics", "");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
    let expected = [
        "# TYPE pm_jobs_claimed_total counter",
        "pm_jobs_claimed_total{queue=\"mail\"} 1",
        "pm_jobs_in_flight{queue=\"mail\"} 1",
        "pm_job_wait_seconds_count{queue=\"mail\"} 1",
        "pm_job_run_seconds_count{queue=\"mail\"} 0",
        "pm_up 1",
    ];
    assert_samples(&running, &expected);
    assert_eq!(["/healthz", "/readyz", "/else"].map(|path| probe(&address, path)), ["200", "200", "404"]);

    std::fs::write(fixture.home.path().join("end"), "").unwrap();
    assert_eq!(working.next()["result"], "finished");
    let (head, ended) = get(&address, "/metrics", "Accept: application/openmetrics-text; version=1.0.0\r\n");
    assert!(head.contains("Content-Type: application/openmetrics-text; version=1.0.0"), "{head}");
    let expected = [
        "# TYPE pm_jobs_settled counter",
        "pm_jobs_settled_total{queue=\"mail\",outcome=\"finished\"} 1",
        "pm_jobs_settled_total{queue=\"mail\",outcome=\"failed\"} 0",
        "pm_jobs_in_flight{queue=\"mail\"} 0",
        "pm_job_run_seconds_count{queue=\"mail\"} 1",
        "# EOF",
    ];
    assert_samples(&ended, &expected);
    working.terminate();
    assert_eq!(working.end().0, 0);
}

#[test]
fn two_addresses_serve_what_is_asked_of_each() {
    let fixture = Fixture::with_queues(&["mail"]);
    let (metrics, health) = (free_address(), free_address());
    let working =
        Working::start(fixture.command().args(["reap", "--ndjson", "--metrics", &metrics, "--health", &health]));
    await_server(&health);
    await_server(&metrics);
    assert_eq!(["/metrics", "/readyz"].map(|path| probe(&metrics, path)), ["200", "404"]);
    assert_eq!(["/metrics", "/readyz"].map(|path| probe(&health, path)), ["404", "200"]);
    working.terminate();
    assert_eq!(working.end().0, 0);
}

#[test]
fn a_request_that_makes_no_sense_harms_nothing() {
    let fixture = Fixture::with_queues(&["mail"]);
    let address = free_address();
    let working = Working::start(fixture.command().args(["reap", "--ndjson", "--metrics", &address]));
    await_server(&address);
    let garbage: [(&[u8], &str); 6] = [
        (b"\0\x01\xff\xfe\r\n\r\n", "400"),
        (b"GET /metrics HTTP/9.9\r\n\r\n", "400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400"),
        (b"DELETE /metrics HTTP/1.1\r\n\r\n", "405"),
        (&[b'a'; 20_000], "431"),
        (b"GET /met", ""),
    ];
    for (bytes, status) in garbage {
        let mut stream = TcpStream::connect(&address).unwrap();
        // The server may have answered and closed before it got all of it.
        stream.write_all(bytes).ok();
        stream.shutdown(Shutdown::Write).ok();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).ok();
        let response = String::from_utf8(response).unwrap();
        // A reset connection may lose the response to what the server did not read.
        let found = response.split(' ').nth(1).unwrap_or_default();
        assert!(found == status || status == "431" && found.is_empty(), "{bytes:?}: {response}");
    }
    // Idle connections occupy all places; each is closed after 5 s.
    let idle: Vec<_> = (0..20).map(|_| TcpStream::connect(&address).unwrap()).collect();
    assert_eq!(probe(&address, "/metrics"), "200");
    drop(idle);
    working.terminate();
    assert_eq!(working.end().0, 0);
}

#[test]
fn an_address_in_use_is_refused() {
    let fixture = Fixture::with_queues(&["mail"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ran = fixture.pm(&["work", "mail", "--health", &address, "--", "true"]);
    ran.assert_refused(3, &["cannot listen on", &address]);
    let ran = fixture.pm(&["reap", "--metrics", &address]);
    ran.assert_refused(3, &["cannot listen on", &address]);
    let ran = fixture.pm(&["reap", "--health-file", "/proc/none"]);
    ran.assert_refused(3, &["cannot write the health file /proc/none"]);
}

#[test]
fn readiness_follows_the_database() {
    let mut server = pm_sandbox::Server::start_with(pm_sandbox::ServerOptions::default().durable(true)).unwrap();
    let home = Home::new();
    let mut migrate = home.command();
    assert!(migrate.env("PM_DATABASE_URL", server.url()).args(["db", "migrate"]).status().unwrap().success());
    let (address, file) = (free_address(), home.path().join("ready"));
    let mut command = home.command();
    command.env("PM_DATABASE_URL", server.url()).args(["reap", "--health", &address, "--metrics", &address]);
    let working = Working::start(command.arg("--health-file").arg(&file));
    await_server(&address);
    await_file(&file);
    assert_eq!(probe(&address, "/readyz"), "200");

    server.kill();
    wait_until("unready", || probe(&address, "/readyz") == "503");
    let (_, why) = get(&address, "/readyz", "");
    assert!(why.starts_with("the database is unreachable: "), "{why}");
    assert_eq!(probe(&address, "/healthz"), "200", "the process is alive");
    wait_until("without the file", || !file.exists());
    wait_until("down", || get(&address, "/metrics", "").1.contains("pm_up 0\n"));

    server.restart().unwrap();
    wait_until("ready", || probe(&address, "/readyz") == "200");
    wait_until("with the file", || file.exists());
    wait_until("up", || get(&address, "/metrics", "").1.contains("pm_up 1\n"));
    let touched_at = || std::fs::metadata(&file).unwrap().modified().unwrap();
    let first = touched_at();
    wait_until("touched", || touched_at() > first);
    working.terminate();
    assert_eq!(working.end().0, 0);
    assert!(!file.exists(), "it is removed at the end");
}
