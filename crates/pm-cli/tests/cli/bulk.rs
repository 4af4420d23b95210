//! The commands that change many jobs: `pm job restart`, `done`, `fail`, `cancel`, `delete`, `move`, and `copy`.

use crate::support::{Fixture, Ran, run_on_terminal};
use serde_json::json;
use std::io::Read;
use std::process::Stdio;

const VERBS: [&[&str]; 6] = [
    &["job", "restart"],
    &["job", "done"],
    &["job", "fail", "-m", "no use"],
    &["job", "cancel"],
    &["job", "delete"],
    &["job", "move", "-t", "film"],
];
const UNKNOWN_ID: &str = "00000000-0000-7000-8000-000000000000";

/// Puts a job into a state with SQL: 1 in progress with lease 77, 2 finished, 3 failed.
fn put(fixture: &Fixture, id: &str, state: u8) {
    let more = match state {
        1 => "attempt = 1, lease = 77, worker = 'w', lease_expires_at = now() + interval '1 h'",
        2 => "seq = null, ended_at = now()",
        _ => "seq = null, ended_at = now(), failed_at = now(), retry_count = 3, reason = 'broken'",
    };
    fixture.database.execute(&format!("update pm.job set state = {state}, {more} where id = '{id}'")).unwrap();
}

fn state(fixture: &Fixture, id: &str) -> String {
    fixture.pm(&["job", "show", id, "--json"]).json()["status"].as_str().unwrap().to_owned()
}

/// Adds `count` jobs.
fn add_many(fixture: &Fixture, queue: &str, count: usize) {
    let lines = "1\n".repeat(count);
    assert_eq!(fixture.pm_reading(&["job", "add", queue, "--batch"], lines.as_bytes()).status, 0);
}

/// Cancelled jobs are no failures to be tried again: filters leave them out, unless they are asked for.
#[test]
fn a_cancelled_job_is_restarted_only_by_id_or_when_asked_for() {
    let fixture = Fixture::with_queues(&["mail"]);
    let (waiting, running, failed) =
        (fixture.add(&["mail", "1"]), fixture.add(&["mail", "2"]), fixture.add(&["mail", "3"]));
    put(&fixture, &running, 1);
    put(&fixture, &failed, 3);
    let cancelled = fixture.pm(&["job", "cancel", &waiting, &running, &failed]);
    assert_eq!(cancelled.status, 1, "one has failed already");
    assert!(cancelled.stderr.contains("already failed"), "{}", cancelled.stderr);
    let shown = fixture.pm(&["job", "show", &running, "--json"]).json();
    assert_eq!((&shown["status"], shown["cancelled"].is_string()), (&json!("in_progress"), true));
    let forced = fixture.pm(&["job", "cancel", &running, "--force", "--message", "stuck"]);
    assert_eq!((forced.status, state(&fixture, &running)), (0, "failed".to_owned()));
    assert_eq!(fixture.pm(&["job", "restart", "--status", "failed", "--yes"]).status, 0);
    let states = [&waiting, &running, &failed].map(|id| state(&fixture, id));
    assert_eq!(states, ["failed", "failed", "pending"]);
    assert_eq!(fixture.pm(&["job", "restart", &waiting]).status, 0);
    assert_eq!(fixture.pm(&["job", "restart", "--status", "failed", "--cancelled", "--yes"]).status, 0);
    let states = [&waiting, &running, &failed].map(|id| state(&fixture, id));
    assert_eq!(states, ["pending", "pending", "pending"]);
}

