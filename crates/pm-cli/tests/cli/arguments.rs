//! How all commands treat ids, queues and statuses.

use crate::support::Fixture;
use serde_json::json;

const UNKNOWN_ID: &str = "00000000-0000-7000-8000-000000000000";
const BULK: [&[&str]; 5] = [
    &["job", "restart"],
    &["job", "done"],
    &["job", "fail", "-m", "no use"],
    &["job", "delete"],
    &["job", "move", "-t", "film"],
];

/// Every command that takes the id of a job, without the id.
fn job_commands() -> Vec<&'static [&'static str]> {
    let one: [&[&str]; 4] =
        [&["job", "show"], &["job", "get", "."], &["job", "copy", "-t", "film"], &["job", "ls", "--after"]];
    one.into_iter().chain(BULK).collect()
}

/// Every command that takes the name of an existing queue, without the name.
fn queue_commands() -> Vec<&'static [&'static str]> {
    let one: [&[&str]; 13] = [
        &["queue", "show"],
        &["queue", "pause"],
        &["queue", "resume"],
        &["queue", "delete"],
        &["queue", "set", "--retries", "1"],
        &["queue", "rename", "--", "male"],
        &["job", "add", "--description", "d"],
        &["job", "next"],
        &["job", "ls", "-q"],
        &["job", "search", "x", "-q"],
        &["job", "watch", "-q"],
        &["schedule", "set", "nightly"],
        &["work"],
    ];
    one.into_iter().chain(BULK).collect()
}

/// Returns the command with this queue and its other required arguments.
fn with_queue<'a>(command: &[&'a str], queue: &'a str) -> Vec<&'a str> {
    let rest: &[&str] = match command {
        ["queue", "rename", ..] => return vec!["queue", "rename", queue, "post"],
        ["job", "add", ..] => &["1"],
        ["schedule", ..] => &["@daily"],
        ["work", ..] => &["--", "true"],
        _ => &[],
    };
    let option: &[&str] = if BULK.contains(&command) { &["-q"] } else { &[] };
    [command, option, &[queue], rest].concat()
}

#[test]
fn invalid_unknown_and_ambiguous_ids_are_refused_by_every_command() {
    let fixture = Fixture::with_queues(&["mail", "film"]);
    let ambiguous = "insert into pm.job (id, queue_id, priority, codec, payload, seq) \
                     select ('01900000-0000-7000-8000-0000000' || n || 'beef')::uuid, id, 0, 0, 'null', n \
                     from pm.queue, generate_series(1, 2) n where name = 'mail'";
    fixture.database.execute(ambiguous).unwrap();
    for command in job_commands() {
        for more in [&[][..], &["--json"], &["--ndjson"]] {
            let refused = |id: &str, status: i32, texts: &[&str]| {
                let ran = fixture.pm(&[command, &[id], more].concat());
                let has_report = command.starts_with(&["job"]) && BULK.contains(&command) && status == 1;
                assert!(ran.status == status && (has_report || ran.stdout.is_empty()), "{command:?} {id}: {ran:?}");
                for text in texts {
                    assert!(ran.stderr.contains(text), "{command:?} {id}: {text:?} is missing in {}", ran.stderr);
                }
            };
            refused("xyz", 2, &["not a hex digit", "'x'"]);
            refused("", 2, &["no hex digit"]);
            refused(&"a".repeat(33), 2, &["33 hex digits"]);
            refused("beef", 2, &["beef matches several jobs", "1beef  mail  pending", "2beef  mail  pending"]);
            match BULK.contains(&command) {
                true => refused("fffffffff0", 1, &["fffffffff0: not found"]),
                false => refused("fffffffff0", 1, &["no job matches fffffffff0"]),
            }
            // A page may begin after a deleted job.
            if !command.contains(&"--after") {
                refused(UNKNOWN_ID, 1, &[UNKNOWN_ID, "not found"]);
            }
        }
    }
    assert_eq!(fixture.value("select count(*) from pm.job where state = 0"), "2");
}

