//! `pm job next`

use crate::support::Place;
use serde_json::json;

#[test]
fn the_next_job_is_taken_and_ended_under_its_lease() {
    let place = Place::with_queues(&["mail"]);
    place.add(&["mail", "1"]);
    let id = place.add(&["mail", "{\"to\":\"ada\"}", "--priority", "9"]);
    let begin = std::time::Instant::now();
    let taken = place.pm(&["job", "next", "mail"]);
    assert!(begin.elapsed() < std::time::Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(taken.status, 0, "{}", taken.stderr);
    assert!(taken.stdout.starts_with(&format!("id: {id}\nqueue: mail\nstatus: in_progress\n")), "{}", taken.stdout);
    assert!(taken.stdout.ends_with("payload:\n  to: ada\n"), "{}", taken.stdout);
    let shown = place.pm(&["job", "show", &id, "--json"]).json();
    assert_eq!(
        (&shown["status"], &shown["attempt"], &shown["retries"], &shown["attempts"]),
        (&json!("in_progress"), &json!(1), &json!(0), &json!([])),
        "the process is gone and the lease stays"
    );
    let lease = shown["lease"]["number"].as_str().unwrap();
    assert!(taken.stdout.contains(&format!("  number: {lease}\n")), "{}", taken.stdout);
    let sentence = format!("It is yours until its lease ends: pm job done {id} --lease {lease}\n");
    assert_eq!(taken.stderr, sentence);
    place.pm(&["job", "done", &id, "--lease", "1"]).assert_refused(1, &["under another lease"]);
    place.pm(&["job", "done", &id, "--lease", lease]).assert(0, "", "Finished 1 job.\n");
}

#[test]
fn a_peek_shows_the_job_that_comes_next_and_writes_nothing() {
    let place = Place::with_queues(&["mail"]);
    let second = place.add(&["mail", "2"]);
    let first = place.add(&["mail", "1", "--priority", "1"]);
    place.add(&["mail", "3", "--in", "1h", "--priority", "9"]);
    place.add(&["mail", "4", "--paused", "--priority", "9"]);
    place.database.execute(&format!("update pm.job set reason = 'busy' where id = '{first}'")).unwrap();
    let name = place.database.name().to_owned();
    let only_reading = |on| {
        place
            .database
            .execute(&format!(
                "begin read write; alter database \"{name}\" set default_transaction_read_only = {on}; commit"
            ))
            .unwrap();
    };
    only_reading("on");
    let before = place.value("select string_agg(j::text || xmin::text, '') from pm.job j");
    for _ in 0..2 {
        let peeked = place.pm(&["job", "next", "mail", "--peek", "--json"]).json();
        assert_eq!(
            (&peeked["id"], &peeked["status"], &peeked["lease"]),
            (&json!(first), &json!("pending"), &json!(null))
        );
        assert_eq!((&peeked["payload"], &peeked["reason"]), (&json!(1), &json!("busy")));
    }
    place.pm(&["job", "next", "mail"]).assert_refused(3, &["read-only"]);
    assert_eq!(place.value("select string_agg(j::text || xmin::text, '') from pm.job j"), before);
    only_reading("off");
    for id in [&first, &second] {
        let peeked = place.pm(&["job", "next", "mail", "--peek", "--json"]).json()["id"].clone();
        let taken = place.pm(&["job", "next", "mail", "--ack", "--json"]).json()["id"].clone();
        assert_eq!((&peeked, &taken), (&json!(id), &json!(id)), "what was seen is what is taken");
    }
    place.pm(&["job", "next", "mail", "--peek"]).assert_refused(1, &["no job of queue \"mail\" is ready"]);
}

#[test]
fn a_job_that_became_due_is_next_without_anyone_at_work() {
    let place = Place::with_queues(&["mail"]);
    let late = place.add(&["mail", "1", "--in", "1h"]);
    let now = place.add(&["mail", "2", "--in", "1h"]);
    let past = |id: &str, minutes: u8| {
        let sql = format!("update pm.job set run_at = now() - interval '{minutes} min' where id = '{id}'");
        place.database.execute(&sql).unwrap();
    };
    past(&late, 1);
    past(&now, 2);
    let waiting = place.add(&["mail", "3"]);
    for id in [&waiting, &now, &late] {
        assert_eq!(place.pm(&["job", "next", "mail", "--peek", "--json"]).json()["id"], json!(id));
        assert_eq!(place.pm(&["job", "next", "mail", "--ndjson"]).json()["id"], json!(id));
    }
}

#[test]
fn an_acknowledged_job_is_finished() {
    let place = Place::with_queues(&["mail"]);
    let id = place.add(&["mail", "1"]);
    let taken = place.pm(&["job", "next", "mail", "--ack"]);
    assert_eq!((taken.status, taken.stderr.as_str()), (0, ""));
    assert!(taken.stdout.starts_with(&format!("id: {id}\n")));
    assert_eq!(place.pm(&["job", "show", &id, "--json"]).json()["status"], "finished");
    place.pm(&["job", "next", "mail", "--ack", "--peek"]).assert_refused(2, &["cannot be used"]);
}

#[test]
fn a_job_that_nobody_saw_is_given_back() {
    let place = Place::with_queues(&["mail"]);
    let id = place.add(&["mail", "1"]);
    for arguments in [&["job", "next", "mail"][..], &["job", "next", "mail", "--ack"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = place.command().args(arguments).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
        let shown = place.pm(&["job", "show", &id, "--json"]).json();
        assert_eq!((&shown["status"], &shown["retries"]), (&json!("pending"), &json!(0)));
    }
}

#[test]
fn it_says_which_of_paused_empty_or_unknown_a_queue_is() {
    let place = Place::with_queues(&["mail"]);
    for more in [&[][..], &["--peek"], &["--ack"]] {
        let next = |queue: &str| place.pm(&[&["job", "next", queue], more].concat());
        next("mail").assert(1, "", "Error: no job of queue \"mail\" is ready\n");
        next("male").assert_refused(1, &["queue \"male\" not found", "pm queue ls"]);
        next("").assert_refused(2, &["is empty"]);
        place.add(&["mail", "1"]);
        assert_eq!(place.pm(&["queue", "pause", "mail"]).status, 0);
        next("mail").assert(1, "", "Error: queue \"mail\" is paused\nHint: pm queue resume \"mail\"\n");
        assert_eq!(place.pm(&["queue", "resume", "mail"]).status, 0);
        assert_eq!(place.pm(&["job", "next", "mail", "--ack"]).status, 0);
    }
}
