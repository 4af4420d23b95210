//! `pm dev`

use crate::support::{Home, Ran, run};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};

/// A running `pm dev`; killed when dropped.
struct Dev {
    child: Child,
    stdout: BufReader<ChildStdout>,
    url: String,
}

impl Dev {
    fn start(home: &Home, arguments: &[&str]) -> Dev {
        let mut command = home.command();
        // `pm dev` ignores the database of the environment.
        command.arg("dev").args(arguments).env("PM_DATABASE_URL", "postgres://nobody@127.0.0.1:1/nowhere");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut url = String::new();
        stdout.read_line(&mut url).unwrap();
        Dev { child, stdout, url: url.trim_end().to_owned() }
    }

    fn pm(&self, home: &Home, arguments: &[&str]) -> Ran {
        run(home.command().args(arguments).env("PM_DATABASE_URL", &self.url), b"")
    }

    /// Sends a signal; returns the status, and the rest of stdout and stderr after the URL.
    fn end(mut self, signal: Signal) -> (Option<i32>, String, String) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        self.stdout.read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (self.child.wait().unwrap().code(), out, err)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // The process may have exited already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn it_runs_until_a_signal_and_deletes_its_data() {
    let home = Home::new();
    for signal in [Signal::INT, Signal::TERM] {
        let dev = Dev::start(&home, &[]);
        assert!(dev.url.starts_with("postgres://postgres@%2F"), "{}", dev.url);
        dev.pm(&home, &["queue", "ls"]).assert(0, "", "No queues.\n");
        assert_eq!(dev.pm(&home, &["queue", "create", "mail"]).status, 0);
        let dir = dev.url.split(['@', ':']).nth(2).unwrap().replace("%2F", "/");
        assert!(std::path::Path::new(&dir).exists(), "{dir}");
        let (status, out, err) = dev.end(signal);
        let expected = "Postgres is running; Ctrl-C stops it and deletes its data.\nStopped.\n";
        assert_eq!((status, out.as_str(), err.as_str()), (Some(0), "", expected));
        assert!(!std::path::Path::new(&dir).exists(), "{dir}");
    }
}

#[test]
fn kept_data_is_available_after_a_restart() {
    let home = Home::new();
    let data = home.path().join("kept/data");
    let arguments = ["--data", data.to_str().unwrap()];
    let dev = Dev::start(&home, &arguments);
    assert_eq!(dev.pm(&home, &["queue", "create", "mail"]).status, 0);
    assert_eq!(dev.pm(&home, &["job", "add", "mail", "{\"n\": 1}"]).status, 0);
    let second = run(home.command().arg("dev").args(arguments), b"");
    second.assert_refused(3, &["postmaster.pid"]);
    assert_eq!(dev.end(Signal::TERM).0, Some(0));
    let dev = Dev::start(&home, &arguments);
    let jobs = dev.pm(&home, &["job", "ls", "--json"]).json();
    assert_eq!((jobs[0]["queue"].as_str(), jobs[0]["status"].as_str()), (Some("mail"), Some("pending")));
    assert_eq!(dev.end(Signal::INT).0, Some(0));
}

#[test]
fn it_exits_when_its_server_does() {
    let home = Home::new();
    let mut dev = Dev::start(&home, &["--json"]);
    let running: serde_json::Value = serde_json::from_str(&dev.url).unwrap();
    let server = Pid::from_raw(running["pid"].as_i64().unwrap() as i32).unwrap();
    kill_process(server, Signal::INT).unwrap();
    let mut err = String::new();
    dev.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(dev.child.wait().unwrap().code(), Some(3));
    assert!(err.contains("Postgres stopped unexpectedly"), "{err}");
}

#[test]
fn the_url_is_printed_as_json_and_other_schemas_are_created() {
    let home = Home::new();
    let dev = Dev::start(&home, &["--json", "--tcp", "--schema", "other"]);
    let running: serde_json::Value = serde_json::from_str(&dev.url).unwrap();
    let url = running["url"].as_str().unwrap();
    assert!(url.starts_with("postgres://postgres@127.0.0.1:") && running["data"].is_null(), "{running}");
    let ran = run(home.command().args(["queue", "ls", "--schema", "other", "--db", url]), b"");
    ran.assert(0, "", "No queues.\n");
    assert!(running["pid"].as_u64().unwrap() > 0);
    assert_eq!(dev.end(Signal::TERM).0, Some(0));
}

#[test]
fn invalid_options_are_refused() {
    let home = Home::new();
    let dev = |arguments: &[&str]| run(home.command().args(["dev"]).args(arguments), b"");
    dev(&["--db", "postgres://localhost/app"]).assert_refused(2, &["leave out --db"]);
    let file = home.path().join("file");
    std::fs::write(&file, "x").unwrap();
    dev(&["--data", file.join("below").to_str().unwrap()]).assert_refused(3, &["file"]);
}
