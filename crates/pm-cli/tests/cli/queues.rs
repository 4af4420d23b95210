//! `pm queue …`

use crate::support::{Fixture, run_on_terminal};
use serde_json::json;

#[test]
fn no_queues_are_an_empty_list() {
    let fixture = Fixture::with_queues(&[]);
    fixture.pm(&["queue", "ls"]).assert(0, "", "No queues.\n");
    fixture.pm(&["queue", "ls", "--json"]).assert(0, "[]\n", "");
    fixture.pm(&["queue", "ls", "--ndjson"]).assert(0, "", "");
}

#[test]
fn queues_are_listed_with_their_counts() {
    let fixture = Fixture::with_queues(&["mail", "e-mail/out 2"]);
    fixture.add(&["mail", "1"]);
    fixture.add(&["mail", "2", "--paused"]);
    fixture.add(&["mail", "3", "--in", "1h"]);
    let expected = "\
QUEUE         STATE   PENDING  PAUSED  IN PROGRESS  FINISHED  FAILED
e-mail/out 2  active        0       0            0         0       0
mail          active        2       1            0         0       0
";
    fixture.pm(&["queue", "ls"]).assert(0, expected, "");
    let listed = fixture.pm(&["queue", "ls", "--json"]).json();
    assert_eq!(listed[1]["name"], "mail");
    assert_eq!(listed[1]["paused"], false);
    let jobs = json!({"pending": 2, "paused": 1, "in_progress": 0, "finished": 0, "failed": 0});
    assert_eq!((&listed[1]["jobs"], &listed[1]["estimated"]), (&jobs, &json!([])));
    let lines = fixture.pm(&["queue", "ls", "--ndjson"]).stdout;
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json!(lines), listed);
}

#[test]
fn a_queue_is_created_once() {
    let fixture = Fixture::with_queues(&[]);
    fixture.pm(&["queue", "create", "mail"]).assert(0, "", "Created queue \"mail\".\n");
    fixture.pm(&["queue", "create", "mail", "--paused"]).assert(
        1,
        "",
        "Error: queue \"mail\" already exists; nothing was changed\nHint: with --if-not-exists this is not an error\n",
    );
    let unchanged = "Queue \"mail\" already exists; nothing was changed.\n";
    fixture.pm(&["queue", "create", "mail", "--paused", "--if-not-exists", "--lease", "1m"]).assert(0, "", unchanged);
    let shown = fixture.pm(&["queue", "show", "mail", "--json"]).json();
    assert_eq!((&shown["paused"], &shown["settings"]["lease_ms"]), (&json!(false), &json!(1_200_000)));
    fixture.pm(&["queue", "create", "later", "--paused"]).assert(0, "", "Created queue \"later\", paused.\n");
    let created = fixture.pm(&["queue", "create", "more", "--json"]).json();
    assert_eq!(created, json!({"queue": "more", "created": true}));
}

#[test]
fn a_queue_is_created_with_settings_or_not_at_all() {
    let fixture = Fixture::with_queues(&[]);
    let created = fixture.pm(&["queue", "create", "mail", "--lease", "5m", "--retries", "3", "--backoff", "0s,1m,10m"]);
    assert_eq!(created.status, 0);
    fixture
        .pm(&["queue", "create", "bad", "--lease", "1ms"])
        .assert_refused(2, &["1ms", "between 100 ms and one year"]);
    fixture.pm(&["queue", "show", "bad"]).assert_refused(1, &["\"bad\" not found"]);
    let expected = "\
name: mail
paused: false
jobs:
  pending: 0
  paused: 0
  in_progress: 0
  finished: 0
  failed: 0
settings:
  lease: 5m
  retries: 3
  backoff: 0s,1m,10m
  jitter: 10%
  retain: forever
  timeout: forever
";
    fixture.pm(&["queue", "show", "mail"]).assert(0, expected, "");
}

#[test]
fn invalid_names_are_refused_with_the_reason() {
    let fixture = Fixture::with_queues(&[]);
    let long = "x".repeat(201);
    for (name, why) in [("", "is empty"), (" mail", "blank"), ("a\nb", "control character"), (&long, "201 bytes")] {
        for verb in ["create", "show", "pause", "resume", "set"] {
            fixture.pm(&["queue", verb, name]).assert_refused(2, &[why]);
        }
    }
    assert_eq!(fixture.value("select count(*) from pm.queue"), "0");
}

#[test]
fn settings_are_changed_one_by_one() {
    let fixture = Fixture::with_queues(&["mail"]);
    let arguments = ["--lease", "5m", "--retries", "3", "--backoff", "0s,1m,10m", "--jitter", "10%", "--retain", "7d"];
    let expected = "lease: 5m\nretries: 3\nbackoff: 0s,1m,10m\njitter: 10%\nretain: 7d\ntimeout: forever\n";
    fixture.pm(&[&["queue", "set", "mail"], &arguments[..]].concat()).assert(0, expected, "");
    let changed = fixture.pm(&["queue", "set", "mail", "--retain", "forever", "--json"]).json();
    let expected = json!({"lease_ms": 300_000, "retries": 3, "backoff_ms": [0, 60_000, 600_000], "jitter_percent": 10, "retain_ms": null, "timeout_ms": null});
    assert_eq!(changed, expected);
}

