//! `pm job …`

use crate::support::{Fixture, Ran, redact, run};
use serde_json::json;

#[test]
fn no_jobs_are_an_empty_list_and_an_unknown_queue_is_an_error() {
    let fixture = Fixture::with_queues(&["mail"]);
    fixture.pm(&["job", "ls"]).assert(0, "", "No jobs.\n");
    fixture.pm(&["job", "ls", "--queue", "mail", "--status", "failed"]).assert(0, "", "No jobs.\n");
    fixture.pm(&["job", "ls", "--json"]).assert(0, "[]\n", "");
    fixture.pm(&["job", "ls", "--ndjson"]).assert(0, "", "");
    fixture.pm(&["job", "ls", "-q", "male"]).assert_refused(1, &["queue \"male\" not found"]);
}

#[test]
fn jobs_are_listed_newest_first() {
    let fixture = Fixture::with_queues(&["mail"]);
    let older = fixture.add(&["mail", "1", "--description", "first"]);
    let newer = fixture.add(&["mail", "2", "--paused"]);
    let listed = fixture.pm(&["job", "ls"]);
    assert_eq!(listed.status, 0);
    let order: Vec<_> = listed.stdout.lines().skip(1).map(|line| &line[..36]).collect();
    assert_eq!(order, [&newer, &older]);
    let [title, newest, oldest] = listed.stdout.lines().collect::<Vec<_>>()[..] else { panic!("{}", listed.stdout) };
    let fields = |line: &str| redact(line).split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    assert_eq!(fields(title), "ID QUEUE STATUS RETRIES CREATED DESCRIPTION");
    assert!(fields(newest).starts_with("<id> mail paused 0 <time> "), "{newest}");
    assert!(fields(oldest).starts_with("<id> mail pending 0 <time> ") && oldest.ends_with("  first"), "{oldest}");
}

#[test]
fn lists_are_filtered_and_paged() {
    let fixture = Fixture::with_queues(&["mail", "film"]);
    let film = fixture.add(&["film", "0"]);
    let ids: Vec<_> = ["1", "2", "3"].iter().map(|payload| fixture.add(&["mail", payload])).collect();
    let paused = fixture.add(&["mail", "4", "--paused"]);
    let listed = |arguments: &[&str]| -> Vec<String> {
        let listed = fixture.pm(&[&["job", "ls", "--json"], arguments].concat()).json();
        listed.as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed(&["-q", "film"]), [film.as_str()]);
    assert_eq!(listed(&["-s", "paused"]), [paused.as_str()]);
    assert_eq!(listed(&["-q", "mail", "-s", "pending", "-l", "2"]), [ids[2].clone(), ids[1].clone()]);
    assert_eq!(listed(&["-l", "2", "--after", &ids[1]]), [ids[0].clone(), film.clone()]);
    assert_eq!(listed(&["--after", &ids[0][20..]]), [film], "a suffix is accepted");
    for status in ["in-progress", "in_progress", "finished", "failed"] {
        assert_eq!(listed(&["-s", status]), Vec::<String>::new());
    }
}

#[test]
fn invalid_filters_are_refused_with_the_reason() {
    let fixture = Fixture::with_queues(&["mail"]);
    for (option, value, why) in [
        ("--status", "bogus", "pending, paused, in-progress, finished, failed"),
        ("--limit", "0", "1..=100000"),
        ("--limit", "many", "--limit"),
        ("--after", "xyz", "not a hex digit"),
        ("--queue", "", "is empty"),
    ] {
        fixture.pm(&["job", "ls", option, value]).assert_refused(2, &[why]);
    }
    fixture.pm(&["job", "ls", "--after", "abc"]).assert_refused(1, &["no job matches abc"]);
}

