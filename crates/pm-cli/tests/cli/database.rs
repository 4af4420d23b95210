//! `pm db …`, and databases without pm's tables.

use crate::support::{Fixture, run};
use serde_json::json;

#[test]
fn migrating_creates_the_tables_once() {
    let fixture = Fixture::empty();
    fixture
        .pm(&["db", "migrate", "--check"])
        .assert_refused(1, &["pm is not installed in schema \"pm\"", "run: pm db migrate"]);
    fixture.pm(&["db", "migrate"]).assert(0, "", "Created schema \"pm\", at version 2.\n");
    fixture.pm(&["db", "migrate"]).assert(0, "", "Schema \"pm\" is up to date, at version 2.\n");
    fixture.pm(&["db", "migrate", "--check"]).assert(0, "", "Schema \"pm\" is up to date, at version 2.\n");
    let report = fixture.pm(&["db", "migrate", "--json"]).json();
    assert_eq!(report, json!({"schema": "pm", "found": 2, "wanted": 2, "migrated": false}));
}

#[test]
fn a_check_prints_json() {
    let fixture = Fixture::empty();
    let ran = fixture.pm(&["db", "migrate", "--check", "--json"]);
    assert_eq!(ran.status, 1);
    assert_eq!(ran.stdout, "{\"schema\":\"pm\",\"found\":0,\"wanted\":2,\"migrated\":false}\n");
    assert_eq!(fixture.value("select count(*) from pg_namespace where nspname = 'pm'"), "0");
}

#[test]
fn the_printed_script_creates_the_tables() {
    let fixture = Fixture::empty();
    let mut command = fixture.home.command();
    let printed = crate::support::run(command.args(["db", "migrate", "--print", "--schema", "my jobs"]), b"");
    assert_eq!((printed.status, printed.stderr.as_str()), (0, ""), "no database is needed");
    fixture.database.execute(&printed.stdout).unwrap();
    fixture.pm(&["db", "migrate", "--check", "--schema", "my jobs"]).assert(
        0,
        "",
        "Schema \"my jobs\" is up to date, at version 2.\n",
    );
    fixture.pm(&["db", "migrate", "--print", "--check"]).assert_refused(2, &["cannot be used"]);
}

#[test]
fn without_tables_commands_suggest_to_migrate_and_create_none() {
    let fixture = Fixture::empty();
    for arguments in [
        &["queue", "ls"][..],
        &["queue", "show", "mail"],
        &["queue", "create", "mail"],
        &["queue", "set", "mail", "--retries", "1"],
        &["queue", "pause", "mail"],
        &["queue", "resume", "mail"],
        &["job", "ls"],
        &["job", "show", "abc"],
        &["job", "add", "mail", "1"],
        &["queue", "delete", "mail"],
        &["queue", "rename", "mail", "post"],
        &["job", "restart", "abc"],
        &["job", "done", "abc"],
        &["job", "fail", "abc", "-m", "no"],
        &["job", "delete", "abc"],
        &["job", "move", "abc", "-t", "mail"],
        &["job", "copy", "abc", "-t", "mail"],
        &["job", "next", "mail"],
        &["job", "next", "mail", "--peek"],
        &["job", "get", ".", "abc"],
        &["job", "search", "abc"],
        &["job", "watch"],
        &["db", "stats"],
        &["db", "doctor"],
        &["db", "reap"],
        &["db", "prune"],
        &["work", "mail", "--", "true"],
        &["reap"],
        &["pg", "backup"],
        &["schedule", "ls"],
        &["schedule", "show", "nightly"],
        &["schedule", "set", "nightly", "mail", "@daily"],
        &["schedule", "pause", "nightly"],
        &["schedule", "resume", "nightly"],
        &["schedule", "delete", "nightly"],
    ] {
        fixture.pm(arguments).assert_refused(3, &["schema \"pm\"", "Hint: run: pm db migrate\n"]);
    }
    assert_eq!(fixture.value("select count(*) from pg_namespace where nspname = 'pm'"), "0");
}

#[test]
fn a_newer_schema_is_refused_with_both_versions() {
    let fixture = Fixture::with_queues(&["mail"]);
    fixture.database.execute("insert into pm.migration (version, name) values (99, 'future')").unwrap();
    for arguments in
        [&["queue", "ls"][..], &["job", "add", "mail", "1"], &["db", "migrate"], &["db", "migrate", "--check"]]
    {
        let ran = fixture.pm(arguments);
        ran.assert_refused(3, &["version 99", "newer than the 2 of this program", "upgrade"]);
        assert!(!ran.stderr.contains("pm db migrate"), "{}", ran.stderr);
    }
    assert_eq!(fixture.value("select count(*) from pm.job"), "0");
}

