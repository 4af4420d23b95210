//! `pm pg restore --paused` and `--into`: copies of a database beside its workers.

use crate::support::{Place, run};
use crate::work::{Working, await_file};
use rustix::process::Signal;
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const SCHEMAS: &str =
    "select string_agg(nspname, ' ' order by nspname) from pg_namespace where nspname !~ '^(pg_|information|public)'";

/// Returns a database with three jobs in queue `mail` and a schedule that is always due, and its backup.
fn production() -> (Place, PathBuf) {
    let place = Place::with_queues(&["mail"]);
    (1..=3).for_each(|n| drop(place.add(&["mail", &n.to_string()])));
    assert_eq!(place.pm(&["schedule", "set", "every", "mail", "* * * * *", "9"]).status, 0);
    place.database.execute("update pm.schedule set next_tick = now() - interval '1 hour', missed = 1").unwrap();
    let path = place.home.path().join("pm.dump");
    let output = place.command().args(["pg", "backup"]).stdout(File::create(&path).unwrap()).output().unwrap();
    assert!(output.status.success());
    (place, path)
}

fn restore(place: &Place, more: &[&str], backup: &PathBuf) -> Command {
    let mut command = place.command();
    command.args(["pg", "restore"]).args(more).stdin(File::open(backup).unwrap());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Restores, and returns the exit code and what it said.
fn restored(place: &Place, more: &[&str], backup: &PathBuf) -> (i32, String) {
    let output = restore(place, more, backup).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn work(place: &Place) -> Working {
    let arguments = ["work", "mail", "--ndjson", "--", "sh", "-c", "exit 0"];
    Working::start(place.command().args(arguments))
}

/// Makes a `pg_restore` that writes the whole script, says so with the file `written`, and ends when there is `go`.
fn slow(place: &Place, command: &mut Command) {
    let tools = std::env::var_os("PM_PG_BINDIR").map(PathBuf::from);
    let tool = |name: &str| tools.as_ref().map_or_else(|| PathBuf::from(name), |directory| directory.join(name));
    let directory = place.home.path().join("slow");
    fs::create_dir_all(&directory).unwrap();
    let wait = "touch \"$HOME/written\"; while [ ! -e \"$HOME/go\" ]; do sleep 0.01; done";
    for (name, then) in [("pg_restore", wait), ("psql", "")] {
        let script = format!("#!/bin/sh\n'{}' \"$@\" || exit\n{then}\n", tool(name).display());
        fs::write(directory.join(name), script).unwrap();
        fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    command.env("PM_PG_BINDIR", directory);
}

/// Waits until the SQL finds this value.
fn await_value(place: &Place, sql: &str, wanted: &str) {
    for _ in 0..1_000 {
        if place.value(sql) == wanted {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{sql}: never {wanted}");
}

/// A copy sends no mail: its jobs wait although a worker was there before it, and its schedules make none.
#[test]
fn no_job_of_a_paused_copy_runs_before_its_queue_is_resumed() {
    let (_production, backup) = production();
    let target = Place::with_queues(&["mail"]);
    let mut working = work(&target);
    let first = target.add(&["mail", "0"]);
    assert_eq!(working.next()["id"], json!(first));
    let said = "Restored schema \"pm\", at version 2. All queues and schedules are paused.\n";
    assert_eq!(restored(&target, &["--clean", "--paused"], &backup), (0, said.to_owned()));
    // A worker that finds the copy goes to sleep over it; the first one is woken to look again.
    let late = work(&target);
    let asleep = "select count(*) from pm.queue where idle_until is not null";
    await_value(&target, asleep, "1");
    let wake = target.add(&["mail", "10", "--priority", "-9"]);
    assert_eq!(target.pm(&["job", "delete", &wake]).status, 0);
    late.terminate();
    assert_eq!(late.end(), (0, String::new()));
    assert_eq!(target.value("select count(*) from pm.job where state = 0 and attempt = 0"), "3");
    assert_eq!(target.pm(&["db", "reap"]).status, 0, "it fires schedules too");
    assert_eq!(target.value("select count(*) from pm.job where queue_id = 1"), "3");
    assert_eq!(target.pm(&["schedule", "show", "every", "--json"]).json()["paused"], json!(true));
    assert_eq!(target.pm(&["queue", "resume", "mail"]).status, 0);
    (0..3).for_each(|_| assert_eq!(working.next()["result"], "finished"));
    assert_eq!(target.pm(&["schedule", "resume", "every"]).status, 0);
    assert_eq!(target.value("select next_tick > now() - interval '1 minute' from pm.schedule"), "t");
    working.terminate();
}

/// A copy under another name comes beside the schema it was made of, whose worker goes on meanwhile.
#[test]
fn a_copy_takes_another_name_beside_live_workers() {
    let (place, backup) = production();
    assert_eq!(place.pm(&["schedule", "delete", "every"]).status, 0);
    let mut working = work(&place);
    (0..3).for_each(|_| assert_eq!(working.next()["result"], "finished"));
    let mut command = restore(&place, &["--into", "odd näme", "--paused"], &backup);
    slow(&place, &mut command);
    let child = command.spawn().unwrap();
    await_file(&place.home.path().join("written"));
    let meanwhile = place.add(&["mail", "5"]);
    assert_eq!(working.next()["id"], json!(meanwhile));
    assert_eq!(place.value(SCHEMAS), "pm", "nothing is to be seen before it is whole");
    fs::write(place.home.path().join("go"), "").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(place.value(SCHEMAS), "odd näme pm");
    let later = place.add(&["mail", "6"]);
    assert_eq!(working.next()["id"], json!(later));
    assert_eq!(place.value("select count(*) from pm.job"), "5");
    // The copy's sequences, functions and triggers are its own.
    let copy = |arguments: &[&str]| place.pm(&[arguments, &["--schema", "odd näme"]].concat());
    assert_eq!(copy(&["queue", "create", "film"]).status, 0);
    let added = copy(&["job", "add", "film", "1", "--key", "k"]).stdout;
    assert_eq!(copy(&["job", "next", "film", "--ack", "--json"]).json()["id"], added.trim_end());
    let second = copy(&["job", "copy", added.trim_end(), "-t", "film"]).stdout;
    assert_eq!(place.value("select count(*) from \"odd näme\".payload"), "1");
    for id in [added, second] {
        assert_eq!(copy(&["job", "delete", id.trim_end()]).status, 0);
    }
    assert_eq!(place.value("select count(*) from \"odd näme\".payload"), "0");
    assert_eq!(place.value("select count(*) from \"odd näme\".job where attempt = 0"), "3");
    assert_eq!(restored(&place, &["--into", "odd näme", "--clean"], &backup).0, 0, "it is restored once more");
    assert_eq!(place.value("select count(*) from \"odd näme\".queue"), "1");
    assert_eq!(place.value("select count(*) from \"odd näme\".queue where paused"), "0");
    assert_eq!(place.value("select count(*) from pm.job"), "5");
    working.terminate();
    let elsewhere = Place::empty();
    assert_eq!(restored(&elsewhere, &["--into", "copy", "--clean"], &backup).0, 0);
    assert_eq!(elsewhere.value(SCHEMAS), "copy");
}

#[test]
fn what_cannot_take_the_name_changes_nothing() {
    let (place, backup) = production();
    assert_eq!(place.pm(&["db", "migrate", "--schema", "copy"]).status, 0);
    place.database.execute("create schema others; create table public.t (id int)").unwrap();
    let before = "copy others pm";
    let check = |more: &[&str], backup: &PathBuf, status: i32, words: &[&str]| {
        let (found, stderr) = restored(&place, more, backup);
        assert!(found == status && words.iter().all(|words| stderr.contains(words)), "{more:?}: {found} {stderr}");
        assert_eq!(place.value(SCHEMAS), before);
        assert_eq!(place.value("select count(*) from pm.job"), "3");
        assert_eq!(place.value("select count(*) from pm.queue where paused"), "0");
    };
    for name in ["", "pg_copy", "a\"b", "information_schema", &"x".repeat(64)] {
        check(&["--into", name], &backup, 2, &["--into", "schema name"]);
    }
    check(&["--into", "copy"], &backup, 1, &["\"copy\" of that database has pm's tables already", "--clean"]);
    check(&["--into", "new", "--schema", "x"], &place.home.path().to_owned(), 3, &["nothing was changed"]);
    let foreign = place.home.path().join("foreign.dump");
    let dump = |what: &str| {
        let url = place.database.url();
        let mut command = Command::new("pg_dump");
        let output = command.args(["--format=custom", what, &format!("--dbname={url}")]).output().unwrap();
        assert!(output.status.success());
        fs::write(&foreign, output.stdout).unwrap();
    };
    dump("--table=public.t");
    check(&["--into", "new", "--paused"], &foreign, 1, &["no schema that may hold pm's tables", "pm pg backup"]);
    dump("--schema=others");
    check(&["--into", "new", "--paused"], &foreign, 3, &["\"others\" of the backup has none of pm's tables"]);
    check(&["--paused", "--schema", "new"], &foreign, 1, &["\"new\" but in \"others\"", "--into 'new'"]);
}

/// Guards: a restore replaces pm's tables, and no others that live in the same schema.
#[test]
fn tables_of_others_in_the_schema_are_not_put_back_to_what_they_were() {
    let (place, backup) = production();
    place.database.execute("create table pm.orders (id int); insert into pm.orders values (1)").unwrap();
    assert_eq!(restored(&place, &["--clean"], &backup).0, 0, "the backup holds pm's tables alone");
    assert_eq!(place.value("select count(*) from pm.orders"), "1");
    let path = place.home.path().join("pm.dump");
    let output = place.command().args(["pg", "backup"]).stdout(File::create(&path).unwrap()).output().unwrap();
    assert!(output.status.success());
    place.database.execute("insert into pm.orders values (2)").unwrap();
    let (status, stderr) = restored(&place, &["--clean"], &path);
    assert_eq!(status, 3, "{stderr}");
    let words = ["relation \"orders\" already exists", "nothing was changed", "which a restore does not replace"];
    assert!(words.iter().all(|words| stderr.contains(words)), "{stderr}");
    assert_eq!(place.value("select count(*) from pm.orders"), "2");
    assert_eq!(place.value("select count(*) from pm.queue"), "1");
    assert_eq!(place.value("select count(*) from pm.job"), "3");
}

/// An administrator makes the schema for a role that may make none, and whose own it is; or it is `public`.
#[test]
fn a_restore_fills_a_schema_that_is_there_as_a_role_that_may_not_create_one() {
    let (_place, backup) = production();
    for (schema, more, before) in [
        ("pm", &[][..], "create schema pm authorization modest"),
        ("pm", &["--clean"], "grant usage on schema pm to public"),
        ("100%", &["--into", "100%"], "create schema \"100%\"; create table \"100%\".t (id int)"),
        ("public", &["--into", "public"], "create table public.t (id int); comment on schema public is 'ours'"),
    ] {
        let target = Place::empty();
        let name = target.database.name();
        let as_modest =
            format!("{}?options=-c%20role%3Dmodest_{name}", target.database.url().split('?').next().unwrap());
        let sql = before.replace("modest", &format!("modest_{name}"));
        target.database.execute(&format!("create role modest_{name}")).unwrap();
        if more == ["--clean"] {
            target.database.execute(&format!("create schema pm authorization modest_{name}")).unwrap();
            assert_eq!(restored(&target, &["--db", &as_modest], &backup).0, 0);
        }
        target.database.execute(&sql).unwrap();
        let as_who = if schema == "pm" { as_modest } else { target.database.url() };
        let (status, stderr) = restored(&target, &[more, &["--db", &as_who]].concat(), &backup);
        assert_eq!(status, 0, "{schema}: {stderr}");
        assert_eq!(target.value(&format!("select count(*) from \"{schema}\".job")), "3");
        if more == ["--clean"] {
            let may_use = "select has_schema_privilege('public', 'pm', 'usage')";
            assert_eq!(target.value(may_use), "t", "the schema is the same as before, with what was granted on it");
        }
        if schema == "public" {
            let dump = target.home.path().join("public.dump");
            let mut command = target.command();
            command.args(["pg", "backup", "--schema", "public"]).stdout(File::create(&dump).unwrap());
            assert!(command.status().unwrap().success());
            let other = Place::empty();
            assert_eq!(
                restored(&other, &["--schema", "public"], &dump),
                (0, "Restored schema \"public\", at version 2.\n".to_owned())
            );
        }
    }
}

/// One that is asked to stop, or whose pg_restore fails at the end, leaves all as it was.
#[test]
fn an_unfinished_restore_changes_nothing() {
    let (place, backup) = production();
    for fails in [false, true] {
        for name in ["written", "go"] {
            fs::remove_file(place.home.path().join(name)).ok();
        }
        let mut command = restore(&place, &["--into", "copy", "--paused"], &backup);
        slow(&place, &mut command);
        if fails {
            let path = place.home.path().join("slow/pg_restore");
            let script = fs::read_to_string(&path).unwrap();
            fs::write(&path, format!("{script}echo 'pg_restore: error: disk' >&2; exit 1\n")).unwrap();
            fs::write(place.home.path().join("go"), "").unwrap();
        }
        let child = command.spawn().unwrap();
        await_file(&place.home.path().join("written"));
        if !fails {
            rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let (status, words) = if fails {
            (3, "pg_restore: error: disk\nnothing was changed")
        } else {
            (1, "stopped; nothing was changed")
        };
        assert!(output.status.code() == Some(status) && stderr.contains(words), "{stderr}");
        assert_eq!(place.value(SCHEMAS), "pm");
        assert_eq!(place.value("select count(*) from pm.queue where paused"), "0");
    }
    let ran = run(place.command().args(["pg", "restore", "--clean", "--paused"]), b"no archive at all");
    ran.assert_refused(3, &["pg_restore: error", "nothing was changed", "pm pg backup"]);
    assert_eq!(place.value("select count(*) from pm.queue where paused"), "0");
}