#[test]
fn invalid_and_unknown_queues_are_refused_by_every_command() {
    let fixture = Fixture::with_queues(&["mail", "film"]);
    for command in queue_commands() {
        for format in ["--json", "--ndjson", "--connect-timeout=5s"] {
            let refused = |queue: &str, status: i32, text: &str| {
                let ran = fixture.pm(&[&[format][..], &with_queue(command, queue)].concat());
                assert_eq!(ran.status, status, "{command:?} {queue}: {ran:?}");
                assert!(ran.stderr.contains(text), "{command:?} {queue}: {text:?} is missing in {}", ran.stderr);
                assert_eq!(ran.stdout, "", "{command:?} {queue}");
            };
            refused("male", 1, "queue \"male\" not found");
            refused("", 2, "is empty");
            refused(" mail", 2, "blank");
            refused("a\nb", 2, "control character");
            refused(&"x".repeat(201), 2, "201 bytes");
        }
    }
    for command in
        [&["job", "move", UNKNOWN_ID, "-t"][..], &["job", "copy", UNKNOWN_ID, "-t"], &["queue", "rename", "mail"]]
    {
        fixture.pm(&[command, &[""]].concat()).assert_refused(2, &["is empty"]);
    }
    assert_eq!(fixture.value("select string_agg(name, ' ' order by name) from pm.queue"), "film mail");
}

#[test]
fn an_unknown_status_is_refused_by_every_command() {
    let fixture = Fixture::with_queues(&["mail"]);
    let list: [&[&str]; 2] = [&["job", "ls"], &["job", "search", "x"]];
    for command in list.into_iter().chain(BULK) {
        for status in ["bogus", "", "in progress"] {
            let names = "pending, paused, in-progress, finished, failed";
            fixture.pm(&[command, &["-s", status]].concat()).assert_refused(2, &[names]);
        }
    }
}

#[test]
fn without_matches_the_json_report_is_empty() {
    let fixture = Fixture::with_queues(&["mail", "film"]);
    for command in BULK {
        let ran = fixture.pm(&[command, &["-q", "mail", "--json"]].concat());
        let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let empty = json!({"jobs": [], "changed": 0, "skipped": 0, "not_found": 0});
        assert_eq!((ran.status, document), (1, empty), "{command:?}");
        assert!(ran.stderr.contains("no job matches"), "{}", ran.stderr);
        fixture.pm(&[command, &["-q", "mail", "--ndjson"]].concat()).assert_refused(1, &["no job matches"]);
        fixture.pm(&[command, &["-q", "mail", "--dry-run"]].concat()).assert_refused(1, &["no job would be changed"]);
    }
}

#[test]
fn extra_arguments_are_refused() {
    let fixture = Fixture::empty();
    for command in [
        &["queue", "ls"][..],
        &["job", "ls"],
        &["job", "watch"],
        &["db", "migrate"],
        &["db", "stats"],
        &["db", "reap"],
        &["db", "prune"],
        &["db", "doctor"],
        &["reap"],
        &["top"],
        &["pg", "backup"],
        &["pg", "restore"],
        &["schedule", "ls"],
        &["demo"],
        &["dev"],
    ] {
        fixture.pm(&[command, &["surplus"]].concat()).assert_refused(2, &["unexpected argument 'surplus'", "--help"]);
    }
}

#[test]
fn schedule_commands_check_the_name_and_print_json() {
    let fixture = Fixture::with_queues(&["mail"]);
    for verb in ["show", "pause", "resume", "delete"] {
        fixture.pm(&["schedule", verb, ""]).assert_refused(2, &["is empty"]);
        fixture.pm(&["schedule", verb, " x"]).assert_refused(2, &["blank"]);
        fixture.pm(&["schedule", verb, "nightly", "--json"]).assert_refused(1, &["schedule \"nightly\" not found"]);
    }
    assert_eq!(fixture.pm(&["schedule", "set", "nightly", "mail", "@daily", "[1]"]).status, 0);
    let shown = fixture.pm(&["schedule", "show", "nightly", "--json"]).json();
    assert_eq!((&shown["name"], &shown["queue"], &shown["payload"]), (&json!("nightly"), &json!("mail"), &json!([1])));
    assert_eq!(fixture.pm(&["schedule", "ls", "--ndjson"]).json()["name"], json!("nightly"));
    for verb in ["pause", "resume", "delete"] {
        assert_eq!(fixture.pm(&["schedule", verb, "nightly", "--ndjson"]).json(), json!({"schedule": "nightly"}));
    }
}
