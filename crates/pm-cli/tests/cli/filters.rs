//! `--where`.

use crate::support::Fixture;
use serde_json::json;

/// Returns a queue with jobs that differ in every field of a condition.
fn fixture() -> (Fixture, [String; 3]) {
    let fixture = Fixture::with_queues(&["mail", "film"]);
    let first = fixture.add(&["mail", "1", "--description", "Invoice for ADA", "--priority", "5", "--key", "a=b"]);
    let second = fixture.add(&["mail", "{\"long\": \"xxxxxxxxxxxxxxxxxxxx\"}", "--description", "日本 invoice"]);
    let third = fixture.add(&["mail", "3", "--in", "2h"]);
    let fail = "update pm.job set state = 3, seq = null, attempt = 4, retry_count = 3, worker = 'w 1', reason = 'Timeout: 30 s',
                created_at = '2025-06-01', ended_at = now(), failed_at = now() where id =";
    fixture.database.execute(&format!("{fail} '{second}'")).unwrap();
    (fixture, [first, second, third])
}

/// Returns which of the three jobs a command with these conditions deletes.
fn selected(fixture: &Fixture, ids: &[String; 3], conditions: &[&str]) -> Vec<usize> {
    fixture.database.execute("create table if not exists pm.kept as select * from pm.job").unwrap();
    let mut arguments = vec!["job", "delete", "--yes", "--ndjson"];
    conditions.iter().for_each(|condition| arguments.extend(["--where", condition]));
    let ran = fixture.pm(&arguments);
    assert!([0, 1].contains(&ran.status), "{conditions:?}: {}", ran.stderr);
    fixture.database.execute("delete from pm.job; insert into pm.job select * from pm.kept").unwrap();
    let is_deleted = |id: &String| ran.stdout.contains(id.as_str());
    (0..3).filter(|n| is_deleted(&ids[*n])).map(|n| n + 1).collect()
}

#[test]
fn conditions_select_by_texts_numbers_and_times() {
    let (fixture, ids) = fixture();
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
        assert_eq!(selected(&fixture, &ids, conditions), expected, "{conditions:?}");
    }
}

#[test]
fn every_bulk_command_combines_conditions_with_other_filters() {
    let (fixture, [first, second, _]) = fixture();
    let dry = |arguments: &[&str]| fixture.pm(&[arguments, &["--where", "description~invoice", "--dry-run"]].concat());
    dry(&["job", "delete"]).assert(0, "", "Would delete 2 jobs.\n");
    dry(&["job", "delete", "-q", "mail", "-s", "failed"]).assert(0, "", "Would delete 1 job.\n");
    dry(&["job", "restart"]).assert(0, "", "Would restart 2 jobs.\n");
    dry(&["job", "done"]).assert(0, "", "Would finish 1 job, skip 1.\n");
    dry(&["job", "fail", "-m", "no"]).assert(0, "", "Would fail 1 job, skip 1.\n");
    dry(&["job", "move", "-t", "film"]).assert(0, "", "Would move 2 jobs to queue \"film\".\n");
    let ran = fixture.pm(&["job", "restart", "--where", "reason~TIMEOUT", "--json"]);
    assert_eq!(ran.json()["jobs"], json!([{"id": second, "result": "changed", "why": null}]));
    fixture.pm(&["job", "done", "--where", "reason~nothing like it"]).assert_refused(1, &["no job matches"]);
    fixture.pm(&["job", "done", &first, "--where", "key=x"]).assert_refused(2, &["cannot be used with"]);
}

#[test]
fn an_invalid_condition_is_refused_with_a_caret_before_any_change() {
    let (fixture, _) = fixture();
    for (condition, expected) in [
        ("descriptoin~x", &["fields are description, key", "  descriptoin~x\n  ^"][..]),
        ("priority~5", &["numeric fields support", "  priority~5\n          ^"]),
        ("priority>=high", &["an integer", "  priority>=high\n            ^"]),
        ("created<soon", &["2030-05-01", "  created<soon\n          ^"]),
        ("reason", &["missing operator", "  reason\n        ^"]),
        ("1=1; drop table pm.job", &["fields are"]),
    ] {
        fixture.pm(&["job", "delete", "--yes", "--where", condition]).assert_refused(2, expected);
    }
    assert_eq!(fixture.value("select count(*) from pm.job"), "3");
    // SQL in a value is only text.
    fixture.pm(&["job", "delete", "--yes", "--where", "key=' or true --"]).assert_refused(1, &["no job matches"]);
}
