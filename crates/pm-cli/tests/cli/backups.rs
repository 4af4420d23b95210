//! `pm pg backup` and `pm pg restore`

use crate::support::{Fixture, run, run_on_terminal};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Writes a backup and returns its path.
fn backup(fixture: &Fixture) -> PathBuf {
    let path = fixture.home.path().join("pm.dump");
    let output = fixture.command().args(["pg", "backup"]).stdout(File::create(&path).unwrap()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
    path
}

/// Creates a directory with a shell script of this name.
fn fake(fixture: &Fixture, name: &str, script: &str) -> PathBuf {
    let directory = fixture.home.path().join("bin");
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// Returns the database's URL with a password, which the server does not check.
fn url_with_password(fixture: &Fixture) -> String {
    let url = fixture.database.url();
    let (user, rest) = url.split_once('@').unwrap();
    let user = user.rsplit_once("//").map(|(_, user)| user.split(':').next().unwrap()).unwrap();
    format!("postgres://{user}:hunter2@{rest}")
}

#[test]
fn a_backup_is_restored_into_another_database_byte_for_byte() {
    let fixture = Fixture::with_queues(&["mail", "film"]);
    let bytes: Vec<u8> = (0..10_485_760u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let file = fixture.home.path().join("payload");
    std::fs::write(&file, &bytes).unwrap();
    let id = &*fixture.add(&["mail", "--file", file.to_str().unwrap(), "--codec", "raw"]);
    assert!(fixture.pm(&["job", "show", id]).stdout.contains("<10485760 bytes>"));
    let copy = fixture.pm(&["job", "copy", id, "-t", "film"]).stdout;
    fixture.database.execute("vacuum full pm.job").unwrap();
    let sizes = "select pg_total_relation_size('pm.job') + pg_total_relation_size('pm.payload')
                   < (select 1.5 * sum(pg_column_size(data)) from pm.payload)";
    assert_eq!(fixture.value(sizes), "t", "the payload is stored once");
    fixture.add(&["mail", "{}", "--key", "k", "--description", "d"]);
    assert_eq!(fixture.pm(&["schedule", "set", "nightly", "mail", "@daily", "7"]).status, 0);
    let path = backup(&fixture);
    let target = Fixture::empty();
    let restored = run_with(&target, &["pg", "restore"], &path);
    assert_eq!(restored, (0, "Restored schema \"pm\", at version 2.\n".to_owned()));
    for id in [id, copy.trim_end()] {
        let output = target.command().args(["job", "get", ".", id]).output().unwrap();
        assert!(output.status.success() && output.stdout == bytes, "{} bytes", output.stdout.len());
    }
    let list = |fixture: &Fixture| {
        let mut jobs = fixture.pm(&["job", "ls", "--json"]).json();
        jobs.as_array_mut().unwrap().iter_mut().for_each(|job| drop(job.as_object_mut().unwrap().remove("read_at")));
        jobs
    };
    assert_eq!(list(&target), list(&fixture));
    assert_eq!(target.pm(&["queue", "ls"]), fixture.pm(&["queue", "ls"]));
    let schedules = |fixture: &Fixture| fixture.pm(&["schedule", "ls", "--json"]).json();
    assert_eq!(schedules(&target), schedules(&fixture));
    let taken = target.pm(&["job", "next", "mail", "--ack", "--json"]).json();
    assert_eq!(taken["id"], id, "jobs can be claimed");
    assert_eq!(target.pm(&["schedule", "set", "other", "mail", "@daily"]).status, 0);
    assert_eq!(target.pm(&["job", "add", "mail", "1"]).status, 0, "sequences continue");
}

#[test]
fn a_backup_writes_nothing() {
    let fixture = Fixture::with_queues(&["mail"]);
    let name = fixture.database.name();
    fixture.database.execute(&format!("alter database \"{name}\" set default_transaction_read_only = on")).unwrap();
    assert!(backup(&fixture).metadata().unwrap().len() > 0);
}

/// Runs pm with the file on stdin; returns status and stderr.
fn run_with(fixture: &Fixture, arguments: &[&str], stdin: &Path) -> (i32, String) {
    let output = fixture.command().args(arguments).stdin(File::open(stdin).unwrap()).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_database_with_tables_is_refused_without_clean() {
    let fixture = Fixture::with_queues(&["mail"]);
    let id = fixture.add(&["mail", "1"]);
    let path = backup(&fixture);
    let later = fixture.add(&["mail", "2"]);
    let (status, stderr) = run_with(&fixture, &["pg", "restore"], &path);
    assert!(status == 1 && stderr.contains("already has pm's tables") && stderr.contains("--clean"), "{stderr}");
    assert_eq!(fixture.value("select count(*) from pm.job"), "2");
    assert_eq!(run_with(&fixture, &["pg", "restore", "--clean"], &path).0, 0);
    assert_eq!(fixture.pm(&["job", "show", &id]).status, 0);
    fixture.pm(&["job", "show", &later]).assert_refused(1, &["not found"]);
    assert_eq!(run_with(&Fixture::empty(), &["pg", "restore", "--clean"], &path).0, 0, "the tables need not exist");
}

#[test]
fn a_broken_backup_changes_nothing() {
    let fixture = Fixture::with_queues(&["mail"]);
    fixture.add(&["mail", "1"]);
    let path = backup(&fixture);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 200]).unwrap();
    let (status, stderr) = run_with(&fixture, &["pg", "restore", "--clean"], &path);
    assert!(status == 3 && stderr.contains("pg_restore: error") && stderr.contains("nothing was changed"), "{stderr}");
    assert_eq!(fixture.value("select count(*) from pm.job"), "1");
    let ran = fixture.pm_reading(&["pg", "restore", "--clean"], b"no archive at all");
    ran.assert_refused(3, &["pg_restore: error", "pm pg backup"]);
    assert_eq!(fixture.value("select count(*) from pm.job"), "1");
}

#[test]
fn a_backup_contains_only_the_schema_of_pm() {
    let fixture = Fixture::with_queues(&["mail"]);
    fixture
        .database
        .execute("create table public.other (id int); create schema pmx; create table pmx.t (id int)")
        .unwrap();
    assert_eq!(fixture.pm(&["db", "migrate", "--schema", "odd näme"]).status, 0);
    let path = backup(&fixture);
    let target = Fixture::empty();
    assert_eq!(run_with(&target, &["pg", "restore"], &path).0, 0);
    let schemas = "select string_agg(distinct schemaname, ' ') from pg_tables where schemaname !~ '^(pg_|information)'";
    assert_eq!(target.value(schemas), "pm");
    let odd = fixture.command().args(["pg", "backup", "--schema", "odd näme"]).output().unwrap();
    fs::write(&path, &odd.stdout).unwrap();
    let wrong = Fixture::empty();
    let (status, stderr) = run_with(&wrong, &["pg", "restore"], &path);
    let expected = ["of schema \"odd näme\", not \"pm\"", "nothing was changed", "--schema 'odd näme'", "--into 'pm'"];
    assert!(status == 1 && expected.iter().all(|text| stderr.contains(text)), "{stderr}");
    assert_eq!(wrong.value(schemas), "");
    assert_eq!(run_with(&wrong, &["pg", "restore", "--into", "pm"], &path).0, 0);
    assert_eq!(wrong.value(schemas), "pm");
    let restored = run_with(&target, &["pg", "restore", "--schema", "odd näme", "--json"], &path);
    assert_eq!(restored, (0, String::new()));
}

#[test]
fn terminals_are_refused() {
    let fixture = Fixture::with_queues(&["mail"]);
    let (status, text) = run_on_terminal(fixture.command().args(["pg", "backup"]), "");
    assert!(status == 2 && text.contains("pm pg backup > pm.dump"), "{text}");
    let (status, text) = run_on_terminal(fixture.command().args(["pg", "restore"]), "");
    assert!(status == 2 && text.contains("pm pg restore < pm.dump"), "{text}");
}

#[test]
fn a_password_is_neither_an_argument_nor_in_a_message() {
    let fixture = Fixture::with_queues(&["mail"]);
    let url = url_with_password(&fixture);
    fake(&fixture, "pg_restore", "echo 'CREATE SCHEMA pm;'");
    for (arguments, tool) in [(&["pg", "backup"][..], "pg_dump"), (&["pg", "restore", "--clean"], "psql")] {
        let script = "echo \"$@\" > \"$HOME/arguments\"; echo \"$PGPASSWORD\" > \"$HOME/password\"; \
                      echo \"$0: error: no hunter2 here\" >&2; exit 1";
        let directory = fake(&fixture, tool, script);
        let mut command = fixture.home.command();
        let ran = run(command.args(arguments).env("PM_PG_BINDIR", directory).env("PM_DATABASE_URL", &url), b"");
        ran.assert_refused(3, &[tool, "error: no *** here"]);
        assert!(!ran.stderr.contains("hunter2"));
        let read = |name: &str| fs::read_to_string(fixture.home.path().join(name)).unwrap();
        assert!(!read("arguments").contains("hunter2") && read("arguments").contains("--dbname=dbname='"));
        assert_eq!(read("password"), "hunter2\n");
    }
}

#[test]
fn version_mismatches_are_explained() {
    let fixture = Fixture::with_queues(&["mail"]);
    let message = "pg_dump: error: aborting because of server version mismatch\n\
                 pg_dump: detail: server version: 99.1; pg_dump version: 15.18";
    let directory = fake(&fixture, "pg_dump", &format!("echo '{message}' >&2; exit 1"));
    let ran = run(fixture.command().args(["pg", "backup"]).env("PM_PG_BINDIR", &directory), b"");
    ran.assert_refused(3, &[message, "the backup is not complete", "Hint: pg_dump must be of the server's version"]);
    let ran = run(fixture.command().args(["pg", "restore", "--clean"]).env("PM_PG_BINDIR", &directory), b"");
    ran.assert_refused(3, &["cannot run pg_restore", "No such file", "PM_PG_BINDIR"]);
}

#[test]
fn a_backup_without_tables_is_refused() {
    let fixture = Fixture::empty();
    fixture.pm(&["pg", "backup"]).assert_refused(3, &["Hint: run: pm db migrate"]);
}
