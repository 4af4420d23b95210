//! `pm db doctor`

use crate::support::Fixture;
use serde_json::json;

#[test]
fn a_healthy_database_has_no_problems() {
    let fixture = Fixture::with_queues(&["mail"]);
    fixture.add(&["mail", "1"]);
    fixture.pm(&["db", "doctor"]).assert(0, "", "No problems found.\n");
    fixture.pm(&["db", "doctor", "--json"]).assert(0, "[]\n", "");
    fixture.pm(&["db", "doctor", "--ndjson"]).assert(0, "", "");
    fixture.pm(&["db", "doctor", "--threshold", "soon"]).assert_refused(2, &["like 90s"]);
}

#[test]
fn problems_are_printed_with_the_reason_and_the_fix() {
    let fixture = Fixture::with_queues(&["my mail"]);
    fixture.add(&["my mail", "1"]);
    fixture.database.execute("update pm.job set created_at = now() - interval '2 h'").unwrap();
    fixture.database.execute("drop index pm.job_wait").unwrap();
    let ran = fixture.pm(&["db", "doctor"]);
    let expected = "\
missing_index: index job_wait is missing
  why: statements that need it read whole tables, or the constraint that it enforces is not checked
  run: psql \"$PM_DATABASE_URL\" -c 'create index concurrently job_wait on \"pm\".job (run_at) where seq is null and run_at is not null and not paused'

unserved_queue: queue \"my mail\" has ready jobs, the oldest waiting for 2h 0m, and none in progress
  why: no worker seems to follow this queue; its jobs wait for ever
  run: pm work 'my mail' -- COMMAND
";
    ran.assert(1, expected, "Error: 2 problems found\n");
    let ran = fixture.pm(&["db", "doctor", "--json"]);
    let findings: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (ran.status, &findings[0]["check"], &findings[1]["check"]),
        (1, &json!("missing_index"), &json!("unserved_queue"))
    );
    assert!(["what", "why", "remedy"].iter().all(|field| findings[0][field].is_string()), "{findings}");
    assert_eq!(fixture.pm(&["db", "doctor", "--ndjson"]).stdout.lines().count(), 2);
    let ran = fixture.pm(&["db", "doctor", "--threshold", "3h"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (1, "Error: 1 problem found\n"), "{}", ran.stdout);
}

#[test]
fn the_printed_commands_name_the_schema() {
    let fixture = Fixture::empty();
    for arguments in [&["db", "migrate"][..], &["queue", "create", "mail"]] {
        assert_eq!(fixture.pm(&[arguments, &["--schema", "my jobs"]].concat()).status, 0);
    }
    fixture.database.execute("update \"my jobs\".queue set name = null").unwrap();
    let found = fixture.pm(&["db", "doctor", "--schema", "my jobs", "--json"]).stdout;
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found[0]["remedy"], "pm --schema 'my jobs' db prune", "{found}");
}

/// The printed fixes are shell commands: running them solves the problems.
#[test]
fn the_printed_commands_fix_the_problems() {
    let fixture = Fixture::with_queues(&["mail"]);
    for index in ["job_wait", "job_key", "job_failed"] {
        fixture.database.execute(&format!("drop index pm.{index}")).unwrap();
    }
    fixture.database.execute("alter table pm.job set (autovacuum_enabled = false)").unwrap();
    fixture.add(&["mail", "1"]);
    fixture.database.execute("update pm.queue set name = null").unwrap();
    let findings = fixture.pm(&["db", "doctor", "--ndjson"]).stdout;
    let findings: Vec<serde_json::Value> = findings.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(findings.len(), 5, "{findings:?}");
    let pm = std::path::Path::new(env!("CARGO_BIN_EXE_pm")).parent().unwrap();
    let path = format!("{}:{}", pm.display(), std::env::var("PATH").unwrap());
    for finding in &findings {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", finding["remedy"].as_str().unwrap()]).env("PATH", &path);
        let output = shell.env("PM_DATABASE_URL", fixture.database.url()).output().unwrap();
        assert!(output.status.success(), "{finding}: {}", String::from_utf8_lossy(&output.stderr));
    }
    fixture.pm(&["db", "doctor"]).assert(0, "", "No problems found.\n");
}
