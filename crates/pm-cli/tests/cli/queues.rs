//! `pm queue …`

use crate::support::{Place, asked};
use serde_json::json;

#[test]
fn no_queues_are_an_empty_list() {
    let place = Place::with_queues(&[]);
    place.pm(&["queue", "ls"]).assert(0, "", "No queues.\n");
    place.pm(&["queue", "ls", "--json"]).assert(0, "[]\n", "");
    place.pm(&["queue", "ls", "--ndjson"]).assert(0, "", "");
}

#[test]
fn queues_are_listed_with_their_counts() {
    let place = Place::with_queues(&["mail", "e-mail/out 2"]);
    place.add(&["mail", "1"]);
    place.add(&["mail", "2", "--paused"]);
    place.add(&["mail", "3", "--in", "1h"]);
    let expected = "\
QUEUE         STATE  PENDING  PAUSED  IN PROGRESS  FINISHED  FAILED
e-mail/out 2  open         0       0            0         0       0
mail          open         2       1            0         0       0
";
    place.pm(&["queue", "ls"]).assert(0, expected, "");
    let listed = place.pm(&["queue", "ls", "--json"]).json();
    assert_eq!(listed[1]["name"], "mail");
    assert_eq!(listed[1]["paused"], false);
    let jobs = json!({"pending": 2, "paused": 1, "in_progress": 0, "finished": 0, "failed": 0});
    assert_eq!((&listed[1]["jobs"], &listed[1]["estimated"]), (&jobs, &json!([])));
    let lines = place.pm(&["queue", "ls", "--ndjson"]).stdout;
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json!(lines), listed);
}

#[test]
fn a_queue_is_created_once() {
    let place = Place::with_queues(&[]);
    place.pm(&["queue", "create", "mail"]).assert(0, "", "Created queue \"mail\".\n");
    place.pm(&["queue", "create", "mail", "--paused"]).assert(
        1,
        "",
        "Error: queue \"mail\" exists already; nothing was changed\nHint: with --if-not-exists that is no error\n",
    );
    let content = "Queue \"mail\" exists already; nothing was changed.\n";
    place.pm(&["queue", "create", "mail", "--paused", "--if-not-exists", "--lease", "1m"]).assert(0, "", content);
    let shown = place.pm(&["queue", "show", "mail", "--json"]).json();
    assert_eq!((&shown["paused"], &shown["settings"]["lease_ms"]), (&json!(false), &json!(1_200_000)));
    place.pm(&["queue", "create", "later", "--paused"]).assert(0, "", "Created queue \"later\", paused.\n");
    let created = place.pm(&["queue", "create", "more", "--json"]).json();
    assert_eq!(created, json!({"queue": "more", "created": true}));
}

#[test]
fn a_queue_is_created_with_settings_or_not_at_all() {
    let place = Place::with_queues(&[]);
    let created = place.pm(&["queue", "create", "mail", "--lease", "5m", "--retries", "3", "--backoff", "0s,1m,10m"]);
    assert_eq!(created.status, 0);
    place.pm(&["queue", "create", "bad", "--lease", "1ms"]).assert_refused(2, &["1ms", "between 100 ms and one year"]);
    place.pm(&["queue", "show", "bad"]).assert_refused(1, &["\"bad\" not found"]);
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
";
    place.pm(&["queue", "show", "mail"]).assert(0, expected, "");
}

#[test]
fn bad_names_are_refused_with_the_reason() {
    let place = Place::with_queues(&[]);
    let long = "x".repeat(201);
    for (name, why) in [("", "is empty"), (" mail", "blank"), ("a\nb", "control character"), (&long, "201 bytes")] {
        for verb in ["create", "show", "pause", "resume", "set"] {
            place.pm(&["queue", verb, name]).assert_refused(2, &[why]);
        }
    }
    assert_eq!(place.value("select count(*) from pm.queue"), "0");
}

#[test]
fn settings_are_changed_one_by_one() {
    let place = Place::with_queues(&["mail"]);
    let arguments = ["--lease", "5m", "--retries", "3", "--backoff", "0s,1m,10m", "--jitter", "10%", "--retain", "7d"];
    let expected = "lease: 5m\nretries: 3\nbackoff: 0s,1m,10m\njitter: 10%\nretain: 7d\n";
    place.pm(&[&["queue", "set", "mail"], &arguments[..]].concat()).assert(0, expected, "");
    let changed = place.pm(&["queue", "set", "mail", "--retain", "forever", "--json"]).json();
    let expected = json!({"lease_ms": 300_000, "retries": 3, "backoff_ms": [0, 60_000, 600_000], "jitter_percent": 10, "retain_ms": null});
    assert_eq!(changed, expected);
}

