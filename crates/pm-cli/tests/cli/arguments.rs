//! What all commands do alike with the ids, queues and statuses that they are given.

use crate::support::Place;
use serde_json::json;

const NOBODY: &str = "00000000-0000-7000-8000-000000000000";
const BULK: [&[&str]; 5] = [
    &["job", "restart"],
    &["job", "done"],
    &["job", "fail", "-m", "no use"],
    &["job", "delete"],
    &["job", "move", "-t", "film"],
];

/// Every command that takes the id of a job, without it.
fn about_a_job() -> Vec<&'static [&'static str]> {
    let one: [&[&str]; 4] =
        [&["job", "show"], &["job", "get", "."], &["job", "copy", "-t", "film"], &["job", "ls", "--after"]];
    one.into_iter().chain(BULK).collect()
}

/// Every command that takes the name of a queue that there must be, without it.
fn about_a_queue() -> Vec<&'static [&'static str]> {
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

/// Returns the command with this queue, and what it needs beside.
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
fn bad_and_unknown_and_ambiguous_ids_are_refused_by_every_command() {
    let place = Place::with_queues(&["mail", "film"]);
    let ambiguous = "insert into pm.job (id, queue_id, priority, codec, payload, seq) \
                     select ('01900000-0000-7000-8000-0000000' || n || 'beef')::uuid, id, 0, 0, 'null', n \
                     from pm.queue, generate_series(1, 2) n where name = 'mail'";
    place.database.execute(ambiguous).unwrap();
    for command in about_a_job() {
        for more in [&[][..], &["--json"], &["--ndjson"]] {
            let refused = |id: &str, status: i32, words: &[&str]| {
                let ran = place.pm(&[command, &[id], more].concat());
                let is_told = command.starts_with(&["job"]) && BULK.contains(&command) && status == 1;
                assert!(ran.status == status && (is_told || ran.stdout.is_empty()), "{command:?} {id}: {ran:?}");
                for word in words {
                    assert!(ran.stderr.contains(word), "{command:?} {id}: {word:?} is missing in {}", ran.stderr);
                }
            };
            refused("xyz", 2, &["no hex digit", "'x'"]);
            refused("", 2, &["no hex digit"]);
            refused(&"a".repeat(33), 2, &["33 hex digits"]);
            refused("beef", 2, &["several jobs end in beef", "1beef  mail  pending", "2beef  mail  pending"]);
            match BULK.contains(&command) {
                true => refused("fffffffff0", 1, &["fffffffff0: not found"]),
                false => refused("fffffffff0", 1, &["no job's id ends in fffffffff0"]),
            }
            // A page may begin after a job that is gone.
            if !command.contains(&"--after") {
                refused(NOBODY, 1, &[NOBODY, "not found"]);
            }
        }
    }
    assert_eq!(place.value("select count(*) from pm.job where state = 0"), "2");
}

#[test]
fn bad_and_unknown_queues_are_refused_by_every_command() {
    let place = Place::with_queues(&["mail", "film"]);
    for command in about_a_queue() {
        for format in ["--json", "--ndjson", "--connect-timeout=5s"] {
            let refused = |queue: &str, status: i32, word: &str| {
                let ran = place.pm(&[&[format][..], &with_queue(command, queue)].concat());
                assert_eq!(ran.status, status, "{command:?} {queue}: {ran:?}");
                assert!(ran.stderr.contains(word), "{command:?} {queue}: {word:?} is missing in {}", ran.stderr);
                assert_eq!(ran.stdout, "", "{command:?} {queue}");
            };
            refused("male", 1, "queue \"male\" not found");
            refused("", 2, "is empty");
            refused(" mail", 2, "blank");
            refused("a\nb", 2, "control character");
            refused(&"x".repeat(201), 2, "201 bytes");
        }
    }
    for command in [&["job", "move", NOBODY, "-t"][..], &["job", "copy", NOBODY, "-t"], &["queue", "rename", "mail"]] {
        place.pm(&[command, &[""]].concat()).assert_refused(2, &["is empty"]);
    }
    assert_eq!(place.value("select string_agg(name, ' ' order by name) from pm.queue"), "film mail");
}

#[test]
fn a_status_that_there_is_not_is_refused_by_every_command() {
    let place = Place::with_queues(&["mail"]);
    let list: [&[&str]; 2] = [&["job", "ls"], &["job", "search", "x"]];
    for command in list.into_iter().chain(BULK) {
        for status in ["bogus", "", "in progress"] {
            let names = "pending, paused, in-progress, finished, failed";
            place.pm(&[command, &["-s", status]].concat()).assert_refused(2, &[names]);
        }
    }
}

#[test]
fn where_nothing_matches_programs_get_an_empty_report() {
    let place = Place::with_queues(&["mail", "film"]);
    for command in BULK {
        let ran = place.pm(&[command, &["-q", "mail", "--json"]].concat());
        let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let empty = json!({"jobs": [], "changed": 0, "skipped": 0, "not_found": 0});
        assert_eq!((ran.status, document), (1, empty), "{command:?}");
        assert!(ran.stderr.contains("no job matches"), "{}", ran.stderr);
        place.pm(&[command, &["-q", "mail", "--ndjson"]].concat()).assert_refused(1, &["no job matches"]);
        place.pm(&[command, &["-q", "mail", "--dry-run"]].concat()).assert_refused(1, &["no job would be changed"]);
    }
}

#[test]
fn words_too_many_are_refused() {
    let place = Place::empty();
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
        place.pm(&[command, &["surplus"]].concat()).assert_refused(2, &["unexpected argument 'surplus'", "--help"]);
    }
}

#[test]
fn schedules_are_named_and_told_to_programs_alike() {
    let place = Place::with_queues(&["mail"]);
    for verb in ["show", "pause", "resume", "delete"] {
        place.pm(&["schedule", verb, ""]).assert_refused(2, &["is empty"]);
        place.pm(&["schedule", verb, " x"]).assert_refused(2, &["blank"]);
        place.pm(&["schedule", verb, "nightly", "--json"]).assert_refused(1, &["schedule \"nightly\" not found"]);
    }
    assert_eq!(place.pm(&["schedule", "set", "nightly", "mail", "@daily", "[1]"]).status, 0);
    let shown = place.pm(&["schedule", "show", "nightly", "--json"]).json();
    assert_eq!((&shown["name"], &shown["queue"], &shown["payload"]), (&json!("nightly"), &json!("mail"), &json!([1])));
    assert_eq!(place.pm(&["schedule", "ls", "--ndjson"]).json()["name"], json!("nightly"));
    for verb in ["pause", "resume", "delete"] {
        assert_eq!(place.pm(&["schedule", verb, "nightly", "--ndjson"]).json(), json!({"schedule": "nightly"}));
    }
}
