//! `pm job next`

use crate::support::Fixture;
use serde_json::json;

#[test]
fn the_next_job_is_claimed_and_finished_with_its_lease() {
    let fixture = Fixture::with_queues(&["mail"]);
    fixture.add(&["mail", "1"]);
    let id = fixture.add(&["mail", "{\"to\":\"ada\"}", "--priority", "9"]);
    let begin = std::time::Instant::now();
    let taken = fixture.pm(&["job", "next", "mail"]);
    assert!(begin.elapsed() < std::time::Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(taken.status, 0, "{}", taken.stderr);
    assert!(taken.stdout.starts_with(&format!("id: {id}\nqueue: mail\nstatus: in_progress\n")), "{}", taken.stdout);
    assert!(taken.stdout.ends_with("payload:\n  to: ada\n"), "{}", taken.stdout);
    let shown = fixture.pm(&["job", "show", &id, "--json"]).json();
    assert_eq!(
        (&shown["status"], &shown["attempt"], &shown["retries"], &shown["attempts"]),
        (&json!("in_progress"), &json!(1), &json!(0), &json!([])),
        "the process has exited and the lease remains"
    );
    let lease = shown["lease"]["number"].as_str().unwrap();
    assert!(taken.stdout.contains(&format!("  number: {lease}\n")), "{}", taken.stdout);
    let sentence = format!("Leased to you until the lease expires. To finish it: pm job done {id} --lease {lease}\n");
    assert_eq!(taken.stderr, sentence);
    fixture.pm(&["job", "done", &id, "--lease", "1"]).assert_refused(1, &["with another lease"]);
    fixture.pm(&["job", "done", &id, "--lease", lease]).assert(0, "", "Finished 1 job.\n");
}

#[test]
fn peek_shows_the_next_job_and_writes_nothing() {
    let fixture = Fixture::with_queues(&["mail"]);
    let second = fixture.add(&["mail", "2"]);
    let first = fixture.add(&["mail", "1", "--priority", "1"]);
    fixture.add(&["mail", "3", "--in", "1h", "--priority", "9"]);
    fixture.add(&["mail", "4", "--paused", "--priority", "9"]);
    fixture.database.execute(&format!("update pm.job set reason = 'busy' where id = '{first}'")).unwrap();
    let name = fixture.database.name().to_owned();
    let set_read_only = |on| {
        fixture
            .database
            .execute(&format!(
                "begin read write; alter database \"{name}\" set default_transaction_read_only = {on}; commit"
            ))
            .unwrap();
    };
    set_read_only("on");
    let before = fixture.value("select string_agg(j::text || xmin::text, '') from pm.job j");
    for _ in 0..2 {
        let peeked = fixture.pm(&["job", "next", "mail", "--peek", "--json"]).json();
        assert_eq!(
            (&peeked["id"], &peeked["status"], &peeked["lease"]),
            (&json!(first), &json!("pending"), &json!(null))
        );
        assert_eq!((&peeked["payload"], &peeked["reason"]), (&json!(1), &json!("busy")));
    }
    fixture.pm(&["job", "next", "mail"]).assert_refused(3, &["read-only"]);
    assert_eq!(fixture.value("select string_agg(j::text || xmin::text, '') from pm.job j"), before);
    set_read_only("off");
    for id in [&first, &second] {
        let peeked = fixture.pm(&["job", "next", "mail", "--peek", "--json"]).json()["id"].clone();
        let taken = fixture.pm(&["job", "next", "mail", "--ack", "--json"]).json()["id"].clone();
        assert_eq!((&peeked, &taken), (&json!(id), &json!(id)), "the job of --peek is claimed next");
    }
    fixture.pm(&["job", "next", "mail", "--peek"]).assert_refused(1, &["no job of queue \"mail\" is ready"]);
}

#[test]
fn due_jobs_are_next_without_a_worker() {
    let fixture = Fixture::with_queues(&["mail"]);
    let late = fixture.add(&["mail", "1", "--in", "1h"]);
    let now = fixture.add(&["mail", "2", "--in", "1h"]);
    let past = |id: &str, minutes: u8| {
        let sql = format!("update pm.job set run_at = now() - interval '{minutes} min' where id = '{id}'");
        fixture.database.execute(&sql).unwrap();
    };
    past(&late, 1);
    past(&now, 2);
    let waiting = fixture.add(&["mail", "3"]);
    for id in [&waiting, &now, &late] {
        assert_eq!(fixture.pm(&["job", "next", "mail", "--peek", "--json"]).json()["id"], json!(id));
        assert_eq!(fixture.pm(&["job", "next", "mail", "--ndjson"]).json()["id"], json!(id));
    }
}

#[test]
fn ack_finishes_the_job() {
    let fixture = Fixture::with_queues(&["mail"]);
    let id = fixture.add(&["mail", "1"]);
    let taken = fixture.pm(&["job", "next", "mail", "--ack"]);
    assert_eq!((taken.status, taken.stderr.as_str()), (0, ""));
    assert!(taken.stdout.starts_with(&format!("id: {id}\n")));
    assert_eq!(fixture.pm(&["job", "show", &id, "--json"]).json()["status"], "finished");
    fixture.pm(&["job", "next", "mail", "--ack", "--peek"]).assert_refused(2, &["cannot be used"]);
}

#[test]
fn a_job_that_could_not_be_shown_is_released() {
    let fixture = Fixture::with_queues(&["mail"]);
    let id = fixture.add(&["mail", "1"]);
    for arguments in [&["job", "next", "mail"][..], &["job", "next", "mail", "--ack"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = fixture.command().args(arguments).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
        let shown = fixture.pm(&["job", "show", &id, "--json"]).json();
        assert_eq!((&shown["status"], &shown["retries"]), (&json!("pending"), &json!(0)));
    }
}

#[test]
fn paused_empty_and_unknown_queues_have_different_errors() {
    let fixture = Fixture::with_queues(&["mail"]);
    for more in [&[][..], &["--peek"], &["--ack"]] {
        let next = |queue: &str| fixture.pm(&[&["job", "next", queue], more].concat());
        next("mail").assert(1, "", "Error: no job of queue \"mail\" is ready\n");
        next("male").assert_refused(1, &["queue \"male\" not found", "pm queue ls"]);
        next("").assert_refused(2, &["is empty"]);
        fixture.add(&["mail", "1"]);
        assert_eq!(fixture.pm(&["queue", "pause", "mail"]).status, 0);
        next("mail").assert(1, "", "Error: queue \"mail\" is paused\nHint: resume it: pm queue resume mail\n");
        assert_eq!(fixture.pm(&["queue", "resume", "mail"]).status, 0);
        assert_eq!(fixture.pm(&["job", "next", "mail", "--ack"]).status, 0);
    }
}
