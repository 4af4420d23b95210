//! `pm pg restore --paused` and `--into`: copies of a database while its workers run.

use crate::support::{Fixture, run};
use crate::work::{Working, await_file};
use rustix::process::Signal;
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const SCHEMAS: &str =
    "select string_agg(nspname, ' ' order by nspname) from pg_namespace where nspname !~ '^(pg_|information|public)'";

/// Returns a database with three jobs in queue `mail` and a schedule that is due, and its backup.
fn production() -> (Fixture, PathBuf) {
    let fixture = Fixture::with_queues(&["mail"]);
    (1..=3).for_each(|n| drop(fixture.add(&["mail", &n.to_string()])));
    assert_eq!(fixture.pm(&["schedule", "set", "every", "mail", "* * * * *", "9"]).status, 0);
    fixture.database.execute("update pm.schedule set next_tick = now() - interval '1 hour', missed = 1").unwrap();
    let path = fixture.home.path().join("pm.dump");
    let output = fixture.command().args(["pg", "backup"]).stdout(File::create(&path).unwrap()).output().unwrap();
    assert!(output.status.success());
    (fixture, path)
}

fn restore(fixture: &Fixture, more: &[&str], backup: &PathBuf) -> Command {
    let mut command = fixture.command();
    command.args(["pg", "restore"]).args(more).stdin(File::open(backup).unwrap());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Restores, and returns the exit code and stderr.
fn restored(fixture: &Fixture, more: &[&str], backup: &PathBuf) -> (i32, String) {
    let output = restore(fixture, more, backup).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn work(fixture: &Fixture) -> Working {
    let arguments = ["work", "mail", "--ndjson", "--", "sh", "-c", "exit 0"];
    Working::start(fixture.command().args(arguments))
}

/// Makes the command use a `pg_restore` that writes the whole script, creates the file `written`, and exits once the
/// file `go` exists.
fn use_slow_restore(fixture: &Fixture, command: &mut Command) {
    let tools = std::env::var_os("PM_PG_BINDIR").map(PathBuf::from);
    let tool = |name: &str| tools.as_ref().map_or_else(|| PathBuf::from(name), |directory| directory.join(name));
    let directory = fixture.home.path().join("slow");
    fs::create_dir_all(&directory).unwrap();
    let wait = "touch \"$HOME/written\"; while [ ! -e \"$HOME/go\" ]; do sleep 0.01; done";
    for (name, then) in [("pg_restore", wait), ("psql", "")] {
        let script = format!("#!/bin/sh\n'{}' \"$@\" || exit\n{then}\n", tool(name).display());
        fs::write(directory.join(name), script).unwrap();
        fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    command.env("PM_PG_BINDIR", directory);
}

/// Waits until the SQL returns this value.
fn await_value(fixture: &Fixture, sql: &str, wanted: &str) {
    for _ in 0..1_000 {
        if fixture.value(sql) == wanted {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{sql}: never {wanted}");
}

/// A paused copy sends no mail: its jobs wait although a worker was running before, and its schedules add no jobs.
#[test]
fn no_job_of_a_paused_copy_runs_before_its_queue_is_resumed() {
    let (_production, backup) = production();
    let target = Fixture::with_queues(&["mail"]);
    let mut working = work(&target);
    let first = target.add(&["mail", "0"]);
    assert_eq!(working.next()["id"], json!(first));
    let expected = "Restored schema \"pm\", at version 2. All queues and schedules are paused.\n";
    assert_eq!(restored(&target, &["--clean", "--paused"], &backup), (0, expected.to_owned()));
    // A worker started on the copy becomes idle; a notification makes the first worker poll again.
    let late = work(&target);
    let idle = "select count(*) from pm.queue where idle_until is not null";
    await_value(&target, idle, "1");
    let added = target.add(&["mail", "10", "--priority", "-9"]);
    assert_eq!(target.pm(&["job", "delete", &added]).status, 0);
    late.terminate();
    assert_eq!(late.end(), (0, String::new()));
    assert_eq!(target.value("select count(*) from pm.job where state = 0 and attempt = 0"), "3");
    assert_eq!(target.pm(&["db", "reap"]).status, 0, "reaping fires schedules too");
    assert_eq!(target.value("select count(*) from pm.job where queue_id = 1"), "3");
    assert_eq!(target.pm(&["schedule", "show", "every", "--json"]).json()["paused"], json!(true));
    assert_eq!(target.pm(&["queue", "resume", "mail"]).status, 0);
    (0..3).for_each(|_| assert_eq!(working.next()["result"], "finished"));
    assert_eq!(target.pm(&["schedule", "resume", "every"]).status, 0);
    assert_eq!(target.value("select next_tick > now() - interval '1 minute' from pm.schedule"), "t");
    working.terminate();
}

/// A copy is restored into another schema while a worker of the original schema runs.
#[test]
fn a_copy_is_restored_into_another_schema_while_workers_run() {
    let (fixture, backup) = production();
    assert_eq!(fixture.pm(&["schedule", "delete", "every"]).status, 0);
    let mut working = work(&fixture);
    (0..3).for_each(|_| assert_eq!(working.next()["result"], "finished"));
    let mut command = restore(&fixture, &["--into", "odd näme", "--paused"], &backup);
    use_slow_restore(&fixture, &mut command);
    let child = command.spawn().unwrap();
    await_file(&fixture.home.path().join("written"));
    let during = fixture.add(&["mail", "5"]);
    assert_eq!(working.next()["id"], json!(during));
    assert_eq!(fixture.value(SCHEMAS), "pm", "the copy is not visible before it is complete");
    fs::write(fixture.home.path().join("go"), "").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fixture.value(SCHEMAS), "odd näme pm");
    let later = fixture.add(&["mail", "6"]);
    assert_eq!(working.next()["id"], json!(later));
    assert_eq!(fixture.value("select count(*) from pm.job"), "5");
    // The copy has its own sequences, functions and triggers.
    let copy = |arguments: &[&str]| fixture.pm(&[arguments, &["--schema", "odd näme"]].concat());
    assert_eq!(copy(&["queue", "create", "film"]).status, 0);
    let added = copy(&["job", "add", "film", "1", "--key", "k"]).stdout;
    assert_eq!(copy(&["job", "next", "film", "--ack", "--json"]).json()["id"], added.trim_end());
    let second = copy(&["job", "copy", added.trim_end(), "-t", "film"]).stdout;
    assert_eq!(fixture.value("select count(*) from \"odd näme\".payload"), "1");
    for id in [added, second] {
        assert_eq!(copy(&["job", "delete", id.trim_end()]).status, 0);
    }
    assert_eq!(fixture.value("select count(*) from \"odd näme\".payload"), "0");
    assert_eq!(fixture.value("select count(*) from \"odd näme\".job where attempt = 0"), "3");
    assert_eq!(restored(&fixture, &["--into", "odd näme", "--clean"], &backup).0, 0, "it can be restored again");
    assert_eq!(fixture.value("select count(*) from \"odd näme\".queue"), "1");
    assert_eq!(fixture.value("select count(*) from \"odd näme\".queue where paused"), "0");
    assert_eq!(fixture.value("select count(*) from pm.job"), "5");
    working.terminate();
    let other = Fixture::empty();
    assert_eq!(restored(&other, &["--into", "copy", "--clean"], &backup).0, 0);
    assert_eq!(other.value(SCHEMAS), "copy");
}

#[test]
fn a_refused_restore_changes_nothing() {
    let (fixture, backup) = production();
    assert_eq!(fixture.pm(&["db", "migrate", "--schema", "copy"]).status, 0);
    fixture.database.execute("create schema others; create table public.t (id int)").unwrap();
    let before = "copy others pm";
    let check = |more: &[&str], backup: &PathBuf, status: i32, texts: &[&str]| {
        let (found, stderr) = restored(&fixture, more, backup);
        assert!(found == status && texts.iter().all(|text| stderr.contains(text)), "{more:?}: {found} {stderr}");
        assert_eq!(fixture.value(SCHEMAS), before);
        assert_eq!(fixture.value("select count(*) from pm.job"), "3");
        assert_eq!(fixture.value("select count(*) from pm.queue where paused"), "0");
    };
    for name in ["", "pg_copy", "a\"b", "information_schema", &"x".repeat(64)] {
        check(&["--into", name], &backup, 2, &["--into", "schema name"]);
    }
    check(&["--into", "copy"], &backup, 1, &["\"copy\" of the database already has pm's tables", "--clean"]);
    check(&["--into", "new", "--schema", "x"], &fixture.home.path().to_owned(), 3, &["nothing was changed"]);
    let foreign = fixture.home.path().join("foreign.dump");
    let dump = |what: &str| {
        let url = fixture.database.url();
        let mut command = Command::new("pg_dump");
        let output = command.args(["--format=custom", what, &format!("--dbname={url}")]).output().unwrap();
        assert!(output.status.success());
        fs::write(&foreign, output.stdout).unwrap();
    };
    dump("--table=public.t");
    check(&["--into", "new", "--paused"], &foreign, 1, &["no schema of pm", "pm pg backup"]);
    dump("--schema=others");
    check(&["--into", "new", "--paused"], &foreign, 3, &["\"others\" of the backup does not contain pm's tables"]);
    check(&["--paused", "--schema", "new"], &foreign, 1, &["of schema \"others\", not \"new\"", "--into 'new'"]);
}

/// A restore replaces pm's tables, and no other tables of the same schema.
#[test]
fn other_tables_in_the_schema_are_not_replaced() {
    let (fixture, backup) = production();
    fixture.database.execute("create table pm.orders (id int); insert into pm.orders values (1)").unwrap();
    assert_eq!(restored(&fixture, &["--clean"], &backup).0, 0, "the backup contains only pm's tables");
    assert_eq!(fixture.value("select count(*) from pm.orders"), "1");
    let path = fixture.home.path().join("pm.dump");
    let output = fixture.command().args(["pg", "backup"]).stdout(File::create(&path).unwrap()).output().unwrap();
    assert!(output.status.success());
    fixture.database.execute("insert into pm.orders values (2)").unwrap();
    let (status, stderr) = restored(&fixture, &["--clean"], &path);
    assert_eq!(status, 3, "{stderr}");
    let texts = ["relation \"orders\" already exists", "nothing was changed", "which a restore does not replace"];
    assert!(texts.iter().all(|text| stderr.contains(text)), "{stderr}");
    assert_eq!(fixture.value("select count(*) from pm.orders"), "2");
    assert_eq!(fixture.value("select count(*) from pm.queue"), "1");
    assert_eq!(fixture.value("select count(*) from pm.job"), "3");
}

#[test]
fn tables_that_only_have_the_names_of_pms_are_not_dropped() {
    let (_fixture, backup) = production();
    let target = Fixture::empty();
    let theirs = "create schema app; create table app.job (id int); insert into app.job values (1); \
                  create table app.migration (version int); \
                  create function app.insert_job(int) returns int language sql as 'select 1'";
    target.database.execute(theirs).unwrap();
    let (status, stderr) = restored(&target, &["--clean", "--into", "app"], &backup);
    assert!(status == 3 && stderr.contains("already exists") && stderr.contains("nothing was changed"), "{stderr}");
    assert_eq!(target.value("select sum(id) + app.insert_job(1) from app.job"), "2");
}

/// An administrator has created the schema, for a role that may not create schemas; or it is `public`.
#[test]
fn a_role_that_may_not_create_schemas_restores_into_an_existing_one() {
    let (_production, backup) = production();
    for (schema, more, before) in [
        ("pm", &[][..], "create schema pm authorization modest"),
        ("pm", &["--clean"], "grant usage on schema pm to public"),
        ("100%", &["--into", "100%"], "create schema \"100%\"; create table \"100%\".t (id int)"),
        ("public", &["--into", "public"], "create table public.t (id int); comment on schema public is 'ours'"),
    ] {
        let target = Fixture::empty();
        let name = target.database.name();
        let as_limited =
            format!("{}?options=-c%20role%3Dmodest_{name}", target.database.url().split('?').next().unwrap());
        let sql = before.replace("modest", &format!("modest_{name}"));
        target.database.execute(&format!("create role modest_{name}")).unwrap();
        if more == ["--clean"] {
            target.database.execute(&format!("create schema pm authorization modest_{name}")).unwrap();
            assert_eq!(restored(&target, &["--db", &as_limited], &backup).0, 0);
        }
        target.database.execute(&sql).unwrap();
        let url = if schema == "pm" { as_limited } else { target.database.url() };
        let (status, stderr) = restored(&target, &[more, &["--db", &url]].concat(), &backup);
        assert_eq!(status, 0, "{schema}: {stderr}");
        assert_eq!(target.value(&format!("select count(*) from \"{schema}\".job")), "3");
        if more == ["--clean"] {
            let may_use = "select has_schema_privilege('public', 'pm', 'usage')";
            assert_eq!(target.value(may_use), "t", "the schema is the same as before, with its grants");
        }
        if schema == "public" {
            let dump = target.home.path().join("public.dump");
            let mut command = target.command();
            command.args(["pg", "backup", "--schema", "public"]).stdout(File::create(&dump).unwrap());
            assert!(command.status().unwrap().success());
            let other = Fixture::empty();
            assert_eq!(
                restored(&other, &["--schema", "public"], &dump),
                (0, "Restored schema \"public\", at version 2.\n".to_owned())
            );
        }
    }
}

/// A restore that is interrupted, or whose pg_restore fails at the end, changes nothing.
#[test]
fn an_unfinished_restore_changes_nothing() {
    let (fixture, backup) = production();
    for fails in [false, true] {
        for name in ["written", "go"] {
            fs::remove_file(fixture.home.path().join(name)).ok();
        }
        let mut command = restore(&fixture, &["--into", "copy", "--paused"], &backup);
        use_slow_restore(&fixture, &mut command);
        if fails {
            let path = fixture.home.path().join("slow/pg_restore");
            let script = fs::read_to_string(&path).unwrap();
            fs::write(&path, format!("{script}echo 'pg_restore: error: disk' >&2; exit 1\n")).unwrap();
            fs::write(fixture.home.path().join("go"), "").unwrap();
        }
        let child = command.spawn().unwrap();
        await_file(&fixture.home.path().join("written"));
        if !fails {
            rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let (status, message) = if fails {
            (3, "pg_restore: error: disk\nnothing was changed")
        } else {
            (1, "interrupted; nothing was changed")
        };
        assert!(output.status.code() == Some(status) && stderr.contains(message), "{stderr}");
        assert_eq!(fixture.value(SCHEMAS), "pm");
        assert_eq!(fixture.value("select count(*) from pm.queue where paused"), "0");
    }
    let ran = run(fixture.command().args(["pg", "restore", "--clean", "--paused"]), b"no archive at all");
    ran.assert_refused(3, &["pg_restore: error", "nothing was changed", "pm pg backup"]);
    assert_eq!(fixture.value("select count(*) from pm.queue where paused"), "0");
}