#[test]
fn reading_commands_write_nothing() {
    let fixture = Fixture::with_queues(&["mail"]);
    let id = fixture.add(&["mail", "{\"word\": 1}"]);
    let name = fixture.database.name();
    fixture.database.execute(&format!("alter database \"{name}\" set default_transaction_read_only = on")).unwrap();
    for arguments in [
        &["queue", "ls"][..],
        &["queue", "show", "mail"],
        &["job", "ls", "-q", "mail"],
        &["job", "show", &id],
        &["job", "show", &id[30..]],
        &["job", "next", "mail", "--peek"],
        &["job", "get", ".", &id],
        &["job", "search", "word"],
        &["job", "delete", &id, "--dry-run"],
        &["db", "stats"],
        &["db", "doctor"],
        &["db", "migrate", "--check"],
        &["db", "migrate"],
    ] {
        assert_eq!(fixture.pm(arguments).status, 0, "{arguments:?}: {}", fixture.pm(arguments).stderr);
    }
    fixture.pm(&["queue", "pause", "mail"]).assert_refused(3, &["read-only transaction"]);
}

#[test]
fn schemas_are_independent() {
    let fixture = Fixture::with_queues(&["mail"]);
    assert_eq!(fixture.pm(&["db", "migrate", "--schema", "other"]).status, 0);
    fixture.pm(&["queue", "ls", "--schema", "other"]).assert(0, "", "No queues.\n");
    fixture.pm(&["queue", "ls", "--schema", "bad\"name"]).assert_refused(2, &["--schema", "quote"]);
    let absent = fixture.pm(&["queue", "ls", "--schema", "absent"]);
    absent.assert_refused(3, &["no tables of pm in schema \"absent\"", "\"other\" and \"pm\": use one of them"]);
    assert!(!absent.stderr.contains("db migrate"), "{}", absent.stderr);
    let hint = "Hint: run: pm --schema='-odd' db migrate\n";
    fixture.pm(&["db", "migrate", "--check", "--schema=-odd"]).assert_refused(1, &[hint]);
    let hint = "Hint: list queues: pm --schema other queue ls\n";
    fixture.pm(&["queue", "show", "mail", "--schema", "other"]).assert_refused(1, &[hint]);
}

#[test]
fn commands_work_through_a_transaction_pooler() {
    let fixture = Fixture::with_queues(&["mail"]);
    let pooler = pm_sandbox::Pooler::before(&fixture.database.url()).unwrap();
    let url = pooler.url_of(fixture.database.name());
    let added = fixture.pm(&["job", "add", "mail", "{}", "--db", &url]);
    assert_eq!(added.status, 0, "{}", added.stderr);
    let shown = fixture.pm(&["job", "show", added.stdout.trim_end(), "--db", &url]);
    assert!(shown.status == 0 && shown.stdout.contains("pending"), "{}", shown.stderr);
    // So do commands that run no statement when they connect.
    let migrated = fixture.pm(&["db", "migrate", "--schema", "other", "--db", &url]);
    assert_eq!(migrated.status, 0, "{}", migrated.stderr);
    let examined = fixture.pm(&["db", "doctor", "--db", &url]);
    assert_eq!(examined.status, 0, "{}", examined.stderr);
}

#[test]
fn statements_are_listed_and_printed_as_they_are_sent() {
    let fixture = Fixture::with_queues(&["mail"]);
    let sql = |arguments: &[&str]| run(fixture.home.command().args([&["db", "sql"], arguments].concat()), b"");
    let listed = sql(&[]);
    assert_eq!((listed.status, listed.stderr.as_str()), (0, ""));
    assert!(listed.stdout.lines().any(|line| line == "claim"));
    for name in listed.stdout.lines() {
        let printed = sql(&[name]);
        assert_eq!((printed.status, printed.stderr.as_str()), (0, ""), "{name}");
        assert!(!printed.stdout.contains('{'), "{name} keeps a placeholder");
        let text = &printed.stdout;
        fixture.database.execute(&format!("prepare one as {text}; deallocate one")).unwrap_or_else(|error| {
            panic!("{name} cannot be prepared: {error}");
        });
    }
    sql(&["claims"]).assert_refused(2, &["there is no statement \"claims\"", "pm db sql"]);
}