#[test]
fn invalid_settings_are_refused_with_the_reason() {
    let fixture = Fixture::with_queues(&["mail"]);
    for (option, value, why) in [
        ("--lease", "5", "unit"),
        ("--lease", "soon", "like 90s"),
        ("--lease", "50ms", "between 100 ms and one year"),
        ("--retries", "-1", "--retries"),
        ("--retries", "2000000", "more than a million"),
        ("--backoff", "1m,,2m", "like 90s"),
        ("--jitter", "101%", "0% to 100%"),
        ("--retain", "1s", "one minute"),
        ("--timeout", "0s", "1 ms and one year"),
    ] {
        fixture.pm(&["queue", "set", "mail", &format!("{option}={value}")]).assert_refused(2, &[why]);
    }
    fixture.pm(&["queue", "set", "mail"]).assert_refused(2, &["no setting given", "--backoff"]);
    fixture
        .pm(&["queue", "set", "male", "--retries", "1"])
        .assert_refused(1, &["queue \"male\" not found", "pm queue ls"]);
}

#[test]
fn pause_and_resume_report_the_jobs() {
    let fixture = Fixture::with_queues(&["mail"]);
    for payload in ["1", "2", "3"] {
        fixture.add(&["mail", payload]);
    }
    fixture.pm(&["queue", "pause", "mail"]).assert(0, "", "Paused queue \"mail\": 3 jobs are paused now.\n");
    assert!(fixture.pm(&["queue", "ls"]).stdout.contains("mail   paused        0       3 "));
    let shown = fixture.pm(&["queue", "show", "mail"]).stdout;
    assert!(shown.contains("paused: true\n") && shown.contains("  paused: 3\n"), "{shown}");
    fixture.pm(&["queue", "resume", "mail"]).assert(0, "", "Resumed queue \"mail\": 3 jobs resumed.\n");
    let again = fixture.pm(&["queue", "pause", "mail", "--json"]).json();
    assert_eq!(again, json!({"queue": "mail", "held": 3}));
    let again = fixture.pm(&["queue", "resume", "mail", "--json"]).json();
    assert_eq!(again, json!({"queue": "mail", "freed": 3}));
}

#[test]
fn resuming_a_queue_resumes_jobs_that_were_added_paused() {
    let fixture = Fixture::with_queues(&["mail"]);
    fixture.add(&["mail", "1", "--paused"]);
    fixture.pm(&["queue", "resume", "mail"]).assert(0, "", "Resumed queue \"mail\": 1 job resumed.\n");
    fixture.pm(&["queue", "resume", "mail"]).assert(0, "", "Resumed queue \"mail\": 0 jobs resumed.\n");
}

#[test]
fn an_unknown_queue_is_not_found() {
    let fixture = Fixture::with_queues(&[]);
    for verb in ["show", "pause", "resume"] {
        fixture.pm(&["queue", verb, "nowhere"]).assert(
            1,
            "",
            "Error: queue \"nowhere\" not found\nHint: list queues: pm queue ls\n",
        );
    }
}

#[test]
fn a_queue_is_renamed_with_its_jobs() {
    let fixture = Fixture::with_queues(&["mail", "film"]);
    let id = fixture.add(&["mail", "1"]);
    fixture.pm(&["queue", "rename", "mail", "post"]).assert(0, "", "Renamed queue \"mail\" to \"post\".\n");
    assert_eq!(fixture.pm(&["job", "show", &id, "--json"]).json()["queue"], "post");
    fixture.pm(&["queue", "rename", "mail", "x"]).assert_refused(1, &["queue \"mail\" not found", "pm queue ls"]);
    fixture.pm(&["queue", "rename", "post", "film"]).assert_refused(1, &["queue \"film\" exists already"]);
    fixture.pm(&["queue", "rename", "post", " x"]).assert_refused(2, &["blank"]);
    let renamed = fixture.pm(&["queue", "rename", "post", "mail", "--json"]).json();
    assert_eq!(renamed, json!({"from": "post", "to": "mail"}));
}

#[test]
fn a_queue_is_deleted_with_all_its_jobs() {
    let fixture = Fixture::with_queues(&["mail", "film"]);
    for payload in ["1", "2"] {
        fixture.add(&["mail", payload]);
    }
    fixture.add(&["film", "1"]);
    fixture.pm(&["queue", "delete", "mail"]).assert(0, "", "Deleted queue \"mail\" and 2 jobs.\n");
    fixture.pm(&["queue", "delete", "mail"]).assert_refused(1, &["queue \"mail\" not found", "pm queue ls"]);
    assert_eq!(fixture.value("select count(*) from pm.job"), "1");
    let deleted = fixture.pm(&["queue", "delete", "film", "--yes", "--json"]).json();
    assert_eq!(deleted, json!({"queue": "film", "deleted": 1}));
}

#[test]
fn deleting_a_queue_with_jobs_asks_for_confirmation_on_a_terminal() {
    let fixture = Fixture::with_queues(&["mail", "empty"]);
    let (status, text) = run_on_terminal(fixture.command().args(["queue", "delete", "empty"]), "");
    assert!(status == 0 && !text.contains("[y/N]"), "{text}");
    fixture.add(&["mail", "1"]);
    let (status, text) = run_on_terminal(fixture.command().args(["queue", "delete", "mail"]), "no\n");
    assert!(status == 1 && text.contains("Delete queue \"mail\" with 1 job? [y/N] "), "{text}");
    assert!(text.contains("Cancelled."), "{text}");
    let (status, text) = run_on_terminal(fixture.command().args(["queue", "delete", "mail"]), "Yes\n");
    assert!(status == 0 && text.contains("Deleted queue \"mail\" and 1 job."), "{text}");
    let (status, text) = run_on_terminal(fixture.command().args(["queue", "delete", "mail"]), "y\n");
    assert!(status == 1 && text.contains("not found") && !text.contains("[y/N]"), "{text}");
}
