//! The commands that change many jobs: `pm job restart`, `done`, `fail`, `delete`, `move`, and `copy`.

use crate::support::{Place, Ran, asked};
use serde_json::json;
use std::io::Read;
use std::process::Stdio;

const VERBS: [&[&str]; 5] = [
    &["job", "restart"],
    &["job", "done"],
    &["job", "fail", "-m", "no use"],
    &["job", "delete"],
    &["job", "move", "-t", "film"],
];
const NOBODY: &str = "00000000-0000-7000-8000-000000000000";

/// Puts a job into a state by hand: 1 in progress under lease 77, 2 finished, 3 failed.
fn put(place: &Place, id: &str, state: u8) {
    let more = match state {
        1 => "attempt = 1, lease = 77, worker = 'w', lease_expires_at = now() + interval '1 h'",
        2 => "seq = null, ended_at = now()",
        _ => "seq = null, ended_at = now(), failed_at = now(), retry_count = 3, reason = 'broken'",
    };
    place.database.execute(&format!("update pm.job set state = {state}, {more} where id = '{id}'")).unwrap();
}

fn state(place: &Place, id: &str) -> String {
    place.pm(&["job", "show", id, "--json"]).json()["status"].as_str().unwrap().to_owned()
}

/// Adds so many jobs at once.
fn add_many(place: &Place, queue: &str, count: usize) {
    let lines = "1\n".repeat(count);
    assert_eq!(place.pm_reading(&["job", "add", queue, "--batch"], lines.as_bytes()).status, 0);
}

#[test]
fn without_jobs_or_with_both_ways_to_name_them_nothing_is_done() {
    let place = Place::with_queues(&["mail", "film"]);
    let id = place.add(&["mail", "1"]);
    for verb in VERBS {
        place.pm(verb).assert_refused(2, &["no job is named", "--queue, --status, --older-than"]);
        place.pm(&[verb, &["--yes"]].concat()).assert_refused(2, &["no job is named"]);
        place.pm(&[verb, &[&id, "--queue", "mail"]].concat()).assert_refused(2, &["cannot be used"]);
        place.pm(&[verb, &["xyz"]].concat()).assert_refused(2, &["no hex digit"]);
        place.pm(&[verb, &[""]].concat()).assert_refused(2, &["no hex digit"]);
        place.pm(&[verb, &["--queue", "male"]].concat()).assert_refused(1, &["queue \"male\" not found"]);
        place.pm(&[verb, &["--older-than", "7"]].concat()).assert_refused(2, &["unit"]);
        place.pm(&[verb, &["-s", "failed", "-q", "film"]].concat()).assert_refused(1, &["no job matches"]);
    }
    assert_eq!(state(&place, &id), "pending");
    place.pm(&["job", "fail", &id]).assert_refused(2, &["--message"]);
    place.pm(&["job", "move", &id]).assert_refused(2, &["--to"]);
    place.pm(&["job", "move", &id, "-t", "nowhere"]).assert_refused(1, &["queue \"nowhere\" not found"]);
}

#[test]
fn a_job_that_is_not_there_is_named() {
    let place = Place::with_queues(&["mail", "film"]);
    for verb in VERBS {
        let id = place.add(&["mail", "1"]);
        let ran = place.pm(&[verb, &[NOBODY, &id, "ffffffffff0"]].concat());
        assert_eq!((ran.status, ran.stdout.as_str()), (1, ""), "{verb:?}: {}", ran.stderr);
        let words = ["d 1 job", "2 jobs were not ", &format!("  {NOBODY}: not found\n"), "  ffffffffff0: not found\n"];
        for word in words {
            assert!(ran.stderr.contains(word), "{word} is missing in {}", ran.stderr);
        }
        place.pm(&[verb, &[NOBODY]].concat()).assert_refused(1, &["d 0 jobs", "1 job was not "]);
    }
}

