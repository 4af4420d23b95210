//! `pm demo`

use crate::support::{Fixture, Home, run};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The demo takes three seconds; a busy machine may need more.
const TIMEOUT: Duration = Duration::from_secs(10);

#[track_caller]
fn assert_complete(stdout: &str) {
    for text in [
        "priority 100",
        "started as process",
        "is killed by signal 9",
        "its lease expires in",
        "nobody at home",
        "no such address",
        "The job was reaped",
        "6 are finished and 1 failed",
        "$ pm queue ls\nQUEUE ",
        "$ pm job ls\nID ",
        "$ pm job show ",
        "    ending: lease expired\n",
        "    reason: lease expired\n",
        "  fate: courier_dies\n",
    ] {
        assert!(stdout.contains(text), "{text:?} is missing in:\n{stdout}");
    }
}

/// Asserts that all connections to the database are closed soon.
#[track_caller]
fn assert_disconnected(fixture: &Fixture) {
    let others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    let begin = Instant::now();
    while fixture.value(others) != "0" {
        assert!(begin.elapsed() < TIMEOUT, "workers are still connected");
        std::thread::yield_now();
    }
}

#[test]
fn the_demo_runs_on_a_private_server() {
    let home = Home::new();
    let begin = Instant::now();
    // The database of the environment is ignored.
    let mut command = home.command();
    let ran = run(command.args(["demo"]).env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nowhere"), b"");
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
    assert_complete(&ran.stdout);
    assert!(begin.elapsed() < TIMEOUT, "{:?}", begin.elapsed());
}

#[test]
fn the_demo_leaves_no_traces_in_a_database() {
    let fixture = Fixture::with_queues(&["mail"]);
    let id = fixture.add(&["mail", "1"]);
    let schemas = "select string_agg(nspname, ',' order by nspname) from pg_namespace where nspname !~ '^pg_'";
    let before = fixture.value(schemas);
    let url = fixture.database.url();
    let ran = run(fixture.home.command().args(["demo", "--db", &url]), b"");
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
    assert_complete(&ran.stdout);
    assert_eq!(fixture.value(schemas), before);
    assert_eq!(fixture.value("select id || ' ' || state from pm.job"), format!("{id} 0"));
    assert_eq!(fixture.value("select count(*) from pm.queue"), "1");
}

#[test]
fn an_interrupted_demo_cleans_up() {
    let fixture = Fixture::empty();
    let url = fixture.database.url();
    let mut command = fixture.home.command();
    let command = command.args(["demo", "--db", &url]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let killed = lines.by_ref().map(Result::unwrap).find(|line| line.contains("is killed"));
    assert!(killed.is_some());
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    drop(lines);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("interrupted"), "{stderr}");
    assert_eq!(fixture.value("select count(*) from pg_namespace where nspname like 'pm_demo%'"), "0");
    assert_disconnected(&fixture);
}

#[test]
fn workers_do_not_outlive_a_demo_that_was_killed() {
    let fixture = Fixture::empty();
    let url = fixture.database.url();
    let mut child = fixture.home.command().args(["demo", "--db", &url]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let started = lines.by_ref().map(Result::unwrap).filter(|line| line.contains("started as process"));
    assert_eq!(started.take(3).count(), 3);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_disconnected(&fixture);
}

#[test]
fn without_postgres_the_demo_is_refused() {
    let home = Home::new();
    let mut command = home.command();
    let ran = run(command.args(["demo"]).env("PM_PG_BINDIR", home.path()), b"");
    ran.assert_refused(3, &["holds no initdb and postgres"]);
}

#[test]
fn unsupported_options_are_refused() {
    let home = Home::new();
    run(home.command().args(["demo", "--json"]), b"").assert_refused(2, &["no JSON output"]);
    run(home.command().args(["demo", "--schema", "pm"]), b"").assert_refused(2, &["its own schema"]);
    run(home.command().args(["demo", "--db", "nonsense"]), b"").assert_refused(2, &["--db"]);
}
