//! `pm db stats`

use crate::support::Fixture;
use serde_json::json;

/// Removes sizes and numbers of rows, which depend on Postgres.
fn without_sizes(text: &str) -> String {
    text.lines().take_while(|line| *line != "Tables").map(|line| format!("{line}\n")).collect()
}

#[test]
fn without_queues_there_are_only_tables() {
    let fixture = Fixture::with_queues(&[]);
    let ran = fixture.pm(&["db", "stats"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.starts_with("Tables\nTABLE ") && ran.stdout.contains("\njob "), "{}", ran.stdout);
    assert_eq!(fixture.pm(&["db", "stats", "--json"]).json()["queues"], json!([]));
}

#[test]
fn queues_are_shown_by_status_with_rates_and_the_oldest_waiting_job() {
    let fixture = Fixture::with_queues(&["mail", "日本 queue"]);
    let ids: Vec<_> = (0..4).map(|_| fixture.add(&["mail", "1"])).collect();
    assert_eq!(fixture.pm(&["job", "done", &ids[0]]).status, 0);
    assert_eq!(fixture.pm(&["job", "fail", &ids[1], "-m", "no"]).status, 0);
    fixture
        .database
        .execute(&format!("update pm.job set created_at = now() - interval '2 h' where id = '{}'", ids[2]))
        .unwrap();
    let expected = "\
Jobs
QUEUE       STATE   PENDING  PAUSED  IN PROGRESS  FINISHED  FAILED
mail        active        2       0            0         1       1
日本 queue  active        0       0            0         0       0

Rates (per minute, over the last 5m)
QUEUE       OLDEST WAITING  ENQUEUED  FINISHED  FAILED
mail                    2h       0.6       0.2     0.2
日本 queue            none         0         0       0

";
    let ran = fixture.pm(&["db", "stats"]);
    assert_eq!((ran.status, without_sizes(&ran.stdout).as_str(), ran.stderr.as_str()), (0, expected, ""));
    let stats = fixture.pm(&["db", "stats", "--json"]).json();
    let mail = &stats["queues"][0];
    assert_eq!(mail["jobs"], json!({"pending": 2, "paused": 0, "in_progress": 0, "finished": 1, "failed": 1}));
    assert_eq!(mail["lately"], json!({"enqueued": 3, "finished": 1, "failed": 1, "estimated": []}));
    assert_eq!(mail["oldest_waiting_ms"].as_u64().map(|ms| ms / 60_000), Some(120));
    assert_eq!((&stats["window_ms"], &stats["queues"][1]["oldest_waiting_ms"]), (&json!(300_000), &json!(null)));
    let job = stats["tables"].as_array().unwrap().iter().find(|table| table["name"] == "job").unwrap();
    assert!(job["bytes"].as_u64().unwrap() > 0 && !job["indexes"].as_array().unwrap().is_empty(), "{job}");
    assert_eq!(fixture.pm(&["db", "stats", "--ndjson"]).stdout.lines().count(), 1);
    fixture.pm(&["db", "stats", "mail"]).assert_refused(2, &["unexpected argument 'mail'"]);
}
