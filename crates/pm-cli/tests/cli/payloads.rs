//! `pm job get` and `pm job search`

use crate::support::Place;
use serde_json::json;

fn add_bytes(place: &Place, codec: &str, bytes: &[u8]) -> String {
    let ran = place.pm_reading(&["job", "add", "mail", "-", "--codec", codec], bytes);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    ran.stdout.trim_end().to_owned()
}

/// Returns MessagePack of a map with one entry of bytes.
fn packed(key: &str, bytes: &[u8]) -> Vec<u8> {
    let mut packed = vec![0x81, 0xa0 | u8::try_from(key.len()).unwrap()];
    packed.extend(key.as_bytes());
    packed.push(0xc6);
    packed.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
    packed.extend(bytes);
    packed
}

#[test]
fn parts_of_a_payload_come_out_as_they_are() {
    let place = Place::with_queues(&["mail"]);
    let payload = r#"{"to": "Ada\n", "items": [{"a.b": 1.10, "x": [1, {"y": null}]}], "ok": true, "big": 123456789012345678901234567890, "7": "seven"}"#;
    let id = place.add(&["mail", payload]);
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
        place.pm(&["job", "get", path, &id]).assert(0, expected, "");
    }
    assert_eq!(place.pm(&["job", "get", ".", &id[20..]]).json()["ok"], json!(true));
    place.pm(&["job", "get", "to", &id, "--json"]).assert(0, "\"Ada\\n\"\n", "");
    place.pm(&["job", "get", "items[0].x", &id, "--ndjson"]).assert(0, "[1,{\"y\":null}]\n", "");
}

