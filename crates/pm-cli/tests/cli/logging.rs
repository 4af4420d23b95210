//! `--log` and `--log-format`.

use crate::support::Fixture;
use crate::work::Working;
use serde_json::Value;

#[test]
fn a_worker_logs_json_without_payloads_and_passwords() {
    let fixture = Fixture::with_queues(&["mail"]);
    let id = fixture.add(&["mail", "\"topsecret\""]);
    let url = fixture.database.url();
    // The server trusts local connections, so that any password will do.
    let (scheme, rest) = url.split_once("://").unwrap();
    let (user, host) = rest.split_once('@').unwrap_or(("postgres", rest));
    let url = format!("{scheme}://{}:hunter22@{host}", user.split(':').next().unwrap());
    let mut command = fixture.command();
    command.env("PM_DATABASE_URL", url);
    command.args(["work", "mail", "--ndjson", "--log", "debug", "--log-format", "json", "--", "sh", "-c"]);
    let mut working = Working::start(command.arg("echo no route >&2; exit 75"));
    assert_eq!(working.next()["result"], "soft_failed");
    working.terminate();
    let (status, stderr) = working.end();
    assert_eq!(status, 0, "{stderr}");
    let lines: Vec<Value> = stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let job = lines.iter().find(|line| line["span"]["name"] == "pm.job").unwrap_or_else(|| panic!("{stderr}"));
    assert_eq!(
        (&job["level"], &job["target"], &job["fields"]["message"]),
        (&"INFO".into(), &"pm".into(), &"close".into())
    );
    let span = &job["span"];
    assert_eq!((&span["job"], &span["queue"]), (&id.into(), &"mail".into()));
    assert_eq!((&span["attempt"], &span["outcome"]), (&1.into(), &"soft_failed".into()));
    for name in ["pm.claim", "pm.settle"] {
        assert!(lines.iter().any(|line| line["span"]["name"] == name), "{name} is missing in {stderr}");
    }
    for secret in ["topsecret", "hunter22", "no route"] {
        assert!(!lines.iter().any(|line| line.to_string().contains(secret)), "{stderr}");
    }
}

#[test]
fn without_the_option_nothing_is_logged_and_text_is_the_default_format() {
    let fixture = Fixture::with_queues(&["mail"]);
    let ran = fixture.pm(&["job", "add", "mail", "1"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let ran = fixture.pm(&["--log", "debug", "job", "add", "mail", "1"]);
    assert!(
        ran.status == 0 && ran.stderr.contains("DEBUG pm.enqueue{queue=\"mail\" jobs=1 outcome=\"inserted\"}"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains('\u{1b}'), "without colours");
    let ran = fixture.pm(&["--log", "loud", "job", "ls"]);
    ran.assert_refused(2, &["loud", "--log"]);
}