#[test]
fn an_ambiguous_suffix_stops_everything_before_it_begins() {
    let place = Place::with_queues(&["mail", "film"]);
    let id = place.add(&["mail", "1"]);
    // The older one lies beyond the newest 20,000, where `job show` would not look.
    place
        .database
        .execute(
            "insert into pm.job (id, queue_id, priority, codec, payload, seq) \
             select (case when n = 0 then '01800000-0000-7000-8000-00000000beef' when n = 20001 then '01900000-0000-7000-8000-00009999beef' \
             else '01850000-0000-7000-8000-' || lpad(n::text, 12, '0') end)::uuid, id, 0, 0, 'null', n \
             from pm.queue, generate_series(0, 20001) n where name = 'mail'",
        )
        .unwrap();
    assert!(place.pm(&["job", "show", "beef"]).stdout.contains("00009999beef"), "it is the only recent one");
    for verb in VERBS {
        place.pm(&[verb, &[&id, "beef"]].concat()).assert_refused(
            2,
            &["several jobs end in beef", "00009999beef  mail  pending", "00000000beef  mail  pending", "more digits"],
        );
    }
    assert_eq!(state(&place, &id), "pending");
}

#[test]
fn restarting_a_mixed_list_names_the_one_in_progress() {
    let place = Place::with_queues(&["mail"]);
    let [failed, held, done] = [3, 1, 2].map(|state| {
        let id = place.add(&["mail", "1"]);
        put(&place, &id, state);
        id
    });
    let expected = format!(
        "Restarted 2 jobs.\nError: 1 job was not restarted:\n  {held}: in_progress\n\
         Hint: --force takes jobs in progress from their holders\n"
    );
    place.pm(&["job", "restart", &failed, &held, &done, &failed]).assert(1, "", &expected);
    assert_eq!([&failed, &held, &done].map(|id| state(&place, id)), ["pending", "in_progress", "pending"]);
    let shown = place.pm(&["job", "show", &failed, "--json"]).json();
    assert_eq!((&shown["retries"], &shown["reason"]), (&json!(0), &json!(null)));
    place.pm(&["job", "restart", &held, "--force"]).assert(0, "", "Restarted 1 job.\n");
    assert_eq!(state(&place, &held), "pending");
}

