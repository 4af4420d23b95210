//! The servers and databases of one process.

use std::net::TcpStream;
use std::path::{Path, PathBuf};

use pm_sandbox::{Error, Server, ServerOptions, TestDatabase};

#[test]
fn server_answers_and_is_removed_when_dropped() {
    let server = Server::start().expect("it starts");
    let rows = server.execute("postgres", "SELECT 1, NULL, 'ä'; SELECT current_user").expect("runs");
    let expected = vec![vec![Some("1".to_owned()), None, Some("ä".to_owned())], vec![Some("postgres".to_owned())]];
    assert_eq!(rows, expected);
    assert!(server.log().contains("ready to accept connections"), "{}", server.log());

    let (dir, pid) = (server.socket_dir().to_owned(), server.pid());
    assert!(is_running(pid));
    drop(server);
    assert!(!dir.exists());
    assert!(!is_running(pid));
}

#[test]
fn two_servers_run_side_by_side() {
    let one = Server::start().expect("it starts");
    let other = Server::start().expect("it starts too");
    one.create_database("mine").expect("is new");
    assert_eq!(databases(&one, "mine"), 1);
    assert_eq!(databases(&other, "mine"), 0);
    other.stop().expect("it stops");
    assert_eq!(databases(&one, "mine"), 1);
}

#[test]
fn database_is_created_and_copied() {
    let server = Server::start().expect("it starts");
    let url = server.create_database("a \"b\"/c").expect("is new");
    assert_eq!(url, server.url_of("a \"b\"/c"));
    server.execute("a \"b\"/c", "CREATE TABLE jobs AS SELECT 7 AS id").expect("runs");
    server.create_database_from("copy", "a \"b\"/c").expect("no session is connected");
    let rows = server.execute("copy", "SELECT id FROM jobs").expect("the table is there");
    assert_eq!(rows, vec![vec![Some("7".to_owned())]]);
}

#[test]
fn refused_statement_reports_the_servers_error() {
    let server = Server::start().expect("it starts");
    let error = server.execute("postgres", "SELECT 1/0").expect_err("it is refused");
    assert!(matches!(&error, Error::Sql { sqlstate, .. } if sqlstate == "22012"), "{error}");
    assert_eq!(error.to_string(), "division by zero (SQLSTATE 22012)");
    let error = server.execute("nowhere", "SELECT 1").expect_err("there is no such database");
    assert!(matches!(&error, Error::Sql { sqlstate, .. } if sqlstate == "3D000"), "{error}");
}

#[test]
fn restart_after_kill_keeps_data() {
    let mut server = Server::start_with(ServerOptions::default().durable(true)).expect("starts");
    server.execute("postgres", "CREATE TABLE jobs AS SELECT 7 AS id").expect("runs");
    let (url, pid) = (server.url(), server.pid());

    server.kill();
    server.execute("postgres", "SELECT 1").expect_err("it is dead");
    server.restart().expect("it recovers");

    assert_eq!(server.url(), url);
    assert_ne!(server.pid(), pid);
    assert!(server.log().contains("automatic recovery in progress"), "{}", server.log());
    let rows = server.execute("postgres", "SELECT id FROM jobs").expect("the table is there");
    assert_eq!(rows, vec![vec![Some("7".to_owned())]]);
}

#[test]
fn restart_of_a_running_server_stops_it_first() {
    let mut server = Server::start().expect("it starts");
    let pid = server.pid();
    server.restart().expect("it starts again");
    assert_ne!(server.pid(), pid);
    assert!(!is_running(pid));
    server.execute("postgres", "SELECT 1").expect("it answers");
}

#[test]
fn killed_server_can_be_stopped() {
    let mut server = Server::start().expect("it starts");
    let dir = server.socket_dir().to_owned();
    server.kill();
    server.kill();
    server.stop().expect("it stops");
    assert!(!dir.exists());
}

#[test]
fn tcp_port_is_open_only_if_asked_for() {
    let server = Server::start_with(ServerOptions::default().tcp(true)).expect("it starts");
    let address = format!("127.0.0.1:{}", server.port());
    TcpStream::connect(&address).expect("it listens");
    let url = server.tcp_url_of("postgres").expect("it listens");
    assert_eq!(url, format!("postgres://postgres@{address}/postgres"));
    server.execute("postgres", "SELECT 1").expect("it also listens on the socket");

    let server = Server::start().expect("it starts");
    assert_eq!(server.tcp_url_of("postgres"), None);
    assert_eq!(setting(&server, "listen_addresses"), "");
}