#[test]
fn no_selection_or_both_ids_and_filters_are_refused() {
    let fixture = Fixture::with_queues(&["mail", "film"]);
    let id = fixture.add(&["mail", "1"]);
    for verb in VERBS {
        fixture.pm(verb).assert_refused(2, &["no job given", "--queue, --status, --older-than"]);
        fixture.pm(&[verb, &["--yes"]].concat()).assert_refused(2, &["no job given"]);
        fixture.pm(&[verb, &[&id, "--queue", "mail"]].concat()).assert_refused(2, &["cannot be used"]);
        fixture.pm(&[verb, &["xyz"]].concat()).assert_refused(2, &["not a hex digit"]);
        fixture.pm(&[verb, &[""]].concat()).assert_refused(2, &["no hex digit"]);
        fixture.pm(&[verb, &["--queue", "male"]].concat()).assert_refused(1, &["queue \"male\" not found"]);
        fixture.pm(&[verb, &["--older-than", "7"]].concat()).assert_refused(2, &["unit"]);
        fixture.pm(&[verb, &["-s", "failed", "-q", "film"]].concat()).assert_refused(1, &["no job matches"]);
    }
    assert_eq!(state(&fixture, &id), "pending");
    fixture.pm(&["job", "fail", &id]).assert_refused(2, &["--message"]);
    fixture.pm(&["job", "move", &id]).assert_refused(2, &["--to"]);
    fixture.pm(&["job", "move", &id, "-t", "nowhere"]).assert_refused(1, &["queue \"nowhere\" not found"]);
}

#[test]
fn unknown_jobs_are_reported() {
    let fixture = Fixture::with_queues(&["mail", "film"]);
    for verb in VERBS {
        let id = fixture.add(&["mail", "1"]);
        let ran = fixture.pm(&[verb, &[UNKNOWN_ID, &id, "ffffffffff0"]].concat());
        assert_eq!((ran.status, ran.stdout.as_str()), (1, ""), "{verb:?}: {}", ran.stderr);
        let texts =
            ["d 1 job", "2 jobs were not ", &format!("  {UNKNOWN_ID}: not found\n"), "  ffffffffff0: not found\n"];
        for text in texts {
            assert!(ran.stderr.contains(text), "{text} is missing in {}", ran.stderr);
        }
        fixture.pm(&[verb, &[UNKNOWN_ID]].concat()).assert_refused(1, &["d 0 jobs", "1 job was not "]);
    }
}

#[test]
fn with_an_ambiguous_suffix_nothing_is_changed() {
    let fixture = Fixture::with_queues(&["mail", "film"]);
    let id = fixture.add(&["mail", "1"]);
    // The older one is not among the newest 20,000 jobs, which are all that `job show` searches.
    fixture
        .database
        .execute(
            "insert into pm.job (id, queue_id, priority, codec, payload, seq) \
             select (case when n = 0 then '01800000-0000-7000-8000-00000000beef' when n = 20001 then '01900000-0000-7000-8000-00009999beef' \
             else '01850000-0000-7000-8000-' || lpad(n::text, 12, '0') end)::uuid, id, 0, 0, 'null', n \
             from pm.queue, generate_series(0, 20001) n where name = 'mail'",
        )
        .unwrap();
    assert!(fixture.pm(&["job", "show", "beef"]).stdout.contains("00009999beef"), "it is the only recent one");
    for verb in VERBS {
        fixture.pm(&[verb, &[&id, "beef"]].concat()).assert_refused(
            2,
            &["beef matches several jobs", "00009999beef  mail  pending", "00000000beef  mail  pending", "more digits"],
        );
    }
    assert_eq!(state(&fixture, &id), "pending");
}

#[test]
fn restart_reports_a_job_in_progress() {
    let fixture = Fixture::with_queues(&["mail"]);
    let [failed, leased, done] = [3, 1, 2].map(|state| {
        let id = fixture.add(&["mail", "1"]);
        put(&fixture, &id, state);
        id
    });
    let expected = format!(
        "Restarted 2 jobs.\nError: 1 job was not restarted:\n  {leased}: in_progress\n\
         Hint: --force also restarts jobs in progress, taking them from their workers\n"
    );
    fixture.pm(&["job", "restart", &failed, &leased, &done, &failed]).assert(1, "", &expected);
    assert_eq!([&failed, &leased, &done].map(|id| state(&fixture, id)), ["pending", "in_progress", "pending"]);
    let shown = fixture.pm(&["job", "show", &failed, "--json"]).json();
    assert_eq!((&shown["retries"], &shown["reason"]), (&json!(0), &json!(null)));
    fixture.pm(&["job", "restart", &leased, "--force"]).assert(0, "", "Restarted 1 job.\n");
    assert_eq!(state(&fixture, &leased), "pending");
}

