//! Runs every example against a real Postgres.

use pm_sandbox::TestDatabase;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A running example. It is killed when dropped.
struct Running {
    process: Child,
    output: BufReader<ChildStdout>,
    database: TestDatabase,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Usually it has already ended.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Running {
    fn start(program: &str) -> Running {
        Running::start_on(program, TestDatabase::create().expect("a private Postgres starts"))
    }

    fn start_on(program: &str, database: TestDatabase) -> Running {
        let mut command = Command::new(program);
        let command = command.env("DATABASE_URL", database.url()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("it was built");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        Running { process, output, database }
    }

    /// Returns the next line that it prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it prints UTF-8");
        line.trim_end().to_owned()
    }

    fn value(&self, sql: &str) -> String {
        let rows = self.database.execute(sql).expect("the statement is valid");
        rows[0][0].clone().unwrap_or_default()
    }

    fn eventually(&self, sql: &str, expected: &str) {
        let start = Instant::now();
        while self.value(sql) != expected {
            assert!(start.elapsed() < TIMEOUT, "{sql}: {} instead of {expected}", self.value(sql));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Enqueues a mail with plain SQL.
    fn enqueue(&self, to: &str, takes_ms: u64) {
        self.value(&format!(
            "insert into pm.job (id, seq, queue_id, priority, codec, payload)
             select gen_random_uuid(), nextval('pm.job_seq'), id, 0, 0,
                    convert_to('{{\"to\": \"{to}\", \"takes_ms\": {takes_ms}}}', 'utf8')
             from pm.queue where name = 'mails' returning id"
        ));
    }

    /// Sends SIGTERM; returns whether it exited successfully, and the rest of its output.
    fn terminate(&mut self) -> (bool, String) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill is there").success());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("it prints UTF-8");
        (self.process.wait().expect("it is our child").success(), rest)
    }
}

/// Waits until a program has worked off `mails`, then terminates it during a job: it finishes the job and exits
/// successfully.
fn assert_drains(running: &mut Running) {
    running.eventually("select count(*) from pm.job where state < 2", "0");
    running.enqueue("slow@example.org", 1_500);
    running.eventually("select count(*) from pm.job where state = 1", "1");
    let (ended_well, rest) = running.terminate();
    assert!(ended_well && rest.ends_with("done\n"), "{rest}");
    assert_eq!(running.value("select count(*) from pm.job where state <> 2 or attempt > 1"), "0");
}

/// Counts the jobs that a panic has soft-failed at least twice.
const PANICKED: &str =
    "select count(*) from pm.job where state = 0 and retry_count > 1 and reason = 'panicked: an address has an @'";

/// Enqueues a job whose handler panics between two good ones. The program finishes these, one of which is running at
/// the same time, and the panic's message becomes the reason of the job.
fn assert_survives_a_panic(running: &Running) {
    running.eventually("select count(*) from pm.job where state <> 2", "0");
    let finished: u32 = running.value("select count(*) from pm.job where state = 2").parse().expect("it is a number");
    running.enqueue("beside@example.org", 300);
    running.enqueue("nowhere", 0);
    running.enqueue("after@example.org", 0);
    running.eventually(PANICKED, "1");
    running.eventually("select count(*) from pm.job where state = 2", &(finished + 2).to_string());
    let once = "select count(*) from pm.job where state = 2 and attempt > 1";
    assert_eq!(running.value(once), "0", "no other job was disturbed");
    running.value("with deleted as (delete from pm.job where state = 0 returning id) select count(*) from deleted");
}

#[test]
fn a_plain_worker_drains() {
    let mut running = Running::start(env!("CARGO_BIN_EXE_plain_worker"));
    assert_eq!(running.line(), "ready");
    running.enqueue("ada@example.org", 0);
    assert_eq!(running.line(), "mail to ada@example.org by way of example.org");
    assert_survives_a_panic(&running);
    assert_drains(&mut running);
}

#[test]
fn a_smol_app_drains() {
    let mut running = Running::start(env!("CARGO_BIN_EXE_smol_app"));
    assert_eq!(running.line(), "ready");
    assert_eq!(running.line(), "mail to welcome@example.org by way of example.org");
    assert_survives_a_panic(&running);
    assert_drains(&mut running);
}

#[test]
fn a_driver_over_a_blocking_client_works() {
    let mut running = Running::start(env!("CARGO_BIN_EXE_blocking_driver"));
    assert_eq!(running.line(), "mail to ada@example.org by way of example.org");
    assert_eq!(running.line(), "done");
    assert!(running.process.wait().expect("it is our child").success());
    assert_eq!(running.value("select count(*) from pm.job where state = 2"), "1");
    let source = include_str!("../src/bin/blocking_driver.rs").lines().count();
    assert!(source < 150, "{source} lines");
}

#[test]
fn the_core_works_alone() {
    let mut running = Running::start(env!("CARGO_BIN_EXE_core_alone"));
    assert_eq!(running.line(), "created: true");
    assert!(running.line().ends_with(r#"to do: {"to":"ada"}"#));
    assert_eq!(running.line(), "done");
    assert!(running.process.wait().expect("it is our child").success());
    assert_eq!(running.value("select count(*) from pm.job where state = 2"), "1");
}

/// Sends a request to a web service; returns the status and the body of the response.
fn request(address: &str, method: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let length = body.len();
    let head = format!("{method} /signups HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    let typed = format!("content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(format!("{head}{typed}").as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("the response is HTTP");
    (status, answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
}

fn assert_serves(program: &str) {
    let mut running = Running::start(program);
    let line = running.line();
    let address = line.strip_prefix("listening on ").expect("it prints its address").to_owned();
    let mail = r#"{"to": "ada@example.org", "takes_ms": 0}"#;
    let (status, id) = request(&address, "POST", mail);
    assert_eq!((status, id.len()), (200, 36), "{id}");
    running.eventually("select count(*) from pm.job where state = 2", "1");
    // A second sign-up violates the primary key: it adds neither a row nor a job.
    assert_eq!(request(&address, "POST", mail).0, 500);
    assert_eq!(request(&address, "GET", ""), (200, "1".to_owned()));
    assert_eq!(running.value("select count(*) from pm.job"), "1");
    assert_survives_a_panic(&running);
    assert_drains(&mut running);
}

/// The process must exit with an error when its worker ends, which would otherwise go unnoticed.
fn assert_ends_with_its_worker(program: &str) {
    let mut running = Running::start(program);
    assert!(running.line().starts_with("listening on "));
    running.value("with deleted as (delete from pm.queue returning id) select count(*) from deleted");
    let start = Instant::now();
    while running.process.try_wait().expect("it is our child").is_none() {
        assert!(start.elapsed() < TIMEOUT, "the service keeps running without its worker");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!running.process.wait().expect("it is our child").success());
}

#[test]
fn a_service_on_axum_and_sqlx_does_not_outlive_its_worker() {
    assert_ends_with_its_worker(env!("CARGO_BIN_EXE_axum_sqlx"));
}

#[test]
fn a_service_on_axum_and_deadpool_does_not_outlive_its_worker() {
    assert_ends_with_its_worker(env!("CARGO_BIN_EXE_axum_deadpool"));
}

#[test]
fn the_program_in_the_readme_goes_on_after_a_failed_job() {
    let mut running = Running::start(env!("CARGO_BIN_EXE_first"));
    assert!(running.line().starts_with("job "));
    assert_eq!(running.line(), "mail to ada@example.org by way of example.org");
    running.enqueue("nowhere", 0);
    running.enqueue("after@example.org", 0);
    assert_eq!(running.line(), "mail to after@example.org by way of example.org");
    running.eventually("select count(*) from pm.job where state = 3 and reason = 'an address has an @'", "1");
    running.eventually("select count(*) from pm.job where state = 2 and attempt = 1", "2");
}

/// The program with the blocking driver soft-fails a job whose handler panics.
#[test]
fn a_driver_over_a_blocking_client_survives_a_panic() {
    let program = env!("CARGO_BIN_EXE_blocking_driver");
    let mut first = Running::start(program);
    assert!(first.process.wait().expect("it is our child").success());
    first.enqueue("nowhere", 0);
    let database = TestDatabase::create().expect("a private Postgres starts");
    let mut second = Running::start_on(program, std::mem::replace(&mut first.database, database));
    assert!(second.process.wait().expect("it is our child").success());
    let panicked = "select count(*) from pm.job where retry_count = 1 and reason = 'panicked: an address has an @'";
    assert_eq!(second.value(panicked), "1");
}

/// Returns the lines of a program's handler, without indentation.
fn handler(source: &str) -> Vec<&str> {
    let lines = source.lines().map(|line| line.trim_start_matches("//!").trim());
    lines.skip_while(|line| !line.starts_with("/// Sends a mail.")).take_while(|line| !line.is_empty()).collect()
}

#[test]
fn the_documented_handler_is_the_tested_one() {
    let program = include_str!("../src/bin/first.rs");
    let (_, code) = program.split_once("\n\n").expect("an empty line follows the first comment");
    assert!(include_str!("../../README.md").contains(code), "the README contains a different program");
    assert_eq!(handler(program).len(), 8);
    assert_eq!(handler(include_str!("../../crates/pm-driver-tokio-postgres/src/lib.rs")), handler(program));
    assert_eq!(handler(include_str!("../../crates/pm-driver-sqlx/src/lib.rs")), handler(program));
}

#[test]
fn a_service_on_axum_and_sqlx_drains() {
    assert_serves(env!("CARGO_BIN_EXE_axum_sqlx"));
}

#[test]
fn a_service_on_axum_and_deadpool_drains() {
    assert_serves(env!("CARGO_BIN_EXE_axum_deadpool"));
}
