//! `pm db …`, and what stands in the way without pm's tables.

use crate::support::Place;
use serde_json::json;

#[test]
fn migrating_makes_the_tables_once() {
    let place = Place::empty();
    place.pm(&["db", "migrate", "--check"]).assert_refused(1, &["has no tables of pm", "run: pm db migrate"]);
    place.pm(&["db", "migrate"]).assert(0, "", "Created schema \"pm\", at version 2.\n");
    place.pm(&["db", "migrate"]).assert(0, "", "Schema \"pm\" is up to date, at version 2.\n");
    place.pm(&["db", "migrate", "--check"]).assert(0, "", "Schema \"pm\" is up to date, at version 2.\n");
    let report = place.pm(&["db", "migrate", "--json"]).json();
    assert_eq!(report, json!({"schema": "pm", "found": 2, "wanted": 2, "migrated": false}));
}

#[test]
fn a_check_tells_programs_what_it_found() {
    let place = Place::empty();
    let ran = place.pm(&["db", "migrate", "--check", "--json"]);
    assert_eq!(ran.status, 1);
    assert_eq!(ran.stdout, "{\"schema\":\"pm\",\"found\":0,\"wanted\":2,\"migrated\":false}\n");
    assert_eq!(place.value("select count(*) from pg_namespace where nspname = 'pm'"), "0");
}

#[test]
fn the_printed_script_makes_the_tables() {
    let place = Place::empty();
    let mut command = place.home.command();
    let printed = crate::support::run(command.args(["db", "migrate", "--print", "--schema", "my jobs"]), b"");
    assert_eq!((printed.status, printed.stderr.as_str()), (0, ""), "no database is needed");
    place.database.execute(&printed.stdout).unwrap();
    place.pm(&["db", "migrate", "--check", "--schema", "my jobs"]).assert(
        0,
        "",
        "Schema \"my jobs\" is up to date, at version 2.\n",
    );
    place.pm(&["db", "migrate", "--print", "--check"]).assert_refused(2, &["cannot be used"]);
}

#[test]
fn without_tables_commands_say_what_to_run_and_make_none() {
    let place = Place::empty();
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
        place.pm(arguments).assert_refused(3, &["schema \"pm\"", "Hint: run: pm db migrate\n"]);
    }
    assert_eq!(place.value("select count(*) from pg_namespace where nspname = 'pm'"), "0");
}

#[test]
fn a_newer_schema_is_refused_naming_both_versions() {
    let place = Place::with_queues(&["mail"]);
    place.database.execute("insert into pm.migration (version, name) values (99, 'future')").unwrap();
    for arguments in
        [&["queue", "ls"][..], &["job", "add", "mail", "1"], &["db", "migrate"], &["db", "migrate", "--check"]]
    {
        let ran = place.pm(arguments);
        ran.assert_refused(3, &["version 99", " 2 this program knows", "upgrade"]);
        assert!(!ran.stderr.contains("pm db migrate"), "{}", ran.stderr);
    }
    assert_eq!(place.value("select count(*) from pm.job"), "0");
}

#[test]
fn reading_commands_write_nothing() {
    let place = Place::with_queues(&["mail"]);
    let id = place.add(&["mail", "{\"word\": 1}"]);
    let name = place.database.name();
    place.database.execute(&format!("alter database \"{name}\" set default_transaction_read_only = on")).unwrap();
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
        assert_eq!(place.pm(arguments).status, 0, "{arguments:?}: {}", place.pm(arguments).stderr);
    }
    place.pm(&["queue", "pause", "mail"]).assert_refused(3, &["read-only transaction"]);
}

#[test]
fn each_schema_is_a_world_of_its_own() {
    let place = Place::with_queues(&["mail"]);
    assert_eq!(place.pm(&["db", "migrate", "--schema", "other"]).status, 0);
    place.pm(&["queue", "ls", "--schema", "other"]).assert(0, "", "No queues.\n");
    place.pm(&["queue", "ls", "--schema", "bad\"name"]).assert_refused(2, &["--schema", "quote"]);
    place.pm(&["queue", "ls", "--schema", "absent"]).assert_refused(3, &["\"absent\"", "pm db migrate"]);
}

#[test]
fn commands_work_through_a_transaction_pooler() {
    let place = Place::with_queues(&["mail"]);
    let pooler = pm_sandbox::Pooler::before(&place.database.url()).unwrap();
    let url = pooler.url_of(place.database.name());
    let added = place.pm(&["job", "add", "mail", "{}", "--db", &url]);
    assert_eq!(added.status, 0, "{}", added.stderr);
    let shown = place.pm(&["job", "show", added.stdout.trim_end(), "--db", &url]);
    assert!(shown.status == 0 && shown.stdout.contains("pending"), "{}", shown.stderr);
    // So do those that look at nothing when they connect.
    let migrated = place.pm(&["db", "migrate", "--schema", "other", "--db", &url]);
    assert_eq!(migrated.status, 0, "{}", migrated.stderr);
    let examined = place.pm(&["db", "doctor", "--db", &url]);
    assert_eq!(examined.status, 0, "{}", examined.stderr);
}