#[test]
fn done_and_fail_end_jobs_that_have_not_ended() {
    let fixture = Fixture::with_queues(&["mail"]);
    for (verb, after) in [(VERBS[1], "finished"), (VERBS[2], "failed")] {
        let waiting = fixture.add(&["mail", "1"]);
        let leased = fixture.add(&["mail", "1"]);
        put(&fixture, &leased, 1);
        let ended = fixture.add(&["mail", "1"]);
        put(&fixture, &ended, 3);
        let ran = fixture.pm(&[verb, &[&waiting[20..], &leased, &ended]].concat());
        assert_eq!((ran.status, ran.stdout.as_str()), (1, ""), "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("{ended}: already failed\n")), "{}", ran.stderr);
        assert!(ran.stderr.contains("d 2 jobs.") && ran.stderr.contains("Hint: to restart"), "{}", ran.stderr);
        assert_eq!([&waiting, &leased].map(|id| state(&fixture, id)), [after, after]);
        let reason = fixture.pm(&["job", "show", &waiting, "--json"]).json()["reason"].clone();
        assert_eq!(reason, if after == "failed" { json!("no use") } else { json!(null) });
    }
}

#[test]
fn done_and_fail_are_fenced_by_the_lease() {
    let fixture = Fixture::with_queues(&["mail"]);
    for verb in [VERBS[1], VERBS[2]] {
        let id = fixture.add(&["mail", "1"]);
        let ran = fixture.pm(&[verb, &[&id, "--lease", "77"]].concat());
        ran.assert_refused(1, &[&format!("{id}: pending, not leased")]);
        put(&fixture, &id, 1);
        let ran = fixture.pm(&[verb, &[&id, "--lease", "78"]].concat());
        ran.assert_refused(1, &[&format!("{id}: in_progress with another lease")]);
        fixture.pm(&[verb, &["--where", "retries=0", "--lease", "78"]].concat()).assert_refused(2, &["cannot be used"]);
        assert_eq!(state(&fixture, &id), "in_progress");
        fixture.pm(&[verb, &[&id, "--lease", "-78", "--dry-run"]].concat()).assert_refused(1, &[" 0 jobs, skip 1"]);
        assert_eq!(fixture.pm(&[verb, &[&id, "--lease", "77"]].concat()).status, 0);
        fixture.pm(&[verb, &["--queue", "mail", "--lease", "77"]].concat()).assert_refused(2, &["cannot be used"]);
    }
}

#[test]
fn jobs_in_any_state_are_deleted() {
    let fixture = Fixture::with_queues(&["mail"]);
    let ids = [0, 1, 2, 3].map(|state| {
        let id = fixture.add(&["mail", "1"]);
        if state > 0 {
            put(&fixture, &id, state);
        }
        id
    });
    fixture.pm(&["job", "delete", &ids[0], &ids[1], &ids[2], &ids[3]]).assert(0, "", "Deleted 4 jobs.\n");
    assert_eq!(fixture.value("select count(*) from pm.job"), "0");
}

#[test]
fn moved_jobs_keep_id_and_payload_unless_their_key_is_reserved() {
    let fixture = Fixture::with_queues(&["mail", "film"]);
    let id = fixture.add(&["mail", "{\"a\":1}", "--priority", "4"]);
    fixture.add(&["film", "1", "--key", "k"]);
    let keyed = fixture.add(&["mail", "1", "--key", "k"]);
    let ran = fixture.pm(&["job", "move", &id, &keyed, "-t", "film"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.starts_with("Moved 1 job to queue \"film\".\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("{keyed}: its key is reserved by another job in queue \"film\"")));
    let shown = fixture.pm(&["job", "show", &id, "--json"]).json();
    assert_eq!((&shown["queue"], &shown["priority"], &shown["payload"]), (&json!("film"), &json!(4), &json!({"a": 1})));
}

#[test]
fn a_job_whose_key_is_reserved_is_not_restarted() {
    let fixture = Fixture::with_queues(&["mail"]);
    let [failed, free] = ["k", "l"].map(|key| {
        let id = fixture.add(&["mail", "1", "--key", key]);
        fixture.pm(&["job", "fail", &id, "-m", "no"]).assert(0, "", "Failed 1 job.\n");
        id
    });
    fixture.add(&["mail", "2", "--key", "k"]);
    for force in [&[][..], &["--force"]] {
        let ran = fixture.pm(&[&["job", "restart", &failed, &free], force].concat());
        assert_eq!(ran.status, 1);
        assert!(ran.stderr.starts_with("Restarted 1 job.\n"), "{}", ran.stderr);
        assert!(
            ran.stderr.contains(&format!("{failed}: its key is reserved by another job of its queue")),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains("a key becomes free when the job that reserves it ends"), "{}", ran.stderr);
    }
    assert_eq!(fixture.value("select count(*) from pm.job where state = 0 and key = 'k'"), "1");
}

#[test]
fn a_copy_shares_the_payload() {
    let fixture = Fixture::with_queues(&["mail", "film"]);
    let id = fixture.add(&["mail", "{\"a\":1}", "--description", "d"]);
    let copied = fixture.pm(&["job", "copy", &id[20..], "-t", "film"]);
    assert_eq!((copied.status, copied.stderr.as_str()), (0, ""));
    let shown = fixture.pm(&["job", "show", copied.stdout.trim_end(), "--json"]).json();
    assert_eq!(
        (&shown["queue"], &shown["payload"], &shown["description"]),
        (&json!("film"), &json!({"a": 1}), &json!("d"))
    );
    assert_eq!(fixture.value("select refs from pm.payload"), "2");
    let copied = fixture.pm(&["job", "copy", &id, "-t", "film", "--json"]).json();
    assert_eq!((&copied["copy_of"], &copied["queue"]), (&json!(id), &json!("film")));
    fixture.pm(&["job", "copy", &id, "-t", "nowhere"]).assert_refused(1, &["\"nowhere\" not found"]);
    fixture.pm(&["job", "copy", UNKNOWN_ID, "-t", "film"]).assert_refused(1, &["not found"]);
    fixture.pm(&["job", "copy", "fffffffff0", "-t", "film"]).assert_refused(1, &["no job matches"]);
    fixture.pm(&["job", "copy", &id]).assert_refused(2, &["--to"]);
}

#[test]
fn json_reports_each_job() {
    let fixture = Fixture::with_queues(&["mail"]);
    let id = fixture.add(&["mail", "1"]);
    let leased = fixture.add(&["mail", "1"]);
    put(&fixture, &leased, 1);
    let ran = fixture.pm(&["job", "restart", &id, &leased, UNKNOWN_ID, "--json"]);
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let jobs = json!([
        {"id": id, "result": "changed", "why": null},
        {"id": leased, "result": "skipped", "why": "in_progress"},
        {"id": UNKNOWN_ID, "result": "not_found", "why": null},
    ]);
    assert_eq!(document, json!({"jobs": jobs, "changed": 1, "skipped": 1, "not_found": 1}));
    assert_eq!(ran.status, 1);
    let lines = fixture.pm(&["job", "restart", &id, &leased, UNKNOWN_ID, "--ndjson"]).stdout;
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json!(lines), jobs);
    let none = fixture.pm(&["job", "restart", "--status", "failed", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&none.stdout).unwrap();
    assert_eq!((none.status, document), (1, json!({"jobs": [], "changed": 0, "skipped": 0, "not_found": 0})));
}

#[test]
fn filters_span_pages_and_do_not_change_other_jobs() {
    let fixture = Fixture::with_queues(&["mail", "film"]);
    add_many(&fixture, "mail", 2_500);
    add_many(&fixture, "film", 10);
    fixture.pm(&["job", "done", "--queue", "mail", "--dry-run"]).assert(0, "", "Would finish 2500 jobs.\n");
    let dry_run = fixture.pm(&["job", "done", "--queue", "mail", "--dry-run", "--json"]).json();
    assert_eq!(dry_run, json!({"dry_run": true, "changed": 2500, "skipped": 0, "not_found": 0}));
    assert_eq!(fixture.value("select count(*) from pm.job where state = 2"), "0");
    fixture.pm(&["job", "done", "--queue", "mail"]).assert(0, "", "Finished 2500 jobs.\n");
    let again = fixture.pm(&["job", "done", "-q", "mail"]);
    again
        .assert_refused(1, &["Finished 0 jobs.", "2500 jobs were not finished", "already finished", "… and 2490 more"]);
    fixture.pm(&["job", "done", "-q", "mail", "--dry-run"]).assert_refused(1, &["Would finish 0 jobs, skip 2500."]);
    fixture.pm(&["job", "move", "-s", "finished", "-t", "film"]).assert(0, "", "Moved 2500 jobs to queue \"film\".\n");
    let old = "update pm.job set created_at = now() - interval '8 d' where id in (select id from pm.job where state = 2 limit 1200)";
    fixture.database.execute(old).unwrap();
    fixture.pm(&["job", "delete", "--older-than", "7d", "-s", "finished"]).assert(0, "", "Deleted 1200 jobs.\n");
    assert_eq!(fixture.value("select count(*) from pm.job"), "1310");
}

#[test]
fn a_dry_run_with_ids_writes_nothing() {
    let fixture = Fixture::with_queues(&["mail"]);
    let id = fixture.add(&["mail", "1"]);
    let leased = fixture.add(&["mail", "1"]);
    put(&fixture, &leased, 1);
    let name = fixture.database.name();
    fixture.database.execute(&format!("alter database \"{name}\" set default_transaction_read_only = on")).unwrap();
    let ran = fixture.pm(&["job", "restart", &id, &leased, UNKNOWN_ID, "--dry-run"]);
    ran.assert(0, "", "Would restart 1 job, skip 1; 1 not found.\n");
}

#[test]
fn filters_ask_for_confirmation_on_a_terminal() {
    let fixture = Fixture::with_queues(&["mail"]);
    add_many(&fixture, "mail", 3);
    let delete = &["job", "delete", "--queue", "mail"][..];
    for no in ["n\n", "\n", "yikes\n"] {
        let (status, text) = run_on_terminal(fixture.command().args(delete), no);
        assert!(status == 1 && text.contains("Delete 3 jobs? [y/N] ") && text.contains("Cancelled."), "{text}");
    }
    assert_eq!(fixture.value("select count(*) from pm.job"), "3");
    let (status, text) = run_on_terminal(fixture.command().args(delete), "y\n");
    assert!(status == 0 && text.contains("Deleted 3 jobs."), "{text}");
    let (status, text) = run_on_terminal(fixture.command().args(delete), "y\n");
    assert!(status == 1 && text.contains("no job matches") && !text.contains("[y/N]"), "{text}");
    add_many(&fixture, "mail", 1);
    let (status, text) = run_on_terminal(fixture.command().args(delete).arg("--yes"), "");
    assert!(status == 0 && !text.contains("[y/N]") && text.contains("Deleted 1 job."), "{text}");
    let id = fixture.add(&["mail", "1"]);
    let (status, text) = run_on_terminal(fixture.command().args(["job", "delete", &id]), "");
    assert!(status == 0 && !text.contains("[y/N]"), "ids need no confirmation: {text}");
}

#[test]
fn an_interrupt_ends_it_between_chunks_and_reports_what_was_done() {
    let fixture = Fixture::with_queues(&["mail"]);
    add_many(&fixture, "mail", 10_000);
    let mut command = fixture.command();
    let mut child = command
        .args(["job", "delete", "--queue", "mail", "--ndjson"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The child blocks on the full pipe until its lines are read, so it cannot have finished.
    let mut stdout = child.stdout.take().unwrap();
    let mut text = vec![0];
    stdout.read_exact(&mut text).unwrap();
    let id = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    stdout.read_to_end(&mut text).unwrap();
    let output = child.wait_with_output().unwrap();
    let reported = String::from_utf8(text).unwrap().lines().count();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("interrupted") && stderr.contains(&format!("Deleted {reported} jobs")), "{stderr}");
    assert!((1_000..10_000).contains(&reported), "{reported}");
    assert_eq!(fixture.value("select count(*) from pm.job"), (10_000 - reported).to_string());
    let rest = fixture.pm(&["job", "delete", "--queue", "mail"]);
    rest.assert(0, "", &format!("Deleted {} jobs.\n", 10_000 - reported));
}

/// Runs `pm` while another transaction changes these jobs. It commits after `pm` has deleted another job: then `pm` has
/// listed the jobs before the changes.
fn run_during_changes(fixture: &Fixture, changes: &str, other: &str, arguments: &[&str]) -> Ran {
    let transaction = format!(
        "do $$ begin
           {changes};
           while exists (select from pm.job where id = '{other}') loop
             perform pg_sleep(0.01);
           end loop;
         end $$"
    );
    std::thread::scope(|scope| {
        scope.spawn(|| fixture.database.execute(&transaction).unwrap());
        let locks = "select count(*) from pg_locks join pg_database on pg_database.oid = database
                     where datname = current_database() and relation = 'pm.job'::regclass and mode = 'RowExclusiveLock'";
        while fixture.value(locks) == "0" {
            std::thread::yield_now();
        }
        fixture.pm(arguments)
    })
}

#[test]
fn jobs_that_change_after_they_were_listed_are_skipped_and_reported() {
    let fixture = Fixture::with_queues(&["mail", "film"]);
    let failed = || {
        let id = fixture.add(&["mail", "1"]);
        put(&fixture, &id, 3);
        id
    };
    let restart = |id: &str| {
        format!(
            "update pm.job set state = 0, failed_at = null, ended_at = null, reason = null, seq = 1 where id = '{id}'"
        )
    };
    let [restarted, moved, deleted] = [(); 3].map(|()| failed());
    let film = "(select id from pm.queue where name = 'film')";
    let changes = format!("{}; update pm.job set queue_id = {film} where id = '{moved}'", restart(&restarted));
    let ran = run_during_changes(&fixture, &changes, &deleted, &["job", "delete", "-q", "mail", "-s", "failed"]);
    ran.assert_refused(
        1,
        &[
            "Deleted 1 job.",
            "2 jobs were not deleted",
            &format!("{restarted}: now pending"),
            &format!("{moved}: now in another queue"),
        ],
    );
    assert_eq!([&restarted, &moved].map(|id| state(&fixture, id)), ["pending", "failed"]);
    fixture.pm(&["job", "show", &deleted]).assert_refused(1, &["not found"]);
    // The same with a condition, which the job met in the state it had.
    let [restarted, deleted] = [(); 2].map(|()| failed());
    let ran = run_during_changes(
        &fixture,
        &restart(&restarted),
        &deleted,
        &["job", "delete", "-q", "mail", "--where", "reason~broken"],
    );
    ran.assert_refused(1, &["Deleted 1 job.", &format!("{restarted}: now pending")]);
    fixture.pm(&["job", "show", &deleted]).assert_refused(1, &["not found"]);
}
