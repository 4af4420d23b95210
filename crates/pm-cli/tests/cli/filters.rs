//! Which jobs `--where` means.

use crate::support::Place;
use serde_json::json;

/// Returns a queue with jobs that differ in everything a condition can ask for.
fn place() -> (Place, [String; 3]) {
    let place = Place::with_queues(&["mail", "film"]);
    let first = place.add(&["mail", "1", "--description", "Invoice for ADA", "--priority", "5", "--key", "a=b"]);
    let second = place.add(&["mail", "{\"long\": \"xxxxxxxxxxxxxxxxxxxx\"}", "--description", "日本 invoice"]);
    let third = place.add(&["mail", "3", "--in", "2h"]);
    let fail = "update pm.job set state = 3, seq = null, attempt = 4, retry_count = 3, worker = 'w 1', reason = 'Timeout: 30 s',
                created_at = '2025-06-01', ended_at = now(), failed_at = now() where id =";
    place.database.execute(&format!("{fail} '{second}'")).unwrap();
    (place, [first, second, third])
}

/// Returns which of the three jobs a command with these conditions would delete.
fn chosen(place: &Place, ids: &[String; 3], conditions: &[&str]) -> Vec<usize> {
    place.database.execute("create table if not exists pm.kept as select * from pm.job").unwrap();
    let mut arguments = vec!["job", "delete", "--yes", "--ndjson"];
    conditions.iter().for_each(|condition| arguments.extend(["--where", condition]));
    let ran = place.pm(&arguments);
    assert!([0, 1].contains(&ran.status), "{conditions:?}: {}", ran.stderr);
    place.database.execute("delete from pm.job; insert into pm.job select * from pm.kept").unwrap();
    let gone = |id: &String| ran.stdout.contains(id.as_str());
    (0..3).filter(|n| gone(&ids[*n])).map(|n| n + 1).collect()
}

#[test]
fn conditions_choose_by_texts_numbers_and_times() {
    let (place, ids) = place();
    for (conditions, expected) in [
        (&["description~invoice"][..], &[1, 2][..]),
        (&["description~INVOICE", "description!~ada"], &[2]),
        (&["description="], &[3]),
        (&["description=Invoice for ADA"], &[1]),
        (&["key=a=b"], &[1]),
        (&["key!="], &[1]),
        (&["reason~timeout"], &[2]),
        (&["worker=w 1"], &[2]),
        (&["priority>=5"], &[1]),
        (&["priority<5"], &[2, 3]),
        (&["retries>2"], &[2]),
        (&["attempts=4"], &[2]),
        (&["bytes>10"], &[2]),
        (&["created<2026-01-01"], &[2]),
        (&["created>=2026-01-01"], &[1, 3]),
        (&["ended>2025-01-01"], &[2]),
        (&["due>2025-01-01T00:00:00Z"], &[3]),
        (&["retries>2", "priority=1"], &[]),
    ] {
        assert_eq!(chosen(&place, &ids, conditions), expected, "{conditions:?}");
    }
}

#[test]
fn every_bulk_command_takes_conditions_beside_other_filters() {
    let (place, [first, second, _]) = place();
    let dry = |arguments: &[&str]| place.pm(&[arguments, &["--where", "description~invoice", "--dry-run"]].concat());
    dry(&["job", "delete"]).assert(0, "", "Would delete 2 jobs.\n");
    dry(&["job", "delete", "-q", "mail", "-s", "failed"]).assert(0, "", "Would delete 1 job.\n");
    dry(&["job", "restart"]).assert(0, "", "Would restart 2 jobs.\n");
    dry(&["job", "done"]).assert(0, "", "Would finish 1 job, skip 1.\n");
    dry(&["job", "fail", "-m", "no"]).assert(0, "", "Would fail 1 job, skip 1.\n");
    dry(&["job", "move", "-t", "film"]).assert(0, "", "Would move 2 jobs to queue \"film\".\n");
    let ran = place.pm(&["job", "restart", "--where", "reason~TIMEOUT", "--json"]);
    assert_eq!(ran.json()["jobs"], json!([{"id": second, "result": "changed", "why": null}]));
    place.pm(&["job", "done", "--where", "reason~nothing like it"]).assert_refused(1, &["no job matches"]);
    place.pm(&["job", "done", &first, "--where", "key=x"]).assert_refused(2, &["cannot be used with"]);
}

#[test]
fn a_bad_condition_is_refused_with_a_caret_before_anything_is_done() {
    let (place, _) = place();
    for (condition, words) in [
        ("descriptoin~x", &["fields are description, key", "  descriptoin~x\n  ^"][..]),
        ("priority~5", &["a number is compared by", "  priority~5\n          ^"]),
        ("priority>=high", &["a whole number", "  priority>=high\n            ^"]),
        ("created<soon", &["2030-05-01", "  created<soon\n          ^"]),
        ("reason", &["an operator is missing", "  reason\n        ^"]),
        ("1=1; drop table pm.job", &["fields are"]),
    ] {
        place.pm(&["job", "delete", "--yes", "--where", condition]).assert_refused(2, words);
    }
    assert_eq!(place.value("select count(*) from pm.job"), "3");
    // What looks like SQL is a text like any other.
    place.pm(&["job", "delete", "--yes", "--where", "key=' or true --"]).assert_refused(1, &["no job matches"]);
}
