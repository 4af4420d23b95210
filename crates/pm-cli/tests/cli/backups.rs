//! `pm pg backup` and `pm pg restore`

use crate::support::{Place, asked, run};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Writes a backup and returns where it is.
fn backup(place: &Place) -> PathBuf {
    let path = place.home.path().join("pm.dump");
    let output = place.command().args(["pg", "backup"]).stdout(File::create(&path).unwrap()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
    path
}

/// Makes a directory with a program of this name, which is a shell script.
fn fake(place: &Place, name: &str, script: &str) -> PathBuf {
    let directory = place.home.path().join("bin");
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// Returns the database's URL with a password in it, which the server does not ask for.
fn url_with_password(place: &Place) -> String {
    let url = place.database.url();
    let (user, rest) = url.split_once('@').unwrap();
    let user = user.rsplit_once("//").map(|(_, user)| user.split(':').next().unwrap()).unwrap();
    format!("postgres://{user}:hunter2@{rest}")
}

#[test]
fn a_backup_is_restored_into_another_database_byte_for_byte() {
    let place = Place::with_queues(&["mail", "film"]);
    let bytes: Vec<u8> = (0..10_485_760u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let file = place.home.path().join("payload");
    std::fs::write(&file, &bytes).unwrap();
    let id = &*place.add(&["mail", "--file", file.to_str().unwrap(), "--codec", "raw"]);
    assert!(place.pm(&["job", "show", id]).stdout.contains("<10485760 bytes>"));
    let copy = place.pm(&["job", "copy", id, "-t", "film"]).stdout;
    place.database.execute("vacuum full pm.job").unwrap();
    let sizes = "select pg_total_relation_size('pm.job') + pg_total_relation_size('pm.payload')
                   < (select 1.5 * sum(pg_column_size(data)) from pm.payload)";
    assert_eq!(place.value(sizes), "t", "it is stored once");
    place.add(&["mail", "{}", "--key", "k", "--description", "d"]);
    assert_eq!(place.pm(&["schedule", "set", "nightly", "mail", "@daily", "7"]).status, 0);
    let path = backup(&place);
    let target = Place::empty();
    let restored = run_with(&target, &["pg", "restore"], &path);
    assert_eq!(restored, (0, "Restored schema \"pm\", at version 2.\n".to_owned()));
    for id in [id, copy.trim_end()] {
        let output = target.command().args(["job", "get", ".", id]).output().unwrap();
        assert!(output.status.success() && output.stdout == bytes, "{} bytes", output.stdout.len());
    }
    let list = |place: &Place| {
        let mut jobs = place.pm(&["job", "ls", "--json"]).json();
        jobs.as_array_mut().unwrap().iter_mut().for_each(|job| drop(job.as_object_mut().unwrap().remove("read_at")));
        jobs
    };
    assert_eq!(list(&target), list(&place));
    assert_eq!(target.pm(&["queue", "ls"]), place.pm(&["queue", "ls"]));
    let schedules = |place: &Place| place.pm(&["schedule", "ls", "--json"]).json();
    assert_eq!(schedules(&target), schedules(&place));
    let taken = target.pm(&["job", "next", "mail", "--ack", "--json"]).json();
    assert_eq!(taken["id"], id, "it works on");
    assert_eq!(target.pm(&["schedule", "set", "other", "mail", "@daily"]).status, 0);
    assert_eq!(target.pm(&["job", "add", "mail", "1"]).status, 0, "sequences go on");
}

#[test]
fn a_backup_writes_nothing() {
    let place = Place::with_queues(&["mail"]);
    let name = place.database.name();
    place.database.execute(&format!("alter database \"{name}\" set default_transaction_read_only = on")).unwrap();
    assert!(backup(&place).metadata().unwrap().len() > 0);
}

/// Runs pm with the file on stdin; returns status and stderr.
fn run_with(place: &Place, arguments: &[&str], stdin: &Path) -> (i32, String) {
    let output = place.command().args(arguments).stdin(File::open(stdin).unwrap()).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_database_with_tables_is_refused_unless_it_is_to_be_cleaned() {
    let place = Place::with_queues(&["mail"]);
    let id = place.add(&["mail", "1"]);
    let path = backup(&place);
    let later = place.add(&["mail", "2"]);
    let (status, stderr) = run_with(&place, &["pg", "restore"], &path);
    assert!(status == 1 && stderr.contains("pm's tables already") && stderr.contains("--clean"), "{stderr}");
    assert_eq!(place.value("select count(*) from pm.job"), "2");
    assert_eq!(run_with(&place, &["pg", "restore", "--clean"], &path).0, 0);
    assert_eq!(place.pm(&["job", "show", &id]).status, 0);
    place.pm(&["job", "show", &later]).assert_refused(1, &["not found"]);
    assert_eq!(run_with(&Place::empty(), &["pg", "restore", "--clean"], &path).0, 0, "there need not be any");
}

#[test]
fn a_broken_backup_changes_nothing() {
    let place = Place::with_queues(&["mail"]);
    place.add(&["mail", "1"]);
    let path = backup(&place);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 200]).unwrap();
    let (status, stderr) = run_with(&place, &["pg", "restore", "--clean"], &path);
    assert!(status == 3 && stderr.contains("pg_restore: error") && stderr.contains("nothing was changed"), "{stderr}");
    assert_eq!(place.value("select count(*) from pm.job"), "1");
    let ran = place.pm_reading(&["pg", "restore", "--clean"], b"no archive at all");
    ran.assert_refused(3, &["pg_restore: error", "pm pg backup"]);
    assert_eq!(place.value("select count(*) from pm.job"), "1");
}

#[test]
fn only_our_schema_is_in_a_backup() {
    let place = Place::with_queues(&["mail"]);
    place
        .database
        .execute("create table public.other (id int); create schema pmx; create table pmx.t (id int)")
        .unwrap();
    assert_eq!(place.pm(&["db", "migrate", "--schema", "odd näme"]).status, 0);
    let path = backup(&place);
    let target = Place::empty();
    assert_eq!(run_with(&target, &["pg", "restore"], &path).0, 0);
    let schemas = "select string_agg(distinct schemaname, ' ') from pg_tables where schemaname !~ '^(pg_|information)'";
    assert_eq!(target.value(schemas), "pm");
    let odd = place.command().args(["pg", "backup", "--schema", "odd näme"]).output().unwrap();
    fs::write(&path, &odd.stdout).unwrap();
    let wrong = Place::empty();
    let (status, stderr) = run_with(&wrong, &["pg", "restore"], &path);
    let says =
        ["not in schema \"pm\" but in \"odd näme\"", "nothing was changed", "--schema 'odd näme'", "--into 'pm'"];
    assert!(status == 1 && says.iter().all(|words| stderr.contains(words)), "{stderr}");
    assert_eq!(wrong.value(schemas), "");
    assert_eq!(run_with(&wrong, &["pg", "restore", "--into", "pm"], &path).0, 0);
    assert_eq!(wrong.value(schemas), "pm");
    let restored = run_with(&target, &["pg", "restore", "--schema", "odd näme", "--json"], &path);
    assert_eq!(restored, (0, String::new()));
}

#[test]
fn terminals_are_refused() {
    let place = Place::with_queues(&["mail"]);
    let (status, text) = asked(place.command().args(["pg", "backup"]), "");
    assert!(status == 2 && text.contains("pm pg backup > pm.dump"), "{text}");
    let (status, text) = asked(place.command().args(["pg", "restore"]), "");
    assert!(status == 2 && text.contains("pm pg restore < pm.dump"), "{text}");
}

#[test]
fn a_password_is_neither_among_the_arguments_nor_in_a_message() {
    let place = Place::with_queues(&["mail"]);
    let url = url_with_password(&place);
    fake(&place, "pg_restore", "echo 'CREATE SCHEMA pm;'");
    for (arguments, tool) in [(&["pg", "backup"][..], "pg_dump"), (&["pg", "restore", "--clean"], "psql")] {
        let script = "echo \"$@\" > \"$HOME/arguments\"; echo \"$PGPASSWORD\" > \"$HOME/password\"; \
                      echo \"$0: error: no hunter2 here\" >&2; exit 1";
        let directory = fake(&place, tool, script);
        let mut command = place.home.command();
        let ran = run(command.args(arguments).env("PM_PG_BINDIR", directory).env("PM_DATABASE_URL", &url), b"");
        ran.assert_refused(3, &[tool, "error: no *** here"]);
        assert!(!ran.stderr.contains("hunter2"));
        let read = |name: &str| fs::read_to_string(place.home.path().join(name)).unwrap();
        assert!(!read("arguments").contains("hunter2") && read("arguments").contains("--dbname=dbname='"));
        assert_eq!(read("password"), "hunter2\n");
    }
}

#[test]
fn versions_that_do_not_fit_are_explained() {
    let place = Place::with_queues(&["mail"]);
    let words = "pg_dump: error: aborting because of server version mismatch\n\
                 pg_dump: detail: server version: 99.1; pg_dump version: 15.18";
    let directory = fake(&place, "pg_dump", &format!("echo '{words}' >&2; exit 1"));
    let ran = run(place.command().args(["pg", "backup"]).env("PM_PG_BINDIR", &directory), b"");
    ran.assert_refused(3, &[words, "the backup is not complete", "Hint: pg_dump must be of the server's version"]);
    let ran = run(place.command().args(["pg", "restore", "--clean"]).env("PM_PG_BINDIR", &directory), b"");
    ran.assert_refused(3, &["cannot run pg_restore", "No such file", "PM_PG_BINDIR"]);
}

#[test]
fn without_tables_there_is_nothing_to_back_up() {
    let place = Place::empty();
    place.pm(&["pg", "backup"]).assert_refused(3, &["Hint: run: pm db migrate"]);
}
