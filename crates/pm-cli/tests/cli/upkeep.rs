//! `pm db reap`, `pm db prune`, `pm reap`, shell completions and man pages.

use crate::support::{Fixture, run};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Puts all jobs in progress; their leases expire after this time.
fn lease_all(fixture: &Fixture, left: &str) {
    fixture
        .database
        .execute(&format!(
            "update pm.job set state = 1, attempt = 1, lease = 7, worker = 'w', lease_expires_at = now() + interval '{left}'; \
             insert into pm.claim_frontier select queue_id, priority, max(seq) from pm.job where seq is not null group by 1, 2 \
             on conflict (queue_id, priority) do update set seq = excluded.seq"
        ))
        .unwrap();
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

#[test]
fn reaping_reports_the_jobs_and_when_the_next_lease_expires() {
    let fixture = Fixture::with_queues(&["mail"]);
    fixture.pm(&["db", "reap"]).assert(0, "", "Reaped 0 jobs; nothing is going to expire.\n");
    for payload in ["1", "2", "3"] {
        fixture.add(&["mail", payload]);
    }
    lease_all(&fixture, "-1 s");
    fixture.pm(&["db", "reap"]).assert(0, "", "Reaped 3 jobs; nothing is going to expire.\n");
    fixture.database.execute("delete from pm.job").unwrap();
    fixture.add(&["mail", "1"]);
    lease_all(&fixture, "1199.9 s");
    fixture.pm(&["db", "reap"]).assert(0, "", "Reaped 0 jobs; the next lease or job expires in 19m 59s.\n");
    let reaped = fixture.pm(&["db", "reap", "--json"]).json();
    let next = reaped["next_expiry_in_ms"].as_u64().unwrap();
    assert!(reaped["reaped"] == 0 && (1_100_000..1_200_000).contains(&next), "{reaped}");
}

#[test]
fn pruning_deletes_what_is_not_retained() {
    let fixture = Fixture::with_queues(&["mail", "film"]);
    assert_eq!(fixture.pm(&["queue", "set", "mail", "--retain", "1h"]).status, 0);
    for queue in ["mail", "mail", "film"] {
        let id = fixture.add(&[queue, "1"]);
        fixture.pm(&["job", "done", &id]);
    }
    fixture.database.execute("update pm.job set ended_at = now() - interval '2 h'").unwrap();
    fixture.add(&["mail", "1"]);
    fixture.pm(&["db", "prune"]).assert(0, "", "Pruned 2 jobs.\n");
    assert_eq!(fixture.pm(&["db", "prune", "--json"]).json(), json!({"pruned": 0}));
    assert_eq!(fixture.value("select count(*) from pm.job"), "2");
}

#[test]
fn the_reaper_reaps_promotes_and_prunes_until_sigterm() {
    let fixture = Fixture::with_queues(&["mail"]);
    assert_eq!(fixture.pm(&["queue", "set", "mail", "--retain", "1h", "--backoff", "0s", "--jitter", "0%"]).status, 0);
    let ended = fixture.add(&["mail", "1"]);
    fixture.pm(&["job", "done", &ended]);
    let due = fixture.add(&["mail", "1", "--in", "1h"]);
    fixture.add(&["mail", "1"]);
    fixture.database.execute("update pm.job set ended_at = now() - interval '2 h' where ended_at is not null").unwrap();
    fixture.database.execute(&format!("update pm.job set run_at = now() + interval '1 s' where id = '{due}'")).unwrap();
    fixture
        .database
        .execute(
            "update pm.job set state = 1, attempt = 1, lease = 7, lease_expires_at = now() where seq is not null; \
             insert into pm.claim_frontier select queue_id, priority, seq from pm.job where seq is not null",
        )
        .unwrap();
    let minute = fixture.value("select extract(minute from now() at time zone 'UTC' + interval '30 min')");
    assert_eq!(fixture.pm(&["schedule", "set", "hourly", "mail", &format!("{minute} * * * *")]).status, 0);
    fixture.database.execute("update pm.schedule set next_tick = next_tick - interval '1 h'").unwrap();
    let mut command = fixture.command();
    let mut child = command.args(["reap", "--ndjson"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut sums = [0; 4];
    while sums.contains(&0) {
        let round: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        for (sum, action) in sums.iter_mut().zip(["reaped", "promoted", "fired", "pruned"]) {
            *sum += round[action].as_u64().unwrap();
        }
    }
    let begin = Instant::now();
    signal(&child, rustix::process::Signal::TERM);
    let output = child.wait_with_output().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stderr).unwrap().ends_with("Stopped.\n"));
    assert_eq!(sums, [1; 4]);
    assert_eq!(fixture.value("select count(*) from pm.job where state = 0 and seq is not null"), "3");
}

#[test]
fn the_reaper_needs_tables_and_a_valid_interval() {
    let fixture = Fixture::empty();
    fixture.pm(&["reap"]).assert_refused(3, &["pm db migrate"]);
    fixture.pm(&["reap", "--prune-every", "x"]).assert_refused(2, &["like 90s"]);
}

#[test]
fn completions_are_printed_for_shells() {
    let home = crate::support::Home::new();
    for (shell, expected) in [("bash", "complete -F"), ("zsh", "#compdef pm"), ("fish", "complete -c pm")] {
        let ran = run(home.command().args(["completions", shell]), b"");
        assert!(ran.status == 0 && ran.stdout.contains(expected) && ran.stdout.contains("restart"), "{}", ran.stderr);
    }
    let help = crate::support::run(home.command().args(["completions", "dos"]), b"");
    help.assert_refused(2, &["bash", "zsh"]);
    assert!(!home.path().join("config").exists());
}

#[test]
fn manual_pages_are_printed_or_written() {
    let home = crate::support::Home::new();
    let man = |arguments: &[&str]| run(home.command().arg("man").args(arguments), b"");
    assert!(man(&[]).stdout.contains(".TH pm 1"));
    let page = man(&["job", "add"]);
    assert!(page.status == 0 && page.stdout.contains(".TH pm-job-add 1"), "{}", page.stdout);
    assert!(page.stdout.contains("\\-\\-priority"), "{}", page.stdout);
    man(&["job", "fly"]).assert_refused(2, &["no command `pm job fly`"]);
    let dir = home.path().join("man/man1");
    man(&["--dir", dir.to_str().unwrap()]).assert(0, "", "");
    for page in ["pm.1", "pm-job-add.1", "pm-db-migrate.1"] {
        assert!(dir.join(page).exists(), "{page}");
    }
    assert!(!dir.join("pm-demo-worker.1").exists());
    assert!(run(home.command().args(["man", "queue"]), b"").stdout.contains("rename"));
}

/// Promoting, reaping and firing do not wait for the end of pruning.
#[test]
fn reap_prunes_in_steps_and_does_the_rest_between_them() {
    let fixture = Fixture::with_queues(&["mail"]);
    assert_eq!(fixture.pm(&["queue", "set", "mail", "--retain", "1m"]).status, 0);
    let jobs = "insert into pm.job (id, queue_id, priority, codec, payload, state, ended_at)
                select gen_random_uuid(), 1, 0, 0, '1', 2, now() - interval '1 hour' from generate_series(1, 12000)";
    fixture.database.execute(jobs).unwrap();
    let mut child =
        fixture.command().args(["reap", "--ndjson"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut rounds = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let round: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        rounds.push(round["pruned"].as_u64().unwrap());
        if rounds.iter().sum::<u64>() == 12_000 {
            break;
        }
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(rounds.len() >= 3 && rounds.iter().all(|pruned| *pruned <= 5_000), "{rounds:?}");
}
