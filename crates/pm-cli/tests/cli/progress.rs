//! Progress of long commands, and Ctrl-C during them.

use crate::screen::{Terminal, screen};
use crate::support::Fixture;

/// Returns a database with 12,000 finished jobs, in which the second delete statement waits until the gate is open.
fn fixture() -> Fixture {
    let fixture = Fixture::with_queues(&["mail"]);
    let jobs = "insert into pm.job (id, queue_id, priority, codec, payload, state, ended_at) \
                select gen_random_uuid(), id, 0, 0, 'null', 2, now() - interval '2 h' from pm.queue, generate_series(1, 12000)";
    let gate = "create table gate as select 1 as closed; create sequence step; \
                create function wait() returns trigger language plpgsql as $$ begin \
                  while nextval('public.step') > 1 and exists (select from public.gate) loop perform pg_sleep(0.01); end loop; \
                  return null; \
                end $$; \
                create trigger wait before delete on pm.job for each statement execute function wait()";
    fixture.database.execute(&format!("{jobs}; {gate}")).unwrap();
    fixture
}

/// Presses Ctrl-C while the second step waits; returns the status and the final screen.
fn interrupted(fixture: &Fixture, arguments: &[&str], texts: &[&str]) -> (Option<i32>, String) {
    let mut terminal = Terminal::run(fixture, arguments, (80, 24));
    terminal.shows(texts);
    terminal.press("\u{3}");
    terminal.shows(&["^C"]);
    fixture.database.execute("delete from gate").unwrap();
    let (status, text) = terminal.ended();
    let screen = screen(&text);
    assert!(!screen.contains(['█', '░', '^']), "the bar is erased: {screen}");
    (status, screen)
}

#[test]
fn deleting_a_queue_shows_progress_and_stops_at_ctrl_c() {
    let fixture = fixture();
    let (status, screen) = interrupted(&fixture, &["queue", "delete", "mail", "--yes"], &["5000 of 12000 (41%)", "░"]);
    assert_eq!(status, Some(1));
    let expected =
        "Error: interrupted; deleted queue \"mail\" and 10000 jobs so far\nHint: to delete the rest: pm db prune";
    assert_eq!(screen.trim_end(), expected);
    fixture.pm(&["queue", "show", "mail"]).assert_refused(1, &["not found"]);
    assert_eq!(fixture.value("select count(*) from pm.job"), "2000");
    fixture.pm(&["db", "prune"]).assert(0, "", "Pruned 2000 jobs.\n");
    assert_eq!(fixture.value("select count(*) from pm.queue"), "0");
}

#[test]
fn pruning_shows_progress_and_stops_at_ctrl_c() {
    let fixture = fixture();
    assert_eq!(fixture.pm(&["queue", "set", "mail", "--retain", "1h"]).status, 0);
    let (status, screen) = interrupted(&fixture, &["db", "prune"], &["5000 of 12000 (41%), 5000 deleted", "░"]);
    assert_eq!(status, Some(1));
    let expected = "Error: interrupted after pruning 10000 jobs\nHint: run it again to continue";
    assert_eq!(screen.trim_end(), expected);
    assert_eq!(fixture.value("select count(*) from pm.job"), "2000");
    fixture.pm(&["db", "prune"]).assert(0, "", "Pruned 2000 jobs.\n");
}