#[test]
fn bad_settings_are_refused_with_the_reason() {
    let place = Place::with_queues(&["mail"]);
    for (option, value, why) in [
        ("--lease", "5", "unit"),
        ("--lease", "soon", "like 90s"),
        ("--lease", "50ms", "between 100 ms and one year"),
        ("--retries", "-1", "--retries"),
        ("--retries", "2000000", "more than a million"),
        ("--backoff", "1m,,2m", "like 90s"),
        ("--jitter", "101%", "0% to 100%"),
        ("--retain", "1s", "one minute"),
    ] {
        place.pm(&["queue", "set", "mail", &format!("{option}={value}")]).assert_refused(2, &[why]);
    }
    place.pm(&["queue", "set", "mail"]).assert_refused(2, &["no setting is given", "--backoff"]);
    place
        .pm(&["queue", "set", "male", "--retries", "1"])
        .assert_refused(1, &["queue \"male\" not found", "pm queue ls"]);
}

#[test]
fn pause_and_resume_report_the_jobs() {
    let place = Place::with_queues(&["mail"]);
    for payload in ["1", "2", "3"] {
        place.add(&["mail", payload]);
    }
    place.pm(&["queue", "pause", "mail"]).assert(0, "", "Paused queue \"mail\": 3 jobs are held now.\n");
    assert!(place.pm(&["queue", "ls"]).stdout.contains("mail   paused        0       3 "));
    let shown = place.pm(&["queue", "show", "mail"]).stdout;
    assert!(shown.contains("paused: true\n") && shown.contains("  paused: 3\n"), "{shown}");
    place.pm(&["queue", "resume", "mail"]).assert(0, "", "Resumed queue \"mail\": 3 jobs are set free.\n");
    let again = place.pm(&["queue", "pause", "mail", "--json"]).json();
    assert_eq!(again, json!({"queue": "mail", "held": 3}));
    let again = place.pm(&["queue", "resume", "mail", "--json"]).json();
    assert_eq!(again, json!({"queue": "mail", "freed": 3}));
}

#[test]
fn a_resume_frees_what_was_added_as_paused() {
    let place = Place::with_queues(&["mail"]);
    place.add(&["mail", "1", "--paused"]);
    place.pm(&["queue", "resume", "mail"]).assert(0, "", "Resumed queue \"mail\": 1 job is set free.\n");
    place.pm(&["queue", "resume", "mail"]).assert(0, "", "Resumed queue \"mail\": 0 jobs are set free.\n");
}

#[test]
fn an_unknown_queue_is_said_to_be_unknown() {
    let place = Place::with_queues(&[]);
    for verb in ["show", "pause", "resume"] {
        place.pm(&["queue", verb, "nowhere"]).assert(
            1,
            "",
            "Error: queue \"nowhere\" not found\nHint: see them all: pm queue ls\n",
        );
    }
}

#[test]
fn a_queue_is_renamed_with_all_it_has() {
    let place = Place::with_queues(&["mail", "film"]);
    let id = place.add(&["mail", "1"]);
    place.pm(&["queue", "rename", "mail", "post"]).assert(0, "", "Renamed queue \"mail\" to \"post\".\n");
    assert_eq!(place.pm(&["job", "show", &id, "--json"]).json()["queue"], "post");
    place.pm(&["queue", "rename", "mail", "x"]).assert_refused(1, &["queue \"mail\" not found", "pm queue ls"]);
    place.pm(&["queue", "rename", "post", "film"]).assert_refused(1, &["queue \"film\" exists already"]);
    place.pm(&["queue", "rename", "post", " x"]).assert_refused(2, &["blank"]);
    let renamed = place.pm(&["queue", "rename", "post", "mail", "--json"]).json();
    assert_eq!(renamed, json!({"from": "post", "to": "mail"}));
}

#[test]
fn a_queue_is_deleted_with_all_its_jobs() {
    let place = Place::with_queues(&["mail", "film"]);
    for payload in ["1", "2"] {
        place.add(&["mail", payload]);
    }
    place.add(&["film", "1"]);
    place.pm(&["queue", "delete", "mail"]).assert(0, "", "Deleted queue \"mail\" and 2 jobs.\n");
    place.pm(&["queue", "delete", "mail"]).assert_refused(1, &["queue \"mail\" not found", "pm queue ls"]);
    assert_eq!(place.value("select count(*) from pm.job"), "1");
    let deleted = place.pm(&["queue", "delete", "film", "--yes", "--json"]).json();
    assert_eq!(deleted, json!({"queue": "film", "deleted": 1}));
}

#[test]
fn a_terminal_is_asked_before_a_queue_with_jobs_goes() {
    let place = Place::with_queues(&["mail", "empty"]);
    let (status, text) = asked(place.command().args(["queue", "delete", "empty"]), "");
    assert!(status == 0 && !text.contains("[y/N]"), "{text}");
    place.add(&["mail", "1"]);
    let (status, text) = asked(place.command().args(["queue", "delete", "mail"]), "no\n");
    assert!(status == 1 && text.contains("Delete queue \"mail\" with 1 job? [y/N] "), "{text}");
    assert!(text.contains("nothing was done"), "{text}");
    let (status, text) = asked(place.command().args(["queue", "delete", "mail"]), "Yes\n");
    assert!(status == 0 && text.contains("Deleted queue \"mail\" and 1 job."), "{text}");
    let (status, text) = asked(place.command().args(["queue", "delete", "mail"]), "y\n");
    assert!(status == 1 && text.contains("not found") && !text.contains("[y/N]"), "{text}");
}
