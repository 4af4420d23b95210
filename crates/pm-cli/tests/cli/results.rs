//! What is left of a job: `pm job result`, and what `pm job show` prints of it.

use crate::support::Fixture;
use serde_json::json;

/// A fixture with one finished job that has this result, and its id.
fn finished(result: &str) -> (Fixture, String) {
    let fixture = Fixture::with_queues(&["mail"]);
    let id = fixture.add(&["mail", "1"]);
    let set = format!("update pm.job set state = 2, seq = null, verdict = 0, ended_at = now(), result = '{result}'");
    fixture.database.execute(&set).unwrap();
    (fixture, id)
}

#[test]
fn a_result_is_printed_and_its_size_is_shown() {
    let result = "{\"sent\":2,\"to\":\"Zo\\u00eb\",\"big\":123456789012345678901234567890}";
    let (fixture, id) = finished(result);
    let pretty = "{\n  \"sent\": 2,\n  \"to\": \"Zoë\",\n  \"big\": 123456789012345678901234567890\n}\n";
    fixture.pm(&["job", "result", &id]).assert(0, pretty, "");
    let line = "{\"sent\":2,\"to\":\"Zoë\",\"big\":123456789012345678901234567890}\n";
    fixture.pm(&["job", "result", &id, "--ndjson"]).assert(0, line, "");
    let shown = fixture.pm(&["job", "show", &id]).stdout;
    assert!(shown.contains(&format!("result_bytes: {}\n", result.len())), "{shown}");
    assert_eq!(fixture.pm(&["job", "show", &id, "--json"]).json()["result_bytes"], json!(result.len()));
}

#[test]
fn a_text_is_printed_as_it_is_and_a_missing_result_is_refused() {
    let (fixture, id) = finished("\"two\\nlines\"");
    fixture.pm(&["job", "result", &id]).assert(0, "two\nlines", "");
    fixture.pm(&["job", "result", &id, "--json"]).assert(0, "\"two\\nlines\"\n", "");
    assert_eq!(fixture.pm(&["job", "restart", &id]).status, 0);
    fixture.pm(&["job", "result", &id]).assert_refused(1, &["has no result; it is pending"]);
    fixture.pm(&["job", "result", "fffff"]).assert_refused(1, &["no job matches fffff"]);
}