#[test]
fn done_and_fail_end_jobs_that_have_not_ended() {
    let place = Place::with_queues(&["mail"]);
    for (verb, after) in [(VERBS[1], "finished"), (VERBS[2], "failed")] {
        let waiting = place.add(&["mail", "1"]);
        let held = place.add(&["mail", "1"]);
        put(&place, &held, 1);
        let ended = place.add(&["mail", "1"]);
        put(&place, &ended, 3);
        let ran = place.pm(&[verb, &[&waiting[20..], &held, &ended]].concat());
        assert_eq!((ran.status, ran.stdout.as_str()), (1, ""), "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("{ended}: failed already\n")), "{}", ran.stderr);
        assert!(ran.stderr.contains("d 2 jobs.") && ran.stderr.contains("Hint: to start"), "{}", ran.stderr);
        assert_eq!([&waiting, &held].map(|id| state(&place, id)), [after, after]);
        let reason = place.pm(&["job", "show", &waiting, "--json"]).json()["reason"].clone();
        assert_eq!(reason, if after == "failed" { json!("no use") } else { json!(null) });
    }
}

#[test]
fn done_and_fail_are_fenced_by_the_lease() {
    let place = Place::with_queues(&["mail"]);
    for verb in [VERBS[1], VERBS[2]] {
        let id = place.add(&["mail", "1"]);
        let ran = place.pm(&[verb, &[&id, "--lease", "77"]].concat());
        ran.assert_refused(1, &[&format!("{id}: pending, so under no lease")]);
        put(&place, &id, 1);
        let ran = place.pm(&[verb, &[&id, "--lease", "78"]].concat());
        ran.assert_refused(1, &[&format!("{id}: in_progress under another lease")]);
        place.pm(&[verb, &["--where", "retries=0", "--lease", "78"]].concat()).assert_refused(2, &["cannot be used"]);
        assert_eq!(state(&place, &id), "in_progress");
        place.pm(&[verb, &[&id, "--lease", "-78", "--dry-run"]].concat()).assert_refused(1, &[" 0 jobs, skip 1"]);
        assert_eq!(place.pm(&[verb, &[&id, "--lease", "77"]].concat()).status, 0);
        place.pm(&[verb, &["--queue", "mail", "--lease", "77"]].concat()).assert_refused(2, &["cannot be used"]);
    }
}

#[test]
fn deleted_jobs_are_gone_whatever_they_did() {
    let place = Place::with_queues(&["mail"]);
    let ids = [0, 1, 2, 3].map(|state| {
        let id = place.add(&["mail", "1"]);
        if state > 0 {
            put(&place, &id, state);
        }
        id
    });
    place.pm(&["job", "delete", &ids[0], &ids[1], &ids[2], &ids[3]]).assert(0, "", "Deleted 4 jobs.\n");
    assert_eq!(place.value("select count(*) from pm.job"), "0");
}

#[test]
fn moved_jobs_keep_id_and_payload_and_a_held_key_stays() {
    let place = Place::with_queues(&["mail", "film"]);
    let id = place.add(&["mail", "{\"a\":1}", "--priority", "4"]);
    place.add(&["film", "1", "--key", "k"]);
    let keyed = place.add(&["mail", "1", "--key", "k"]);
    let ran = place.pm(&["job", "move", &id, &keyed, "-t", "film"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.starts_with("Moved 1 job to queue \"film\".\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("{keyed}: its key is held by another job in queue \"film\"")));
    let shown = place.pm(&["job", "show", &id, "--json"]).json();
    assert_eq!((&shown["queue"], &shown["priority"], &shown["payload"]), (&json!("film"), &json!(4), &json!({"a": 1})));
}

#[test]
fn a_restarted_job_whose_key_is_held_is_named_and_left_alone() {
    let place = Place::with_queues(&["mail"]);
    let [failed, free] = ["k", "l"].map(|key| {
        let id = place.add(&["mail", "1", "--key", key]);
        place.pm(&["job", "fail", &id, "-m", "no"]).assert(0, "", "Failed 1 job.\n");
        id
    });
    place.add(&["mail", "2", "--key", "k"]);
    for force in [&[][..], &["--force"]] {
        let ran = place.pm(&[&["job", "restart", &failed, &free], force].concat());
        assert_eq!(ran.status, 1);
        assert!(ran.stderr.starts_with("Restarted 1 job.\n"), "{}", ran.stderr);
        assert!(
            ran.stderr.contains(&format!("{failed}: its key is held by another job of its queue")),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains("a key is free when the job that holds it has ended"), "{}", ran.stderr);
    }
    assert_eq!(place.value("select count(*) from pm.job where state = 0 and key = 'k'"), "1");
}

#[test]
fn a_copy_shares_the_payload() {
    let place = Place::with_queues(&["mail", "film"]);
    let id = place.add(&["mail", "{\"a\":1}", "--description", "d"]);
    let copied = place.pm(&["job", "copy", &id[20..], "-t", "film"]);
    assert_eq!((copied.status, copied.stderr.as_str()), (0, ""));
    let shown = place.pm(&["job", "show", copied.stdout.trim_end(), "--json"]).json();
    assert_eq!(
        (&shown["queue"], &shown["payload"], &shown["description"]),
        (&json!("film"), &json!({"a": 1}), &json!("d"))
    );
    assert_eq!(place.value("select refs from pm.payload"), "2");
    let copied = place.pm(&["job", "copy", &id, "-t", "film", "--json"]).json();
    assert_eq!((&copied["copy_of"], &copied["queue"]), (&json!(id), &json!("film")));
    place.pm(&["job", "copy", &id, "-t", "nowhere"]).assert_refused(1, &["\"nowhere\" not found"]);
    place.pm(&["job", "copy", NOBODY, "-t", "film"]).assert_refused(1, &["not found"]);
    place.pm(&["job", "copy", "fffffffff0", "-t", "film"]).assert_refused(1, &["no job's id ends in"]);
    place.pm(&["job", "copy", &id]).assert_refused(2, &["--to"]);
}

#[test]
fn programs_are_told_of_each_job() {
    let place = Place::with_queues(&["mail"]);
    let id = place.add(&["mail", "1"]);
    let held = place.add(&["mail", "1"]);
    put(&place, &held, 1);
    let ran = place.pm(&["job", "restart", &id, &held, NOBODY, "--json"]);
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let jobs = json!([
        {"id": id, "result": "changed", "why": null},
        {"id": held, "result": "skipped", "why": "in_progress"},
        {"id": NOBODY, "result": "not_found", "why": null},
    ]);
    assert_eq!(document, json!({"jobs": jobs, "changed": 1, "skipped": 1, "not_found": 1}));
    assert_eq!(ran.status, 1);
    let lines = place.pm(&["job", "restart", &id, &held, NOBODY, "--ndjson"]).stdout;
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json!(lines), jobs);
    let none = place.pm(&["job", "restart", "--status", "failed", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&none.stdout).unwrap();
    assert_eq!((none.status, document), (1, json!({"jobs": [], "changed": 0, "skipped": 0, "not_found": 0})));
}

#[test]
fn filters_reach_over_pages_and_spare_the_others() {
    let place = Place::with_queues(&["mail", "film"]);
    add_many(&place, "mail", 2_500);
    add_many(&place, "film", 10);
    place.pm(&["job", "done", "--queue", "mail", "--dry-run"]).assert(0, "", "Would finish 2500 jobs.\n");
    let foreseen = place.pm(&["job", "done", "--queue", "mail", "--dry-run", "--json"]).json();
    assert_eq!(foreseen, json!({"dry_run": true, "changed": 2500, "skipped": 0, "not_found": 0}));
    assert_eq!(place.value("select count(*) from pm.job where state = 2"), "0");
    place.pm(&["job", "done", "--queue", "mail"]).assert(0, "", "Finished 2500 jobs.\n");
    let again = place.pm(&["job", "done", "-q", "mail"]);
    again
        .assert_refused(1, &["Finished 0 jobs.", "2500 jobs were not finished", "finished already", "… and 2490 more"]);
    place.pm(&["job", "done", "-q", "mail", "--dry-run"]).assert_refused(1, &["Would finish 0 jobs, skip 2500."]);
    place.pm(&["job", "move", "-s", "finished", "-t", "film"]).assert(0, "", "Moved 2500 jobs to queue \"film\".\n");
    let old = "update pm.job set created_at = now() - interval '8 d' where id in (select id from pm.job where state = 2 limit 1200)";
    place.database.execute(old).unwrap();
    place.pm(&["job", "delete", "--older-than", "7d", "-s", "finished"]).assert(0, "", "Deleted 1200 jobs.\n");
    assert_eq!(place.value("select count(*) from pm.job"), "1310");
}

#[test]
fn a_dry_run_tells_of_ids_too_and_writes_nothing() {
    let place = Place::with_queues(&["mail"]);
    let id = place.add(&["mail", "1"]);
    let held = place.add(&["mail", "1"]);
    put(&place, &held, 1);
    let name = place.database.name();
    place.database.execute(&format!("alter database \"{name}\" set default_transaction_read_only = on")).unwrap();
    let ran = place.pm(&["job", "restart", &id, &held, NOBODY, "--dry-run"]);
    ran.assert(0, "", "Would restart 1 job, skip 1; 1 not found.\n");
}

#[test]
fn a_terminal_is_asked_before_a_filter_changes_jobs() {
    let place = Place::with_queues(&["mail"]);
    add_many(&place, "mail", 3);
    let delete = &["job", "delete", "--queue", "mail"][..];
    for no in ["n\n", "\n", "yikes\n"] {
        let (status, text) = asked(place.command().args(delete), no);
        assert!(status == 1 && text.contains("Delete 3 jobs? [y/N] ") && text.contains("nothing was done"), "{text}");
    }
    assert_eq!(place.value("select count(*) from pm.job"), "3");
    let (status, text) = asked(place.command().args(delete), "y\n");
    assert!(status == 0 && text.contains("Deleted 3 jobs."), "{text}");
    let (status, text) = asked(place.command().args(delete), "y\n");
    assert!(status == 1 && text.contains("no job matches") && !text.contains("[y/N]"), "{text}");
    add_many(&place, "mail", 1);
    let (status, text) = asked(place.command().args(delete).arg("--yes"), "");
    assert!(status == 0 && !text.contains("[y/N]") && text.contains("Deleted 1 job."), "{text}");
    let id = place.add(&["mail", "1"]);
    let (status, text) = asked(place.command().args(["job", "delete", &id]), "");
    assert!(status == 0 && !text.contains("[y/N]"), "ids are clear enough: {text}");
}

#[test]
fn an_interrupt_ends_it_between_chunks_and_says_what_was_done() {
    let place = Place::with_queues(&["mail"]);
    add_many(&place, "mail", 10_000);
    let mut command = place.command();
    let mut child = command
        .args(["job", "delete", "--queue", "mail", "--ndjson"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It is stuck in a full pipe until its lines are read, so it cannot be done by then.
    let mut stdout = child.stdout.take().unwrap();
    let mut text = vec![0];
    stdout.read_exact(&mut text).unwrap();
    let id = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    stdout.read_to_end(&mut text).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8(text).unwrap().lines().count();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("stopped before the end") && stderr.contains(&format!("Deleted {told} jobs")), "{stderr}");
    assert!((1_000..10_000).contains(&told), "{told}");
    assert_eq!(place.value("select count(*) from pm.job"), (10_000 - told).to_string());
    let rest = place.pm(&["job", "delete", "--queue", "mail"]);
    rest.assert(0, "", &format!("Deleted {} jobs.\n", 10_000 - told));
}

/// Runs `pm` beside someone who changes these jobs and commits when `pm` has deleted the neighbour, so what it listed
/// lies behind it.
fn overtaken(place: &Place, changes: &str, neighbour: &str, arguments: &[&str]) -> Ran {
    let meanwhile = format!(
        "do $$ begin
           {changes};
           while exists (select from pm.job where id = '{neighbour}') loop
             perform pg_sleep(0.01);
           end loop;
         end $$"
    );
    std::thread::scope(|scope| {
        scope.spawn(|| place.database.execute(&meanwhile).unwrap());
        let holds = "select count(*) from pg_locks join pg_database on pg_database.oid = database
                     where datname = current_database() and relation = 'pm.job'::regclass and mode = 'RowExclusiveLock'";
        while place.value(holds) == "0" {
            std::thread::yield_now();
        }
        place.pm(arguments)
    })
}

#[test]
fn jobs_that_change_between_the_list_and_the_change_are_spared_and_told() {
    let place = Place::with_queues(&["mail", "film"]);
    let failed = || {
        let id = place.add(&["mail", "1"]);
        put(&place, &id, 3);
        id
    };
    let restart = |id: &str| {
        format!(
            "update pm.job set state = 0, failed_at = null, ended_at = null, reason = null, seq = 1 where id = '{id}'"
        )
    };
    let [again, gone, kept] = [(); 3].map(|()| failed());
    let elsewhere = "(select id from pm.queue where name = 'film')";
    let changes = format!("{}; update pm.job set queue_id = {elsewhere} where id = '{gone}'", restart(&again));
    let ran = overtaken(&place, &changes, &kept, &["job", "delete", "-q", "mail", "-s", "failed"]);
    ran.assert_refused(
        1,
        &[
            "Deleted 1 job.",
            "2 jobs were not deleted",
            &format!("{again}: pending meanwhile"),
            &format!("{gone}: in another queue meanwhile"),
        ],
    );
    assert_eq!([&again, &gone].map(|id| state(&place, id)), ["pending", "failed"]);
    place.pm(&["job", "show", &kept]).assert_refused(1, &["not found"]);
    // Of a condition too: it held of the job in the state that it had.
    let [again, kept] = [(); 2].map(|()| failed());
    let ran = overtaken(&place, &restart(&again), &kept, &["job", "delete", "-q", "mail", "--where", "reason~broken"]);
    ran.assert_refused(1, &["Deleted 1 job.", &format!("{again}: pending meanwhile")]);
    place.pm(&["job", "show", &kept]).assert_refused(1, &["not found"]);
}
