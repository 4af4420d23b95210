//! `pm job watch`

use crate::support::{Place, redact};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

#[test]
fn changes_are_told_a_line_each_until_it_is_stopped() {
    let place = Place::with_queues(&["mail", "film"]);
    let old = place.add(&["mail", "1"]);
    let mut command = place.command();
    command.args(["job", "watch", "--queue", "mail", "--every", "20ms", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    // What was there at the beginning is not told, so the first line may come only after a change: make some.
    let mut id = String::new();
    let mut first = None;
    std::thread::scope(|scope| {
        let reader = scope.spawn(&mut next);
        while !reader.is_finished() {
            place.add(&["film", "1"]);
            id = place.add(&["mail", "1"]);
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
    place.pm(&["job", "fail", &old, "-m", "no\nuse"]);
    let failed = until(&old, json!("failed"));
    assert_eq!((&failed["from"], &failed["reason"]), (&json!("pending"), &json!("no\nuse")));
    place.pm(&["job", "move", &id, "-t", "film"]);
    let gone = until(&id, json!(null));
    assert_eq!((&gone["from"], &gone["queue"]), (&json!("pending"), &json!(null)));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn people_get_a_line_they_can_read() {
    let place = Place::with_queues(&["mail"]);
    let id = place.add(&["mail", "1"]);
    let mut command = place.command();
    command.args(["job", "watch", "--every", "20ms"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "Watching; Ctrl-C stops it.\n");
    place.pm(&["job", "fail", &id, "-m", "no use"]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(redact(&line), "<time>  <id>  mail  pending → failed  no use\n");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    place.pm(&["job", "watch", "-q", "male"]).assert_refused(1, &["queue \"male\" not found"]);
}

#[test]
fn an_outage_in_the_middle_of_a_look_hides_no_change() {
    let place = Place::with_queues(&["mail", "film"]);
    let moved = place.add(&["mail", "1"]);
    place.pm(&["job", "copy", &moved, "-t", "film"]);
    let changed = place.add(&["mail", "1"]);
    let mut command = place.command();
    command.args(["job", "watch", "-q", "mail", "--every", "20ms"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    said.next().unwrap().unwrap();
    // The queue's jobs can be listed, but no job with a shared payload can be read: only the one that leaves has one.
    let break_off = "create function pm.out() returns bytea language plpgsql as
            $$begin raise 'out of order' using errcode = '53300'; end$$;
        alter table pm.payload rename to kept;
        create view pm.payload as select id, pm.out() as data from pm.kept;";
    let film = "(select id from pm.queue where name = 'film')";
    let changes = format!(
        "update pm.job set queue_id = {film} where id = '{moved}';
        update pm.job set retry_count = retry_count + 1 where id = '{changed}'"
    );
    place.database.execute(&format!("{break_off}{changes}")).unwrap();
    assert!(said.next().unwrap().unwrap().contains("out of order"));
    place.database.execute("drop view pm.payload; alter table pm.kept rename to payload").unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    // The look that meets the first of these may tell the rest after it; the second is met by a later look.
    let mut told = Vec::new();
    for _ in 0..2 {
        let new = place.add(&["mail", "1"]);
        told.extend(lines.by_ref().take_while(|line| !line.contains(&new)));
    }
    told.sort();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].ends_with(&format!("{moved}  -  pending → gone")), "{told:?}");
    assert!(told[1].ends_with(&format!("{changed}  mail  pending → pending")), "{told:?}");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