#[test]
fn settings_reach_the_server() {
    let options = ServerOptions::default().setting("work_mem", "7MB").setting("fsync", "on");
    let server = Server::start_with(options).expect("it starts");
    assert_eq!(setting(&server, "work_mem"), "7MB");
    assert_eq!(setting(&server, "fsync"), "on");
    assert_eq!(setting(&server, "synchronous_commit"), "off");
    assert_eq!(setting(&server, "full_page_writes"), "off");
}

#[test]
fn failed_start_reports_the_log() {
    let options = ServerOptions::default().setting("work_mem", "plenty");
    let error = Server::start_with(options).expect_err("the setting is wrong");
    assert!(error.to_string().contains("invalid value for parameter \"work_mem\""), "{error}");
}

#[test]
fn kept_data_outlives_the_server() {
    let parent = Scratch::new("kept");
    let options = ServerOptions::default().data_dir(parent.0.join("data"));
    let server = Server::start_with(options.clone()).expect("it starts");
    assert_eq!(setting(&server, "fsync"), "on");
    server.create_database("shop").expect("is new");
    server.stop().expect("it stops");

    let server = Server::start_with(options).expect("it starts again");
    assert_eq!(server.data_dir(), parent.0.join("data"));
    assert_eq!(databases(&server, "shop"), 1);
    server.stop().expect("it stops");
    let left: Vec<_> = std::fs::read_dir(&parent.0).expect("is ours").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn files_beside_kept_data_are_not_touched() {
    let parent = Scratch::new("beside");
    let beside = [parent.0.join("data.unfinished"), parent.0.join("data.unfinished-1")];
    for dir in &beside {
        std::fs::create_dir(dir).expect("is new");
        std::fs::write(dir.join("novel"), "Chapter 1").expect("is ours");
    }
    let options = ServerOptions::default().data_dir(parent.0.join("data/"));
    Server::start_with(options).expect("it starts").stop().expect("it stops");
    assert!(beside.iter().all(|dir| dir.join("novel").exists()));
    assert_eq!(std::fs::read_dir(&parent.0).expect("is ours").count(), 3);
}

#[test]
fn nonempty_data_directory_is_refused_and_nothing_is_left_beside_it() {
    let parent = Scratch::new("full");
    let novel = parent.0.join("data/novel");
    std::fs::create_dir(parent.0.join("data")).expect("is new");
    std::fs::write(&novel, "Chapter 1").expect("is ours");
    let error = Server::start_with(ServerOptions::default().data_dir(parent.0.join("data"))).expect_err("it is full");
    assert!(error.to_string().contains("not empty"), "{error}");
    assert!(novel.exists());
    assert_eq!(std::fs::read_dir(&parent.0).expect("is ours").count(), 1);
}

#[test]
fn second_server_on_kept_data_is_refused_and_the_first_keeps_running() {
    let parent = Scratch::new("twice");
    let options = ServerOptions::default().data_dir(parent.0.join("data"));
    let mut server = Server::start_with(options.clone()).expect("it starts");
    let error = Server::start_with(options).expect_err("the data are in use");
    assert!(error.to_string().contains("already exists"), "{error}");

    server.create_database("shop").expect("it still answers");
    server.kill();
    server.restart().expect("it still recovers");
    assert_eq!(databases(&server, "shop"), 1);
}

#[test]
fn test_databases_are_separate_and_dropped() {
    let one = TestDatabase::create().expect("it is made");
    let other = TestDatabase::create().expect("it is made too");
    one.execute("CREATE TABLE jobs ()").expect("runs");
    other.execute("SELECT * FROM jobs").expect_err("the table is in the other one");
    assert_ne!(one.url(), other.url());

    let copy = TestDatabase::create_from(one.name()).expect("no session is connected");
    copy.execute("SELECT * FROM jobs").expect("the table is copied");

    let name = one.name().to_owned();
    let count = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(other.execute(&count).expect("runs"), vec![vec![Some("1".to_owned())]]);
    drop(one);
    assert_eq!(other.execute(&count).expect("runs"), vec![vec![Some("0".to_owned())]]);
}

fn databases(server: &Server, name: &str) -> usize {
    let sql = format!("SELECT 1 FROM pg_database WHERE datname = '{name}'");
    server.execute("postgres", &sql).expect("runs").len()
}

fn setting(server: &Server, name: &str) -> String {
    let rows = server.execute("postgres", &format!("SHOW {name}")).expect("there is one");
    rows[0][0].clone().expect("it is not null")
}

fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// A directory that is removed at the end of the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("pm-test-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("is new");
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If this fails, the system's temporary directory keeps the rest.
        std::fs::remove_dir_all(&self.0).ok();
    }
}
