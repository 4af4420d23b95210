//! `pm job watch`

use crate::support::{Fixture, redact};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

#[test]
fn changes_are_printed_a_line_each_until_it_is_stopped() {
    let fixture = Fixture::with_queues(&["mail", "film"]);
    let old = fixture.add(&["mail", "1"]);
    let mut command = fixture.command();
    command.args(["job", "watch", "--queue", "mail", "--every", "20ms", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    // The jobs of the first poll are not printed, and when it happens is unknown: add jobs until a change is printed.
    let mut id = String::new();
    let mut first = None;
    std::thread::scope(|scope| {
        let reader = scope.spawn(&mut next);
        while !reader.is_finished() {
            fixture.add(&["film", "1"]);
            id = fixture.add(&["mail", "1"]);
        }
        first = Some(reader.join().unwrap());
    });
    let first = first.unwrap();
    assert_eq!((&first["queue"], &first["from"], &first["to"]), (&json!("mail"), &json!(null), &json!("pending")));
    assert_ne!(first["id"], json!(old));
    let mut until = |id: &str, to: Value| loop {
        let change = next();
        if change["id"] == json!(id) && change["to"] == to {
            return change;
        }
    };
    if first["id"] != json!(id) {
        until(&id, json!("pending"));
    }
    fixture.pm(&["job", "fail", &old, "-m", "no\nuse"]);
    let failed = until(&old, json!("failed"));
    assert_eq!((&failed["from"], &failed["reason"]), (&json!("pending"), &json!("no\nuse")));
    fixture.pm(&["job", "move", &id, "-t", "film"]);
    let gone = until(&id, json!(null));
    assert_eq!((&gone["from"], &gone["queue"]), (&json!("pending"), &json!(null)));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn changes_are_printed_as_readable_lines() {
    let fixture = Fixture::with_queues(&["mail"]);
    let id = fixture.add(&["mail", "1"]);
    let mut command = fixture.command();
    command.args(["job", "watch", "--every", "20ms"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut message = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut message).unwrap();
    assert_eq!(message, "Watching; Ctrl-C stops it.\n");
    fixture.pm(&["job", "fail", &id, "-m", "no use"]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(redact(&line), "<time>  <id>  mail  pending → failed  no use\n");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    fixture.pm(&["job", "watch", "-q", "male"]).assert_refused(1, &["queue \"male\" not found"]);
}

#[test]
fn an_outage_during_a_poll_hides_no_change() {
    let fixture = Fixture::with_queues(&["mail", "film"]);
    let moved = fixture.add(&["mail", "1"]);
    fixture.pm(&["job", "copy", &moved, "-t", "film"]);
    let changed = fixture.add(&["mail", "1"]);
    let mut command = fixture.command();
    command.args(["job", "watch", "-q", "mail", "--every", "20ms"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut messages = BufReader::new(child.stderr.take().unwrap()).lines();
    messages.next().unwrap().unwrap();
    // The queue's jobs can be listed, but reading a job with a shared payload fails: only the moved job has one.
    let outage = "create function pm.out() returns bytea language plpgsql as
            $$begin raise 'out of order' using errcode = '53300'; end$$;
        alter table pm.payload rename to kept;
        create view pm.payload as select id, pm.out() as data from pm.kept;";
    let film = "(select id from pm.queue where name = 'film')";
    let changes = format!(
        "update pm.job set queue_id = {film} where id = '{moved}';
        update pm.job set retry_count = retry_count + 1 where id = '{changed}'"
    );
    fixture.database.execute(&format!("{outage}{changes}")).unwrap();
    assert!(messages.next().unwrap().unwrap().contains("out of order"));
    fixture.database.execute("drop view pm.payload; alter table pm.kept rename to payload").unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    // The poll that finds the first of these may print other changes after it; a later poll finds the second.
    let mut printed = Vec::new();
    for _ in 0..2 {
        let new = fixture.add(&["mail", "1"]);
        printed.extend(lines.by_ref().take_while(|line| !line.contains(&new)));
    }
    printed.sort();
    assert_eq!(printed.len(), 2, "{printed:?}");
    assert!(printed[0].ends_with(&format!("{moved}  -  pending → gone")), "{printed:?}");
    assert!(printed[1].ends_with(&format!("{changed}  mail  pending → pending")), "{printed:?}");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
