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

#[test]
fn progress_is_shown() {
    let fixture = Fixture::with_queues(&["mail"]);
    let id = fixture.add(&["mail", "1"]);
    fixture.database.execute(r#"update pm.job set progress = '{"page":3,"of":20}'"#).unwrap();
    let shown = fixture.pm(&["job", "show", &id]).stdout;
    assert!(shown.contains("progress:\n  page: 3\n  of: 20\n"), "{shown}");
    assert_eq!(fixture.pm(&["job", "ls", "--json"]).json()[0]["progress"], json!({ "page": 3, "of": 20 }));
}

#[test]
fn waiting_tells_how_each_job_has_ended() {
    let (fixture, finished) = finished("1");
    let failed = fixture.add(&["mail", "2"]);
    let cancelled = fixture.add(&["mail", "3"]);
    let pending = fixture.add(&["mail", "4"]);
    assert_eq!(fixture.pm(&["job", "fail", &failed, "-m", "no such mailbox"]).status, 0);
    assert_eq!(fixture.pm(&["job", "cancel", &cancelled, "-m", "the campaign is over"]).status, 0);
    fixture.pm(&["job", "wait", &finished]).assert(0, &format!("{finished}  finished\n"), "");
    let lines = format!(
        "{finished}  finished\n{failed}  failed: no such mailbox\n{cancelled}  cancelled: the campaign is over\n{pending}  pending\n"
    );
    let all = ["job", "wait", &finished, &failed, &cancelled, &pending, "--timeout", "300ms"];
    fixture.pm(&all).assert(1, &lines, "Error: 3 jobs did not finish; 1 of them had not ended at the timeout\n");
    let deleted = uuid_like(&finished);
    fixture.pm(&["job", "wait", &deleted]).assert(
        1,
        &format!("{deleted}  not found\n"),
        "Error: 1 job did not finish\n",
    );
    let json = fixture.pm(&["job", "wait", &finished, "--json"]).json();
    assert_eq!((&json[0]["end"], &json[0]["has_ended"]), (&json!("finished"), &json!(true)));
    assert_eq!(json[0]["result_bytes"], json!(1));
}

/// Returns the id of a job that does not exist.
fn uuid_like(id: &str) -> String {
    let last = if id.ends_with('0') { "1" } else { "0" };
    format!("{}{last}", &id[..id.len() - 1])
}
