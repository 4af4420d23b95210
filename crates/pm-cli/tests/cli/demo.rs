//! `pm demo`

use crate::support::{Home, Place, run};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The story takes three seconds; a busy machine may need more.
const LONGEST: Duration = Duration::from_secs(10);

#[track_caller]
fn assert_told(stdout: &str) {
    for word in [
        "priority 100",
        "is at work, as process",
        "is killed by signal 9",
        "its lease ends in",
        "nobody at home",
        "no such address",
        "That is the rescue",
        "6 are finished and 1 failed",
        "$ pm queue ls\nQUEUE ",
        "$ pm job ls\nID ",
        "$ pm job show ",
        "    ending: reap\n",
        "    reason: lease expired\n",
        "  fate: courier_dies\n",
    ] {
        assert!(stdout.contains(word), "{word:?} is missing in:\n{stdout}");
    }
}

/// Asserts that everyone who works in the database leaves it soon.
#[track_caller]
fn assert_nobody_is_connected(place: &Place) {
    let others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    let begin = Instant::now();
    while place.value(others) != "0" {
        assert!(begin.elapsed() < LONGEST, "workers are still there");
        std::thread::yield_now();
    }
}

#[test]
fn the_demo_tells_its_story_on_a_server_of_its_own() {
    let home = Home::new();
    let begin = Instant::now();
    // A database that is named elsewhere is left alone.
    let mut command = home.command();
    let ran = run(command.args(["demo"]).env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nowhere"), b"");
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
    assert_told(&ran.stdout);
    assert!(begin.elapsed() < LONGEST, "{:?}", begin.elapsed());
}

#[test]
fn the_demo_leaves_a_database_as_it_found_it() {
    let place = Place::with_queues(&["mail"]);
    let id = place.add(&["mail", "1"]);
    let schemas = "select string_agg(nspname, ',' order by nspname) from pg_namespace where nspname !~ '^pg_'";
    let before = place.value(schemas);
    let url = place.database.url();
    let ran = run(place.home.command().args(["demo", "--db", &url]), b"");
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
    assert_told(&ran.stdout);
    assert_eq!(place.value(schemas), before);
    assert_eq!(place.value("select id || ' ' || state from pm.job"), format!("{id} 0"));
    assert_eq!(place.value("select count(*) from pm.queue"), "1");
}

#[test]
fn an_interrupted_demo_cleans_up() {
    let place = Place::empty();
    let url = place.database.url();
    let mut command = place.home.command();
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
    assert!(stderr.contains("stopped before the end"), "{stderr}");
    assert_eq!(place.value("select count(*) from pg_namespace where nspname like 'pm_demo%'"), "0");
    assert_nobody_is_connected(&place);
}

#[test]
fn workers_do_not_outlive_a_demo_that_was_killed() {
    let place = Place::empty();
    let url = place.database.url();
    let mut child = place.home.command().args(["demo", "--db", &url]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let at_work = lines.by_ref().map(Result::unwrap).filter(|line| line.contains("is at work"));
    assert_eq!(at_work.take(3).count(), 3);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_nobody_is_connected(&place);
}

#[test]
fn a_machine_without_postgres_is_told_how_to_get_one() {
    let home = Home::new();
    let mut command = home.command();
    let ran = run(command.args(["demo"]).env("PM_PG_BINDIR", home.path()), b"");
    ran.assert_refused(3, &["holds no initdb and postgres"]);
}

#[test]
fn the_demo_refuses_what_it_cannot_do() {
    let home = Home::new();
    run(home.command().args(["demo", "--json"]), b"").assert_refused(2, &["for people"]);
    run(home.command().args(["demo", "--schema", "pm"]), b"").assert_refused(2, &["schema of its own"]);
    run(home.command().args(["demo", "--db", "nonsense"]), b"").assert_refused(2, &["--db"]);
}
