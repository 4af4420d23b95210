//! How far long work is, and Ctrl-C in the midst of it.

use crate::screen::{Terminal, screen};
use crate::support::Place;

/// Returns a place with 12,000 finished jobs, where the second statement that deletes some waits for the gate to go.
fn place() -> Place {
    let place = Place::with_queues(&["mail"]);
    let jobs = "insert into pm.job (id, queue_id, priority, codec, payload, state, ended_at) \
                select gen_random_uuid(), id, 0, 0, 'null', 2, now() - interval '2 h' from pm.queue, generate_series(1, 12000)";
    let gate = "create table gate as select 1 as closed; create sequence step; \
                create function wait() returns trigger language plpgsql as $$ begin \
                  while nextval('public.step') > 1 and exists (select from public.gate) loop perform pg_sleep(0.01); end loop; \
                  return null; \
                end $$; \
                create trigger wait before delete on pm.job for each statement execute function wait()";
    place.database.execute(&format!("{jobs}; {gate}")).unwrap();
    place
}

/// Presses Ctrl-C while the second step waits; returns the status and what is on the screen in the end.
fn interrupted(place: &Place, arguments: &[&str], words: &[&str]) -> (Option<i32>, String) {
    let mut terminal = Terminal::run(place, arguments, (80, 24));
    terminal.shows(words);
    terminal.press("\u{3}");
    terminal.shows(&["^C"]);
    place.database.execute("delete from gate").unwrap();
    let (status, text) = terminal.ended();
    let screen = screen(&text);
    assert!(!screen.contains(['█', '░', '^']), "the bar is gone: {screen}");
    (status, screen)
}

#[test]
fn the_deletion_of_a_queue_tells_how_far_it_is_and_stops_at_ctrl_c() {
    let place = place();
    let (status, screen) = interrupted(&place, &["queue", "delete", "mail", "--yes"], &["5000 of 12000 (41%)", "░"]);
    assert_eq!(status, Some(1));
    let words = "Error: stopped; queue \"mail\" is gone, and 10000 jobs with it\nHint: to clear away what is left of it: pm db prune";
    assert_eq!(screen.trim_end(), words);
    place.pm(&["queue", "show", "mail"]).assert_refused(1, &["not found"]);
    assert_eq!(place.value("select count(*) from pm.job"), "2000");
    place.pm(&["db", "prune"]).assert(0, "", "Pruned 2000 jobs.\n");
    assert_eq!(place.value("select count(*) from pm.queue"), "0");
}

#[test]
fn pruning_tells_how_far_it_is_and_stops_at_ctrl_c() {
    let place = place();
    assert_eq!(place.pm(&["queue", "set", "mail", "--retain", "1h"]).status, 0);
    let (status, screen) = interrupted(&place, &["db", "prune"], &["5000 of 12000 (41%), 5000 deleted", "░"]);
    assert_eq!(status, Some(1));
    let words = "Error: stopped before the end; pruned 10000 jobs\nHint: run it again to go on";
    assert_eq!(screen.trim_end(), words);
    assert_eq!(place.value("select count(*) from pm.job"), "2000");
    place.pm(&["db", "prune"]).assert(0, "", "Pruned 2000 jobs.\n");
}
