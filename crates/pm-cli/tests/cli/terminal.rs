//! What people see on a terminal.

use crate::support::{Place, open_terminal, read_terminal};
use std::process::Command;

/// Returns what `command` writes to a terminal of so many columns.
fn on_terminal(command: &mut Command, columns: u16) -> String {
    let (master, terminal) = open_terminal((columns, 50));
    let mut child = command.stdout(terminal).spawn().unwrap();
    // The command would keep the terminal open.
    command.stdout(std::process::Stdio::null());
    let text = read_terminal(master);
    assert!(child.wait().unwrap().success());
    text
}

fn place() -> Place {
    let place = Place::with_queues(&["mail"]);
    place.add(&["mail", "1", "--description", "a note that is long enough to be cut on a narrow terminal"]);
    place
        .database
        .execute("update pm.job set state = 1, lease = 1, lease_expires_at = now() + interval '1 h'")
        .unwrap();
    place
}

#[test]
fn a_wide_terminal_gets_a_box_with_whole_ids() {
    let place = place();
    let drawn = on_terminal(place.command().args(["job", "ls"]).env("NO_COLOR", "1"), 200);
    assert!(drawn.starts_with("┌────") && drawn.trim_end().ends_with('┘'), "{drawn}");
    assert!(drawn.contains("│ id ") && drawn.contains("narrow terminal │"), "{drawn}");
    let id = place.value("select id from pm.job");
    assert!(drawn.contains(&format!("│ {id} │ mail ")), "{drawn}");
    assert!(!drawn.contains('\u{1b}'), "NO_COLOR was set");
}

#[test]
fn a_narrow_terminal_gets_shorter_ids_and_whole_statuses() {
    let place = place();
    for columns in [80, 100, 120] {
        let drawn = on_terminal(place.command().args(["job", "ls"]).env("NO_COLOR", "1"), columns);
        let widest = drawn.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= usize::from(columns), "{columns}\n{drawn}");
        assert!(drawn.contains("│ in_progress │") && drawn.contains('…'), "{drawn}");
        assert_eq!(drawn.lines().count(), 5);
        let id = place.value("select right(id::text, 12) from pm.job");
        assert!(drawn.contains(&id), "{drawn}");
    }
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let place = place();
    let drawn = on_terminal(place.command().args(["job", "ls"]).env("TERM", "xterm"), 120);
    assert!(drawn.contains("\u{1b}[1min_progress\u{1b}[0m"), "{drawn}");
    let drawn = on_terminal(place.command().args(["job", "ls"]).env("TERM", "dumb"), 120);
    assert!(!drawn.contains('\u{1b}'));
    assert!(!place.pm(&["job", "ls"]).stdout.contains('\u{1b}'));
    let help = on_terminal(place.command().args(["--help"]).env("NO_COLOR", "1"), 120);
    assert!(!help.contains('\u{1b}'));
}

#[test]
fn json_is_the_same_on_a_terminal() {
    let place = place();
    let drawn = on_terminal(place.command().args(["queue", "ls", "--json"]), 80);
    assert_eq!(drawn, place.pm(&["queue", "ls", "--json"]).stdout);
}
