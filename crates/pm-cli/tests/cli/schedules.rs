//! `pm schedule …`

use crate::support::{Fixture, redact};
use serde_json::json;

const SET: [&str; 6] = ["schedule", "set", "nightly", "mail", "30 2 * * MON-FRI", "{\"kind\": \"daily\"}"];

#[test]
fn no_schedules_are_an_empty_list() {
    let fixture = Fixture::with_queues(&[]);
    fixture.pm(&["schedule", "ls"]).assert(0, "", "No schedules.\n");
    fixture.pm(&["schedule", "ls", "--json"]).assert(0, "[]\n", "");
}

#[test]
fn a_schedule_is_set_shown_and_replaced() {
    let fixture = Fixture::with_queues(&["mail"]);
    let options = ["--zone", "europe/berlin", "--missed", "all:3", "--overlap", "skip", "--priority", "-1"];
    let more = ["--description", "letters", "--retries", "4", "--backoff", "1m,1h"];
    let set = fixture.pm(&[&SET[..], &options, &more].concat());
    assert_eq!((set.status, set.stdout.as_str()), (0, ""));
    assert!(redact(&set.stderr).starts_with("Created schedule \"nightly\"; next tick <time> (in "), "{}", set.stderr);
    let shown = fixture.pm(&["schedule", "show", "nightly"]).stdout;
    let shown: Vec<_> = shown.lines().filter(|line| !line.starts_with("next_tick: ")).collect();
    let expected = "\
name: nightly
queue: mail
cron: \"30 2 * * MON-FRI\"
zone: Europe/Berlin
missed: all:3
overlap: skip
paused: false
priority: -1
description: letters
max_retries: 4
backoff: 1m,1h
payload:
  kind: daily";
    assert_eq!(shown.join("\n"), expected);
    let again = fixture.pm(&[&SET[..], &["--json"]].concat()).json();
    assert_eq!((&again["created"], &again["zone"], &again["missed"]), (&json!(false), &json!("UTC"), &json!("once")));
    assert_eq!(again["payload"], json!({"kind": "daily"}));
    assert!(again["next_tick"].as_str().is_some_and(|at| at.ends_with("T02:30:00.000000Z")), "{again}");
}

#[test]
fn schedules_are_listed_by_name() {
    let fixture = Fixture::with_queues(&["mail"]);
    assert_eq!(fixture.pm(&SET).status, 0);
    assert_eq!(fixture.pm(&["schedule", "set", "hourly", "mail", "@hourly"]).status, 0);
    fixture.pm(&["schedule", "pause", "hourly"]).assert(0, "", "Paused schedule \"hourly\".\n");
    let listed = redact(&fixture.pm(&["schedule", "ls"]).stdout);
    let rows: Vec<Vec<_>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["SCHEDULE", "QUEUE", "CRON", "ZONE", "STATE", "NEXT", "TICK", "LAST", "TICK"]);
    assert_eq!(rows[1], ["hourly", "mail", "@hourly", "UTC", "paused"]);
    assert_eq!(rows[2], ["nightly", "mail", "30", "2", "*", "*", "MON-FRI", "UTC", "active", "<time>"]);
    let listed = fixture.pm(&["schedule", "ls", "--json"]).json();
    assert_eq!((&listed[0]["paused"], &listed[0]["next_tick"]), (&json!(true), &json!(null)));
    assert_eq!(listed[1].get("payload"), None, "lists have no payloads");
}

#[test]
fn the_payload_is_null_or_read_from_stdin() {
    let fixture = Fixture::with_queues(&["mail"]);
    assert_eq!(fixture.pm(&["schedule", "set", "a", "mail", "@daily"]).status, 0);
    let set = ["schedule", "set", "b", "mail", "@daily", "-", "--codec", "raw"];
    assert_eq!(fixture.pm_reading(&set, b"\x00\xff").status, 0);
    assert_eq!(fixture.value("select encode(payload, 'escape') from pm.schedule where name = 'a'"), "null");
    assert_eq!(fixture.value("select encode(payload, 'hex') from pm.schedule where name = 'b'"), "00ff");
}

#[test]
fn a_schedule_is_paused_resumed_and_deleted() {
    let fixture = Fixture::with_queues(&["mail"]);
    assert_eq!(fixture.pm(&SET).status, 0);
    let paused = fixture.pm(&["schedule", "pause", "nightly", "--json"]).json();
    assert_eq!(paused, json!({"schedule": "nightly"}));
    let stderr = fixture.pm(&SET).stderr;
    assert_eq!(stderr, "Replaced schedule \"nightly\"; it is paused.\n");
    fixture.pm(&["schedule", "resume", "nightly"]).assert(0, "", "Resumed schedule \"nightly\".\n");
    assert!(fixture.pm(&["schedule", "show", "nightly"]).stdout.contains("next_tick: "));
    fixture.pm(&["schedule", "delete", "nightly"]).assert(0, "", "Deleted schedule \"nightly\".\n");
    for verb in ["show", "pause", "resume", "delete"] {
        fixture.pm(&["schedule", verb, "nightly"]).assert(
            1,
            "",
            "Error: schedule \"nightly\" not found\nHint: list schedules: pm schedule ls\n",
        );
    }
}

#[test]
fn invalid_schedules_are_refused() {
    let fixture = Fixture::with_queues(&["mail"]);
    let set = |arguments: &[&str]| fixture.pm(&[&["schedule", "set"], arguments].concat());
    set(&["a", "nowhere", "@daily"]).assert_refused(1, &["queue \"nowhere\" not found", "pm queue ls"]);
    for (arguments, why) in [
        (&["a", "mail", "0 0 30 2 *"][..], "never fires"),
        (&["a", "mail", "0 30 2 * * *"], "none for seconds"),
        (&["a", "mail", ""], "is empty"),
        (&["a", "mail", "@daily", "--zone", "Mars/Olympus"], "IANA"),
        (&["a", "mail", "@daily", "--missed", "all"], "all:N"),
        (&["a", "mail", "@daily", "--overlap", "forbid"], "allow or skip"),
        (&["a", "mail", "@daily", "{"], "not valid JSON"),
        (&["a", "mail", "@daily", r#"{"\udc00": 1}"#], "surrogate"),
        (&[" a", "mail", "@daily"], "blank"),
    ] {
        set(arguments).assert_refused(2, &[why]);
    }
    assert_eq!(fixture.value("select count(*) from pm.schedule"), "0");
}
