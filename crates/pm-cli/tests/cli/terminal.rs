//! Output on a terminal.

use crate::support::{Fixture, open_terminal, read_terminal};
use std::process::Command;

/// Returns the output of `command` on a terminal with this number of columns.
fn on_terminal(command: &mut Command, columns: u16) -> String {
    let (master, terminal) = open_terminal((columns, 50));
    let mut child = command.stdout(terminal).spawn().unwrap();
    // `command` would keep the terminal open.
    command.stdout(std::process::Stdio::null());
    let text = read_terminal(master);
    assert!(child.wait().unwrap().success());
    text
}

fn fixture() -> Fixture {
    let fixture = Fixture::with_queues(&["mail"]);
    fixture.add(&["mail", "1", "--description", "a note that is long enough to be cut on a narrow terminal"]);
    fixture
        .database
        .execute("update pm.job set state = 1, lease = 1, lease_expires_at = now() + interval '1 h'")
        .unwrap();
    fixture
}

#[test]
fn a_wide_terminal_shows_a_box_with_complete_ids() {
    let fixture = fixture();
    let drawn = on_terminal(fixture.command().args(["job", "ls"]).env("NO_COLOR", "1"), 200);
    assert!(drawn.starts_with("┌────") && drawn.trim_end().ends_with('┘'), "{drawn}");
    assert!(drawn.contains("│ id ") && drawn.contains("narrow terminal │"), "{drawn}");
    let id = fixture.value("select id from pm.job");
    assert!(drawn.contains(&format!("│ {id} │ mail ")), "{drawn}");
    assert!(!drawn.contains('\u{1b}'), "NO_COLOR was set");
}

#[test]
fn a_narrow_terminal_shows_short_ids_and_complete_statuses() {
    let fixture = fixture();
    for columns in [80, 100, 120] {
        let drawn = on_terminal(fixture.command().args(["job", "ls"]).env("NO_COLOR", "1"), columns);
        let widest = drawn.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= usize::from(columns), "{columns}\n{drawn}");
        assert!(drawn.contains("│ in_progress │") && drawn.contains('…'), "{drawn}");
        assert_eq!(drawn.lines().count(), 5);
        let id = fixture.value("select right(id::text, 12) from pm.job");
        assert!(drawn.contains(&id), "{drawn}");
    }
}

#[test]
fn colours_are_used_on_terminals_that_support_them() {
    let fixture = fixture();
    let drawn = on_terminal(fixture.command().args(["job", "ls"]).env("TERM", "xterm"), 120);
    assert!(drawn.contains("\u{1b}[1min_progress\u{1b}[0m"), "{drawn}");
    let drawn = on_terminal(fixture.command().args(["job", "ls"]).env("TERM", "dumb"), 120);
    assert!(!drawn.contains('\u{1b}'));
    assert!(!fixture.pm(&["job", "ls"]).stdout.contains('\u{1b}'));
    let help = on_terminal(fixture.command().args(["--help"]).env("NO_COLOR", "1"), 120);
    assert!(!help.contains('\u{1b}'));
}

#[test]
fn json_is_the_same_on_a_terminal() {
    let fixture = fixture();
    let drawn = on_terminal(fixture.command().args(["queue", "ls", "--json"]), 80);
    assert_eq!(drawn, fixture.pm(&["queue", "ls", "--json"]).stdout);
}