#[test]
fn ten_megabytes_come_out_byte_for_byte() {
    let place = Place::with_queues(&["mail"]);
    let bytes: Vec<u8> = (0..10_485_760u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (path, id) in
        [("pdf", add_bytes(&place, "msgpack", &packed("pdf", &bytes))), (".", add_bytes(&place, "raw", &bytes))]
    {
        let output = place.command().args(["job", "get", path, &id]).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
        assert!(output.stdout == bytes, "{path}: {} bytes", output.stdout.len());
        assert!(place.pm(&["job", "show", &id]).stdout.contains("<10485760 bytes>"));
    }
}

#[test]
fn long_lists_of_small_numbers_are_not_counted_but_printed() {
    let place = Place::with_queues(&["mail"]);
    let bytes = json!({"legacy": vec![7; 20_000]}).to_string();
    let id = add_bytes(&place, "json", bytes.as_bytes());
    assert_eq!(place.pm(&["job", "get", "legacy", &id]).json(), json!(vec![7; 20_000]));
    let id = add_bytes(&place, "msgpack", &packed("b", &[255; 40]));
    assert_eq!(place.pm(&["job", "get", ".", &id]).json(), json!({"b": format!("0x{}", "ff".repeat(40))}));
}

#[test]
fn a_bad_path_has_a_caret_under_the_place() {
    let place = Place::with_queues(&["mail"]);
    let id = place.add(&["mail", "{}"]);
    let ran = place.pm(&["job", "get", "items[0]pdf", &id]);
    ran.assert_refused(2, &["a . or a [ belongs here\n  items[0]pdf\n          ^\n"]);
    for path in ["a..b", "a.", "items[", "items[-1]", "items[\"a"] {
        place.pm(&["job", "get", path, &id]).assert_refused(2, &["\n  ", "^\n"]);
    }
}

#[test]
fn where_nothing_is_it_says_what_is_there() {
    let place = Place::with_queues(&["mail"]);
    let id = place.add(&["mail", r#"{"items": [1], "to": "ada"}"#]);
    let get = |path: &str| place.pm(&["job", "get", path, &id]);
    get("items[1]").assert(1, "", "Error: nothing is at items[1]: items is a list of 1\n");
    get("pdf").assert(1, "", "Error: nothing is at pdf: . is a map with the keys items, to\n");
    get("to.x").assert(1, "", "Error: nothing is at to.x: to is a text\n");
    get("items.x").assert(1, "", "Error: nothing is at items.x: items is a list of 1\n");
    place.pm(&["job", "get", "x", "00000000-0000-7000-8000-000000000000"]).assert_refused(1, &["not found"]);
    place.pm(&["job", "get", "x", "fffffffff0"]).assert_refused(1, &["no job's id ends in"]);
    place.database.execute(&format!("update pm.job set payload = '\\x7b22' where id = '{id}'")).unwrap();
    get("to").assert_refused(1, &["cannot be read", "<2 bytes that are no json"]);
}

#[test]
fn jobs_are_found_by_what_is_in_them() {
    let place = Place::with_queues(&["mail", "film"]);
    let described = place.add(&["mail", "1", "--description", "Send to ADA, please"]);
    let keyed = place.add(&["mail", "1", "--key", "for-ada"]);
    let held = place.add(&["film", r#"{"people": [{"name": "Ada Lovelace"}], "year": 1815}"#]);
    let failed = place.add(&["mail", "1"]);
    place.pm(&["job", "fail", &failed, "-m", "no ada here"]);
    place.add(&["mail", "\"someone else\""]);
    let expected = format!(
        "{failed}  mail  failed  reason: no ada here\n\
         {held}  film  pending  payload at people[0].name: Ada Lovelace\n\
         {keyed}  mail  pending  key: for-ada\n\
         {described}  mail  pending  description: Send to ADA, please\n"
    );
    place.pm(&["job", "search", "aDa"]).assert(0, &expected, "");
    let line = |number: usize| format!("{}\n", expected.lines().nth(number).unwrap());
    place.pm(&["job", "search", "ada", "--queue", "film"]).assert(0, &line(1), "");
    place.pm(&["job", "search", "ada", "-s", "failed"]).assert(0, &line(0), "");
    place.pm(&["job", "search", "ada", "--limit", "1"]).assert(0, &line(0), "");
    let by = |pattern: &str| place.pm(&["job", "search", pattern, "--json"]).json();
    let found = by("1815");
    assert_eq!(
        (&found[0]["id"], &found[0]["found"]),
        (&json!(held), &json!({"place": "payload at year", "excerpt": "1815"}))
    );
    assert_eq!(by("PEOPLE")[0]["found"]["place"], "key of the payload at .");
    assert_eq!(by("a").as_array().unwrap().len(), 4);
    let lines = place.pm(&["job", "search", "a", "--ndjson"]).stdout;
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json!(lines), by("a"));
}

#[test]
fn an_empty_pattern_is_refused_and_a_blank_one_is_text() {
    let place = Place::with_queues(&["mail"]);
    place.pm(&["job", "search", ""]).assert_refused(2, &["empty pattern", "pm job ls"]);
    place.pm(&["job", "search", " "]).assert_refused(1, &["no job matches"]);
    let id = place.add(&["mail", "\"two words\""]);
    place.add(&["mail", "\"word\""]);
    let expected = format!("{id}  mail  pending  payload at .: two words\n");
    place.pm(&["job", "search", " "]).assert(0, &expected, "");
    place.pm(&["job", "search", "twowords"]).assert_refused(1, &["no job matches"]);
    let none = place.pm(&["job", "search", "nowhere", "--json"]);
    assert_eq!((none.status, none.stdout.as_str()), (1, "[]\n"));
    place.pm(&["job", "search", "x", "-q", "male"]).assert_refused(1, &["\"male\" not found"]);
    place.pm(&["job", "search", "x", "--limit", "0"]).assert_refused(2, &["--limit"]);
}

#[test]
fn a_search_stops_after_50_mb_and_keeps_what_it_found() {
    let place = Place::with_queues(&["mail"]);
    let oldest = place.add(&["mail", "\"needle\""]);
    let large = add_bytes(&place, "raw", &vec![b'x'; 26_000_000]);
    place.pm(&["job", "copy", &large, "-t", "mail"]);
    let newest = place.add(&["mail", "\"needle\""]);
    let found = |id: &str| format!("{id}  mail  pending  payload at .: needle\n");
    let ran = place.pm(&["job", "search", "needle"]);
    assert_eq!((ran.status, ran.stdout), (1, found(&newest)));
    assert!(ran.stderr.contains("stopped after 2 jobs") && ran.stderr.contains("--no-limit"), "{}", ran.stderr);
    let ran = place.pm(&["job", "search", "needle", "--json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap()[0]["id"], json!(newest));
    let expected = found(&newest) + &found(&oldest);
    place.pm(&["job", "search", "needle", "--no-limit"]).assert(0, &expected, "");
}
