//! Servers that cannot be reached, closed outputs, and passwords in messages.

use crate::support::{Fixture, Home, run};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// Returns a port of this machine on which no process listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_server_that_is_down_is_reported_within_5_s_without_the_password() {
    let home = Home::new();
    let port = closed_port();
    let url = format!("postgres://ada:hunter2@127.0.0.1:{port}/app");
    let address = format!("127.0.0.1:{port}");
    for arguments in [&["queue", "ls"][..], &["job", "add", "mail", "1"], &["db", "migrate"], &["demo"]] {
        let begin = Instant::now();
        let ran = run(home.command().args(arguments).args(["--db", &url]), b"");
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        assert_eq!(ran.status, 3, "{}", ran.stderr);
        assert!(ran.stderr.contains(&address), "{}", ran.stderr);
        assert!(!ran.stderr.contains("hunter2") && !ran.stdout.contains("hunter2"));
    }
}

#[test]
fn a_server_that_does_not_respond_times_out() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let begin = Instant::now();
    let url = format!("postgres://ada:hunter2@{address}/app");
    let ran = run(home.command().args(["queue", "ls", "--db", &url, "--connect-timeout", "300ms"]), b"");
    ran.assert_refused(3, &[&address]);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert!(!ran.stderr.contains("hunter2"));
}

#[test]
fn a_missing_database_is_reported() {
    let fixture = Fixture::empty();
    let url = fixture.database.url().replace(fixture.database.name(), "no_such_database");
    let ran = run(fixture.home.command().args(["queue", "ls", "--db", &url]), b"");
    ran.assert_refused(3, &["database \"no_such_database\" does not exist"]);
}

#[test]
fn the_password_of_a_misplaced_url_is_hidden() {
    let home = Home::new();
    let ran = run(home.command().args(["queue", "ls", "postgres://ada:hunter2@db/app"]), b"");
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("ada:***@db/app") && !ran.stderr.contains("hunter2"), "{}", ran.stderr);
}

#[test]
fn a_closed_pipe_is_a_success() {
    let fixture = Fixture::with_queues(&["mail"]);
    let lines = "1\n".repeat(3_000);
    assert_eq!(fixture.pm_reading(&["job", "add", "mail", "--batch"], lines.as_bytes()).status, 0);
    for arguments in [&["job", "ls", "-l", "3000"][..], &["queue", "ls"], &["db", "migrate", "--print"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = fixture.command().args(arguments).stdout(writer).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_closed_pipe_does_not_interrupt_changes() {
    const JOBS: usize = 3_000;
    let fixture = Fixture::with_queues(&["mail"]);
    let lines = fixture.home.path().join("lines");
    std::fs::write(&lines, "1\n".repeat(JOBS)).unwrap();
    let jobs = || fixture.value("select count(*) from pm.job");
    let with_closed_pipe = |arguments: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = fixture.command().args(arguments).stdout(writer).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let added = with_closed_pipe(&["job", "add", "mail", "--batch", "--file", lines.to_str().unwrap()]);
    assert_eq!(added, (Some(0), "Added 3000 jobs.\n".to_owned()));
    assert_eq!(jobs(), JOBS.to_string());
    assert_eq!(with_closed_pipe(&["job", "delete", "--queue", "mail", "--yes", "--ndjson"]), (Some(0), String::new()));
    assert_eq!(jobs(), "0");
}

/// Runs `pm` with a stdout on a full disk.
fn on_a_full_disk(fixture: &Fixture, arguments: &[&str]) -> (Option<i32>, String) {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = fixture.command().args(arguments).stdout(full).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn added_jobs_are_reported_when_their_ids_cannot_be_written() {
    let fixture = Fixture::with_queues(&["mail"]);
    let (status, stderr) = on_a_full_disk(&fixture, &["job", "add", "mail", "1"]);
    assert_eq!(status, Some(3));
    let id = fixture.value("select id from pm.job");
    assert!(stderr.contains("cannot write the results") && stderr.contains(&id), "{stderr}");

    let lines = fixture.home.path().join("lines");
    std::fs::write(&lines, "1\n".repeat(2_500)).unwrap();
    for (format, expected) in [("--ndjson", 1_000), ("--json", 2_500)] {
        fixture.database.execute("delete from pm.job").unwrap();
        let arguments = ["job", "add", "mail", "--batch", format, "--file", lines.to_str().unwrap()];
        let (status, stderr) = on_a_full_disk(&fixture, &arguments);
        assert_eq!(status, Some(3));
        assert_eq!(fixture.value("select count(*) from pm.job"), expected.to_string());
        assert!(stderr.contains(&format!("up to {expected} were added: {expected} jobs\n")), "{stderr}");
    }
}

#[test]
fn a_batch_that_the_database_refuses_reports_what_was_added() {
    let fixture = Fixture::with_queues(&["mail"]);
    let refuse = "create function refuse() returns trigger language plpgsql as $$begin raise 'no more'; end$$;
        create trigger refuse before insert on pm.job for each row
        when (new.payload = convert_to('\"bad\"', 'utf8')) execute function refuse()";
    fixture.database.execute(refuse).unwrap();
    let lines = "1\n".repeat(1_200) + "\"bad\"\n" + "1\n";
    for format in ["--ndjson", "--json"] {
        let ran = fixture.pm_reading(&["job", "add", "mail", "--batch", format], lines.as_bytes());
        assert_eq!(ran.status, 3, "{}", ran.stderr);
        assert!(
            ran.stderr.contains("the lines up to 1000 were added: 1000 jobs; some lines up to 1202"),
            "{}",
            ran.stderr
        );
        assert_eq!(ran.stdout.matches("\"id\"").count(), 1_000);
    }
    fixture
        .pm_reading(&["job", "add", "male", "--batch"], b"1")
        .assert_refused(1, &["not found", "no job was added\n"]);
}
