//! `pm job get` and `pm job search`

use crate::support::Fixture;
use serde_json::json;

fn add_bytes(fixture: &Fixture, codec: &str, bytes: &[u8]) -> String {
    let ran = fixture.pm_reading(&["job", "add", "mail", "-", "--codec", codec], bytes);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    ran.stdout.trim_end().to_owned()
}

/// Returns MessagePack: a map with one entry of bytes.
fn packed(key: &str, bytes: &[u8]) -> Vec<u8> {
    let mut packed = vec![0x81, 0xa0 | u8::try_from(key.len()).unwrap()];
    packed.extend(key.as_bytes());
    packed.push(0xc6);
    packed.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
    packed.extend(bytes);
    packed
}

#[test]
fn parts_of_a_payload_are_printed_unchanged() {
    let fixture = Fixture::with_queues(&["mail"]);
    let payload = r#"{"to": "Ada\n", "items": [{"a.b": 1.10, "x": [1, {"y": null}]}], "ok": true, "big": 123456789012345678901234567890, "7": "seven"}"#;
    let id = fixture.add(&["mail", payload]);
    for (path, expected) in [
        ("to", "Ada\n"),
        (".to", "Ada\n"),
        ("[\"to\"]", "Ada\n"),
        (r#"items[0]["a.b"]"#, "1.10\n"),
        ("big", "123456789012345678901234567890\n"),
        ("ok", "true\n"),
        ("items[0].x[1].y", "null\n"),
        ("items[0].x", "[\n  1,\n  {\n    \"y\": null\n  }\n]\n"),
        ("7", "seven"),
        ("[7]", "seven"),
    ] {
        fixture.pm(&["job", "get", path, &id]).assert(0, expected, "");
    }
    assert_eq!(fixture.pm(&["job", "get", ".", &id[20..]]).json()["ok"], json!(true));
    fixture.pm(&["job", "get", "to", &id, "--json"]).assert(0, "\"Ada\\n\"\n", "");
    fixture.pm(&["job", "get", "items[0].x", &id, "--ndjson"]).assert(0, "[1,{\"y\":null}]\n", "");
}

#[test]
fn ten_megabytes_are_printed_byte_for_byte() {
    let fixture = Fixture::with_queues(&["mail"]);
    let bytes: Vec<u8> = (0..10_485_760u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (path, id) in
        [("pdf", add_bytes(&fixture, "msgpack", &packed("pdf", &bytes))), (".", add_bytes(&fixture, "raw", &bytes))]
    {
        let output = fixture.command().args(["job", "get", path, &id]).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
        assert!(output.stdout == bytes, "{path}: {} bytes", output.stdout.len());
        assert!(fixture.pm(&["job", "show", &id]).stdout.contains("<10485760 bytes>"));
    }
}

#[test]
fn long_lists_of_small_numbers_are_printed_in_full() {
    let fixture = Fixture::with_queues(&["mail"]);
    let bytes = json!({"legacy": vec![7; 20_000]}).to_string();
    let id = add_bytes(&fixture, "json", bytes.as_bytes());
    assert_eq!(fixture.pm(&["job", "get", "legacy", &id]).json(), json!(vec![7; 20_000]));
    let id = add_bytes(&fixture, "msgpack", &packed("b", &[255; 40]));
    assert_eq!(fixture.pm(&["job", "get", ".", &id]).json(), json!({"b": format!("0x{}", "ff".repeat(40))}));
}

#[test]
fn an_invalid_path_is_refused_with_a_caret() {
    let fixture = Fixture::with_queues(&["mail"]);
    let id = fixture.add(&["mail", "{}"]);
    let ran = fixture.pm(&["job", "get", "items[0]pdf", &id]);
    ran.assert_refused(2, &["expected . or [ here\n  items[0]pdf\n          ^\n"]);
    for path in ["a..b", "a.", "items[", "items[-1]", "items[\"a"] {
        fixture.pm(&["job", "get", path, &id]).assert_refused(2, &["\n  ", "^\n"]);
    }
}

#[test]
fn a_missing_value_is_reported_with_what_is_found() {
    let fixture = Fixture::with_queues(&["mail"]);
    let id = fixture.add(&["mail", r#"{"items": [1], "to": "ada"}"#]);
    let get = |path: &str| fixture.pm(&["job", "get", path, &id]);
    get("items[1]").assert(1, "", "Error: no value at items[1]: items is a list of 1\n");
    get("pdf").assert(1, "", "Error: no value at pdf: . is a map with the keys items, to\n");
    get("to.x").assert(1, "", "Error: no value at to.x: to is a string\n");
    get("items.x").assert(1, "", "Error: no value at items.x: items is a list of 1\n");
    fixture.pm(&["job", "get", "x", "00000000-0000-7000-8000-000000000000"]).assert_refused(1, &["not found"]);
    fixture.pm(&["job", "get", "x", "fffffffff0"]).assert_refused(1, &["no job matches"]);
    fixture.database.execute(&format!("update pm.job set payload = '\\x7b22' where id = '{id}'")).unwrap();
    get("to").assert_refused(1, &["cannot be decoded", "<2 bytes that are not valid json"]);
}

#[test]
fn jobs_are_found_by_their_contents() {
    let fixture = Fixture::with_queues(&["mail", "film"]);
    let described = fixture.add(&["mail", "1", "--description", "Send to ADA, please"]);
    let keyed = fixture.add(&["mail", "1", "--key", "for-ada"]);
    let film = fixture.add(&["film", r#"{"people": [{"name": "Ada Lovelace"}], "year": 1815}"#]);
    let failed = fixture.add(&["mail", "1"]);
    fixture.pm(&["job", "fail", &failed, "-m", "no ada here"]);
    fixture.add(&["mail", "\"other\""]);
    let expected = format!(
        "{failed}  mail  failed  reason: no ada here\n\
         {film}  film  pending  payload at people[0].name: Ada Lovelace\n\
         {keyed}  mail  pending  key: for-ada\n\
         {described}  mail  pending  description: Send to ADA, please\n"
    );
    fixture.pm(&["job", "search", "aDa"]).assert(0, &expected, "");
    let line = |number: usize| format!("{}\n", expected.lines().nth(number).unwrap());
    fixture.pm(&["job", "search", "ada", "--queue", "film"]).assert(0, &line(1), "");
    fixture.pm(&["job", "search", "ada", "-s", "failed"]).assert(0, &line(0), "");
    fixture.pm(&["job", "search", "ada", "--limit", "1"]).assert(0, &line(0), "");
    let by = |pattern: &str| fixture.pm(&["job", "search", pattern, "--json"]).json();
    let found = by("1815");
    assert_eq!(
        (&found[0]["id"], &found[0]["found"]),
        (&json!(film), &json!({"place": "payload at year", "excerpt": "1815"}))
    );
    assert_eq!(by("PEOPLE")[0]["found"]["place"], "key of the payload at .");
    assert_eq!(by("a").as_array().unwrap().len(), 4);
    let lines = fixture.pm(&["job", "search", "a", "--ndjson"]).stdout;
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json!(lines), by("a"));
}

#[test]
fn an_empty_pattern_is_refused_and_a_space_is_searched() {
    let fixture = Fixture::with_queues(&["mail"]);
    fixture.pm(&["job", "search", ""]).assert_refused(2, &["empty pattern", "pm job ls"]);
    fixture.pm(&["job", "search", " "]).assert_refused(1, &["no job matches"]);
    let id = fixture.add(&["mail", "\"two words\""]);
    fixture.add(&["mail", "\"word\""]);
    let expected = format!("{id}  mail  pending  payload at .: two words\n");
    fixture.pm(&["job", "search", " "]).assert(0, &expected, "");
    fixture.pm(&["job", "search", "twowords"]).assert_refused(1, &["no job matches"]);
    let none = fixture.pm(&["job", "search", "nowhere", "--json"]);
    assert_eq!((none.status, none.stdout.as_str()), (1, "[]\n"));
    fixture.pm(&["job", "search", "x", "-q", "male"]).assert_refused(1, &["\"male\" not found"]);
    fixture.pm(&["job", "search", "x", "--limit", "0"]).assert_refused(2, &["--limit"]);
}

#[test]
fn a_search_stops_after_50_mb_and_prints_what_it_found() {
    let fixture = Fixture::with_queues(&["mail"]);
    let oldest = fixture.add(&["mail", "\"needle\""]);
    let large = add_bytes(&fixture, "raw", &vec![b'x'; 26_000_000]);
    fixture.pm(&["job", "copy", &large, "-t", "mail"]);
    let newest = fixture.add(&["mail", "\"needle\""]);
    let found = |id: &str| format!("{id}  mail  pending  payload at .: needle\n");
    let ran = fixture.pm(&["job", "search", "needle"]);
    assert_eq!((ran.status, ran.stdout), (1, found(&newest)));
    assert!(ran.stderr.contains("stopped after 2 jobs") && ran.stderr.contains("--no-limit"), "{}", ran.stderr);
    let ran = fixture.pm(&["job", "search", "needle", "--json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap()[0]["id"], json!(newest));
    let expected = found(&newest) + &found(&oldest);
    fixture.pm(&["job", "search", "needle", "--no-limit"]).assert(0, &expected, "");
}
