//! Every example runs, against a real Postgres.

use pm_sandbox::TestDatabase;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// An example that runs. It is killed when it is dropped.
struct Running {
    process: Child,
    said: BufReader<ChildStdout>,
    database: TestDatabase,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, if all went well.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Running {
    fn start(program: &str) -> Running {
        let database = TestDatabase::create().expect("a private Postgres starts");
        let mut command = Command::new(program);
        let command = command.env("DATABASE_URL", database.url()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("it was built");
        let said = BufReader::new(process.stdout.take().expect("it is piped"));
        Running { process, said, database }
    }

    /// Returns the next line that it says.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("it speaks UTF-8");
        line.trim_end().to_owned()
    }

    fn value(&self, sql: &str) -> String {
        let rows = self.database.execute(sql).expect("the statement is valid");
        rows[0][0].clone().unwrap_or_default()
    }

    fn eventually(&self, sql: &str, expected: &str) {
        let start = Instant::now();
        while self.value(sql) != expected {
            assert!(start.elapsed() < PATIENCE, "{sql}: {} instead of {expected}", self.value(sql));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Puts a mail on the queue, as any program can.
    fn put(&self, to: &str, takes_ms: u64) {
        self.value(&format!(
            "insert into pm.job (id, seq, queue_id, priority, codec, payload)
             select gen_random_uuid(), nextval('pm.job_seq'), id, 0, 0,
                    convert_to('{{\"to\": \"{to}\", \"takes_ms\": {takes_ms}}}', 'utf8')
             from pm.queue where name = 'mails' returning id"
        ));
    }

    /// Sends SIGTERM and returns whether it ended well, and what it said before.
    fn terminate(&mut self) -> (bool, String) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill is there").success());
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).expect("it speaks UTF-8");
        (self.process.wait().expect("it is our child").success(), rest)
    }
}

/// Lets a program that works off `mails` do so, and stops it while it is at work: that job is finished, and it ends well.
fn assert_drains(running: &mut Running) {
    running.eventually("select count(*) from pm.job where state < 2", "0");
    running.put("slow@example.org", 1_500);
    running.eventually("select count(*) from pm.job where state = 1", "1");
    let (ended_well, rest) = running.terminate();
    assert!(ended_well && rest.ends_with("done\n"), "{rest}");
    assert_eq!(running.value("select count(*) from pm.job where state <> 2 or attempt > 1"), "0");
}

#[test]
fn a_plain_worker_drains() {
    let mut running = Running::start(env!("CARGO_BIN_EXE_plain_worker"));
    assert_eq!(running.line(), "ready");
    running.put("ada@example.org", 0);
    assert_eq!(running.line(), "mail to ada@example.org");
    assert_drains(&mut running);
}

#[test]
fn a_smol_app_drains() {
    let mut running = Running::start(env!("CARGO_BIN_EXE_smol_app"));
    assert_eq!(running.line(), "ready");
    assert_eq!(running.line(), "mail to welcome@example.org");
    assert_drains(&mut running);
}

#[test]
fn a_driver_over_a_blocking_client_works() {
    let mut running = Running::start(env!("CARGO_BIN_EXE_blocking_driver"));
    assert_eq!((running.line().as_str(), running.line().as_str()), ("mail to ada@example.org", "done"));
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

/// Says something to a web service, and returns the status and the body of its answer.
fn ask(address: &str, method: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let length = body.len();
    let head = format!("{method} /signups HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    let typed = format!("content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(format!("{head}{typed}").as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("it speaks HTTP");
    (status, answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
}

fn assert_serves(program: &str) {
    let mut running = Running::start(program);
    let line = running.line();
    let address = line.strip_prefix("listening on ").expect("it says where").to_owned();
    let mail = r#"{"to": "ada@example.org", "takes_ms": 0}"#;
    let (status, id) = ask(&address, "POST", mail);
    assert_eq!((status, id.len()), (200, 36), "{id}");
    running.eventually("select count(*) from pm.job where state = 2", "1");
    // A second sign-up breaks the table's rule: no row, and no job either.
    assert_eq!(ask(&address, "POST", mail).0, 500);
    assert_eq!(ask(&address, "GET", ""), (200, "1".to_owned()));
    assert_eq!(running.value("select count(*) from pm.job"), "1");
    assert_drains(&mut running);
}

#[test]
fn a_service_on_axum_and_sqlx_drains() {
    assert_serves(env!("CARGO_BIN_EXE_axum_sqlx"));
}

#[test]
fn a_service_on_axum_and_deadpool_drains() {
    assert_serves(env!("CARGO_BIN_EXE_axum_deadpool"));
}