#[test]
fn json_of_a_list_has_the_documented_names() {
    let fixture = Fixture::with_queues(&["mail"]);
    let id = fixture.add(&["mail", "{}", "--priority", "-3", "--key", "k", "--description", "d"]);
    let listed = fixture.pm(&["job", "ls", "--json"]).json();
    let job = listed[0].as_object().unwrap();
    let names = "attempt cancelled codec created description ended expires id key lease max_retries payload_bytes priority progress queue reason result_bytes retries run_at snoozes status timeout_ms trace worker";
    let mut found: Vec<_> = job.keys().map(String::as_str).collect();
    found.sort_unstable();
    assert_eq!(found.join(" "), names);
    assert_eq!(
        (&job["id"], &job["priority"], &job["key"], &job["status"]),
        (&json!(id), &json!(-3), &json!("k"), &json!("pending"))
    );
    assert!(job["created"].as_str().unwrap().ends_with('Z'), "{}", job["created"]);
    let lines = fixture.pm(&["job", "ls", "--ndjson"]).stdout;
    assert_eq!(serde_json::from_str::<serde_json::Value>(lines.trim_end()).unwrap(), listed[0]);
}

#[test]
fn a_job_is_shown_as_yaml() {
    let fixture = Fixture::with_queues(&["mail"]);
    let payload = r#"{"to": "ada", "amount": 1.10, "tags": ["a b", "yes"], "big": 123456789012345678901234567890}"#;
    let id = fixture.add(&[
        "mail",
        payload,
        "--priority",
        "5",
        "--key",
        "welcome: ada",
        "--description",
        "two\nlines",
        "--in",
        "1h",
    ]);
    let expected = "\
id: <id>
queue: mail
status: pending
priority: 5
created: <time> (<ago>)
retries: 0
max_retries: 8
run_at: <time> (in 59m)
key: \"welcome: ada\"
description: |-
  two
  lines
payload:
  to: ada
  amount: 1.10
  tags:
    - a b
    - \"yes\"
  big: 123456789012345678901234567890
";
    let shown = fixture.pm(&["job", "show", &id]);
    assert_eq!((shown.status, redact(&shown.stdout).as_str()), (0, expected));
    let shown = fixture.pm(&["job", "show", &id, "--json"]).json();
    assert_eq!((&shown["payload"]["to"], &shown["attempts"]), (&json!("ada"), &json!([])));
    assert!(fixture.pm(&["job", "show", &id, "--ndjson"]).stdout.contains(r#""amount":1.10,"#));
}

#[test]
fn attempts_leases_and_reasons_are_shown() {
    let fixture = Fixture::with_queues(&["mail"]);
    let id = fixture.add(&["mail", "null"]);
    let leased = fixture.add(&["mail", "null"]);
    let sql = format!(
        "update pm.job set state = 3, seq = null, attempt = 2, retry_count = 1, reason = 'no such\nmailbox', ended_at = now(), \
         failed_at = now(), worker = 'w-1' where id = '{id}';
         insert into pm.attempt (job_id, attempt, ended_at, verdict, worker, reason) values
         ('{id}', 1, now(), 1, 'w-0', 'busy'), ('{id}', 2, now(), 2, 'w-1', E'no such\\nmailbox');
         update pm.job set state = 1, attempt = 1, lease = 77, worker = 'w-2', lease_expires_at = now() + interval '90 s' \
         where id = '{leased}'"
    );
    fixture.database.execute(&sql).unwrap();
    let shown = fixture.pm(&["job", "show", &id]);
    let expected = "\
id: <id>
queue: mail
status: failed
priority: 0
created: <time> (<ago>)
retries: 1
max_retries: 8
ended: <time> (<ago>)
reason: |-
  no such
  mailbox
attempts:
  - attempt: 1
    ended: <time> (<ago>)
    ending: soft fail
    worker: w-0
    reason: busy
  - attempt: 2
    ended: <time> (<ago>)
    ending: hard fail
    worker: w-1
    reason: |-
      no such
      mailbox
payload: null
";
    assert_eq!(redact(&shown.stdout), expected);
    let shown = fixture.pm(&["job", "show", &leased]).stdout;
    assert!(redact(&shown).contains("lease:\n  until: <time> (in 1m)\n  worker: w-2\n  number: 77\n"), "{shown}");
    let shown = fixture.pm(&["job", "show", &leased, "--json"]).json();
    assert_eq!((&shown["status"], &shown["lease"]["number"]), (&json!("in_progress"), &json!("77")));
    assert!(fixture.pm(&["queue", "ls"]).stdout.contains("mail   active "));
}

#[test]
fn payloads_of_every_codec_are_shown() {
    let fixture = Fixture::with_queues(&["mail"]);
    let shown = |id: &str| {
        let shown = fixture.pm(&["job", "show", id]).stdout;
        shown.split_once("payload: ").unwrap_or_else(|| panic!("{shown}")).1.trim_end().to_owned()
    };
    let add = |codec: &str, bytes: &[u8]| {
        let ran = fixture.pm_reading(&["job", "add", "mail", "-", "--codec", codec], bytes);
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        ran.stdout.trim_end().to_owned()
    };
    assert_eq!(shown(&add("raw", b"\x00\xff")), "\"0x00ff\"");
    assert_eq!(shown(&add("raw", &[7; 33])), "<33 bytes>".to_owned().replace('<', "\"<").replace('>', ">\""));
    assert_eq!(shown(&add("raw", b"")), "\"0x\"");
    assert_eq!(shown(&add("msgpack", b"\xc4\x02\x00\xff")), "\"0x00ff\"");
    assert_eq!(shown(&add("msgpack", b"\"text\"")), "text");
    assert_eq!(shown(&add("json", b"  [] \n")), "[]");
    let broken = add("json", b"{}");
    fixture.database.execute(&format!("update pm.job set payload = '\\x7b22' where id = '{broken}'")).unwrap();
    assert!(shown(&broken).contains("<2 bytes that are not valid json: EOF"), "{}", shown(&broken));
    let shown = fixture.pm(&["job", "show", &broken, "--json"]).json();
    assert_eq!(shown["payload"], json!(null));
    assert!(shown["payload_problem"].as_str().unwrap().contains("2 bytes"));
}

#[test]
fn any_suffix_of_an_id_is_accepted() {
    let fixture = Fixture::with_queues(&["mail"]);
    let id = fixture.add(&["mail", "1"]);
    let digits = id.replace('-', "");
    for suffix in [&id, &digits, &digits.to_uppercase(), &digits[31..], &digits[20..], &format!("-{}-", &id[10..])] {
        let shown = fixture.pm(&["job", "show", suffix]);
        assert!(shown.status == 0 && shown.stdout.starts_with(&format!("id: {id}\n")), "{suffix}: {}", shown.stderr);
    }
    for length in 13..=31 {
        assert_eq!(fixture.pm(&["job", "show", &digits[32 - length..], "--json"]).json()["id"], id, "{length} digits");
    }
    fixture.pm(&["job", "show", "00000000-0000-7000-8000-000000000000"]).assert_refused(1, &["not found"]);
    fixture.pm(&["job", "show", "ffffffffff0"]).assert_refused(1, &["no job matches ffffffffff0"]);
    let long = "a".repeat(33);
    for (invalid, why) in [("zzz", "'z'"), ("", "no hex digit"), ("-", "no hex digit"), (&long, "33 hex digits")] {
        fixture.pm(&["job", "show", invalid]).assert_refused(2, &[why]);
    }
}

#[test]
fn an_ambiguous_suffix_lists_up_to_ten_jobs() {
    let fixture = Fixture::with_queues(&["mail"]);
    let insert = |from: u32, to: u32| {
        let sql = format!(
            "insert into pm.job (id, queue_id, priority, codec, payload, seq) \
             select ('01900000-0000-7000-8000-' || lpad(to_hex(n), 8, '0') || 'beef')::uuid, id, 0, 0, 'null', n \
             from pm.queue, generate_series({from}, {to}) n"
        );
        fixture.database.execute(&sql).unwrap();
    };
    insert(1, 2);
    fixture.pm(&["job", "show", "be-EF"]).assert(
        2,
        "",
        "Error: beef matches several jobs:\n  \
           01900000-0000-7000-8000-00000002beef  mail  pending\n  \
           01900000-0000-7000-8000-00000001beef  mail  pending\n\
         Hint: give more digits\n",
    );
    insert(3, 12);
    let ran = fixture.pm(&["job", "show", "beef"]);
    ran.assert_refused(2, &["00000cbeef", "000003beef", "… and more"]);
    assert_eq!(ran.stderr.matches("  mail  pending").count(), 10);
    assert_eq!(fixture.pm(&["job", "show", "00000cbeef"]).status, 0);
}

#[test]
fn a_job_is_added_and_its_id_printed() {
    let fixture = Fixture::with_queues(&["mail"]);
    let added = fixture.pm(&["job", "add", "mail", r#"{"to": "ada"}"#, "--priority", "-7"]);
    assert_eq!((redact(&added.stdout).as_str(), added.status, added.stderr.as_str()), ("<id>\n", 0, ""));
    let id = added.stdout.trim_end();
    assert_eq!(
        fixture.value(&format!("select convert_from(payload, 'utf8') from pm.job where id = '{id}'")),
        r#"{"to": "ada"}"#
    );
    let added = fixture.pm(&["job", "add", "mail", "1", "--json"]).json();
    assert_eq!(added["added"], true);
    let file = fixture.home.path().join("payload.bin");
    std::fs::write(&file, [0, 159, 146, 150]).unwrap();
    let id = fixture.add(&["mail", "--codec", "raw", "--file", file.to_str().unwrap()]);
    assert_eq!(fixture.value(&format!("select encode(payload, 'hex') from pm.job where id = '{id}'")), "009f9296");
    let from_stdin = fixture.pm_reading(&["job", "add", "mail", "-"], b"[1, 2]\n");
    assert_eq!(from_stdin.status, 0, "{}", from_stdin.stderr);
    assert_eq!(fixture.value("select count(*) from pm.job"), "4");
}

#[test]
fn a_job_starts_at_its_due_time() {
    let fixture = Fixture::with_queues(&["mail"]);
    let run_at = |id: &str| {
        fixture.value(&format!(
            "select to_char(run_at at time zone 'utc', 'YYYY-MM-DD HH24:MI') from pm.job where id = '{id}'"
        ))
    };
    let utc = fixture.add(&["mail", "1", "--at", "2100-05-01T12:00:00+02:00"]);
    assert_eq!(run_at(&utc), "2100-05-01 10:00");
    let mut command = fixture.command();
    command.env("TZ", "Europe/Berlin").args(["job", "add", "mail", "1", "--at", "2100-05-01 12:00"]);
    let local: Ran = run(&mut command, b"");
    assert_eq!(run_at(local.stdout.trim_end()), "2100-05-01 10:00", "{}", local.stderr);
    let soon = fixture.add(&["mail", "1", "--in", "1h30m"]);
    let left = fixture
        .value(&format!("select round(extract(epoch from run_at - created_at)) from pm.job where id = '{soon}'"));
    assert_eq!(left, "5400");
    let past = fixture.add(&["mail", "1", "--at", "2001-01-01T00:00:00Z"]);
    assert_eq!(fixture.pm(&["job", "show", &past, "--json"]).json()["status"], "pending");
    fixture.pm(&["job", "add", "mail", "1", "--at", "tomorrow"]).assert_refused(2, &["2030-05-01T12:00"]);
    fixture.pm(&["job", "add", "mail", "1", "--in", "10"]).assert_refused(2, &["unit"]);
    fixture.pm(&["job", "add", "mail", "1", "--in", "1h", "--at", "2030-05-01"]).assert_refused(2, &["cannot be used"]);
}

#[test]
fn a_reserved_key_prevents_a_second_job() {
    let fixture = Fixture::with_queues(&["mail"]);
    let first = fixture.add(&["mail", "1", "--key", "k"]);
    let second = fixture.pm(&["job", "add", "mail", "2", "--key", "k"]);
    let sentence = format!("No job was added: the key is reserved by job {first}, which is pending.\n");
    second.assert(0, &format!("{first}\n"), &sentence);
    let second = fixture.pm(&["job", "add", "mail", "2", "--key", "k", "--json"]).json();
    assert_eq!(second, json!({"id": first, "added": false}));
}

#[test]
fn invalid_payloads_and_options_are_refused_with_the_reason() {
    let fixture = Fixture::with_queues(&["mail"]);
    fixture.pm(&["job", "add", "mail", r#"{"a": }"#]).assert_refused(2, &["not valid JSON", "line 1 column 7"]);
    fixture.pm(&["job", "add", "mail", "hello"]).assert_refused(2, &["not valid JSON", "double quotes"]);
    fixture.pm(&["job", "add", "mail", r#""\ud800""#]).assert_refused(2, &["not valid JSON", "byte 1", "surrogate"]);
    fixture
        .pm(&["job", "add", "mail", "--codec", "msgpack", "[18446744073709551616]"])
        .assert_refused(2, &["18446744073709551616", "byte 2", "--codec json"]);
    fixture.pm(&["job", "add", "mail"]).assert_refused(2, &["missing payload", "--file"]);
    fixture.pm(&["job", "add", "mail", "1", "--codec", "xml"]).assert_refused(2, &["json, msgpack, raw"]);
    fixture.pm(&["job", "add", "mail", "--file", "no/such/file"]).assert_refused(2, &["no/such/file", "No such file"]);
    fixture.pm(&["job", "add", "mail", "1", "--priority", "high"]).assert_refused(2, &["--priority"]);
    fixture.pm(&["job", "add", "mail", "1", "--key", ""]).assert_refused(2, &["the key is empty"]);
    fixture.pm(&["job", "add", "mail", "1", "--description", &"x".repeat(8193)]).assert_refused(2, &["8193 bytes"]);
    fixture.pm(&["job", "add", "male", "1"]).assert_refused(1, &["queue \"male\" not found"]);
    fixture
        .pm_reading(&["job", "add", "mail", "-", "--codec", "msgpack"], b"\x81")
        .assert_refused(2, &["not MessagePack"]);
    assert_eq!(fixture.value("select count(*) from pm.job"), "0");
}

#[test]
fn a_batch_adds_a_job_for_each_line() {
    let fixture = Fixture::with_queues(&["mail"]);
    let lines: String = (0..2_500).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    let added = fixture.pm_reading(&["job", "add", "mail", "--batch", "--priority", "2"], lines.as_bytes());
    assert_eq!((added.status, added.stderr.as_str()), (0, "Added 2500 jobs.\n"));
    let last = added.stdout.lines().last().unwrap();
    assert_eq!(
        fixture.value(&format!("select convert_from(payload, 'utf8') from pm.job where id = '{last}'")),
        r#"{"n": 2499}"#
    );
    assert_eq!(fixture.value("select count(*) from pm.job where priority = 2"), "2500");
    let added = fixture.pm_reading(&["job", "add", "mail", "--batch", "--json"], b"1\n\n2").json();
    assert_eq!(added.as_array().unwrap().len(), 2, "empty lines are skipped");
    let added = fixture.pm_reading(&["job", "add", "mail", "--batch", "--ndjson"], b"1\n2\n");
    assert_eq!((added.status, added.stdout.lines().count()), (0, 2));
    fixture.pm_reading(&["job", "add", "mail", "--batch"], b"").assert(0, "", "Added 0 jobs.\n");
}

#[test]
fn an_invalid_line_ends_a_batch_and_is_reported() {
    let fixture = Fixture::with_queues(&["mail"]);
    let added = fixture.pm_reading(&["job", "add", "mail", "--batch"], b"1\n2\n{oops\n4\n");
    assert_eq!((added.status, added.stdout.lines().count()), (2, 2));
    assert!(added.stderr.contains("line 3: ") && added.stderr.contains("added: 2 jobs"), "{}", added.stderr);
    assert_eq!(fixture.value("select count(*) from pm.job"), "2");
    fixture.pm(&["job", "add", "mail", "1", "--batch"]).assert_refused(2, &["--file"]);
    fixture.pm(&["job", "add", "mail", "--batch", "--key", "k"]).assert_refused(2, &["cannot be used"]);
}

#[test]
fn control_characters_of_users_are_escaped() {
    let fixture = Fixture::with_queues(&["mail"]);
    let id = fixture.add(&[
        "mail",
        "{\"a\\u001b[31m\": \"\\u009b1m\"}",
        "--description",
        "\u{1b}]0;owned\u{7}\u{9b}31m",
        "--key",
        "k\u{202e}",
    ]);
    fixture.database.execute(&format!("update pm.job set reason = E'\\x1b[2Jgone' where id = '{id}'")).unwrap();
    for arguments in [
        &["job", "ls"][..],
        &["job", "ls", "--json"],
        &["job", "ls", "--ndjson"],
        &["job", "show", &id],
        &["job", "show", &id, "--json"],
    ] {
        let ran = fixture.pm(arguments);
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        let odd = ran.stdout.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(odd, None, "{arguments:?}: {}", ran.stdout);
    }
}
