//! `pm top` on a real terminal.

use crate::screen::Terminal;
use crate::support::Fixture;
use rustix::process::Signal;

/// Waits for the process to exit, and checks that the terminal is restored; returns the status and everything written.
#[track_caller]
fn ended(top: &mut Terminal) -> (Option<i32>, String) {
    let (status, text) = top.ended();
    for sequence in ["\u{1b}[?1049h", "\u{1b}[?1049l", "\u{1b}[?25h"] {
        assert!(text.contains(sequence), "{sequence:?} is missing in {text:?}");
    }
    assert!(text.rfind("\u{1b}[?25h") > text.rfind("\u{1b}[?25l"), "the cursor is shown again");
    (status, text)
}

fn fixture() -> Fixture {
    let fixture = Fixture::with_queues(&["mail", "日本"]);
    fixture.add(&["mail", "{\"to\": \"ada\"}"]);
    let failed = fixture.add(&["mail", "2"]);
    assert_eq!(fixture.pm(&["job", "fail", &failed, "-m", "no such letter box"]).status, 0);
    fixture
}

#[test]
fn it_shows_queues_and_failures_and_quits() {
    let fixture = fixture();
    let mut top = Terminal::run(&fixture, &["top", "--every", "200ms"], (80, 24));
    top.shows(&["Queues (2)", "mail", "日本", "Leases (0)", "no such letter box", "q quit"]);
    assert!(!top.text().contains("\u{1b}[48;"), "the background is the terminal's");
    assert!(top.is_raw());
    fixture.add(&["日本", "3", "--in", "1h"]);
    fixture.pm(&["job", "next", "mail"]);
    top.shows(&["Leases (1)"]);
    top.press("q");
    let (status, _) = ended(&mut top);
    assert_eq!(status, Some(0));
}

#[test]
fn keys_pause_resume_and_open_a_job() {
    let fixture = fixture();
    let mut top = Terminal::run(&fixture, &["top"], (80, 24));
    top.shows(&["no such letter box", "q quit"]);
    top.press("p");
    top.shows(&["Pause queue \"mail\"? y/n"]);
    top.press("n");
    top.shows(&["quit"]);
    assert_eq!(fixture.value("select count(*) from pm.queue where paused"), "0");
    top.press("py");
    top.shows(&["Paused queue \"mail\": 1 job paused now", "(paused)"]);
    assert_eq!(fixture.value("select count(*) from pm.queue where paused"), "1");
    top.press("ry");
    top.shows(&["Resumed queue \"mail\": 1 job resumed"]);
    assert_eq!(fixture.value("select count(*) from pm.queue where paused"), "0");
    top.press("\t\t\r");
    top.shows(&["reason: ", "Esc close"]);
    top.press("\u{3}");
    assert_eq!(ended(&mut top).0, Some(0), "Ctrl-C quits");
}

#[test]
fn it_follows_the_size_of_the_terminal() {
    let fixture = fixture();
    let mut top = Terminal::run(&fixture, &["top", "--every", "10m"], (80, 24));
    top.shows(&["q quit", "Queues (2)"]);
    assert!(!top.text().contains("oldest waiting"), "it does not fit in 80 columns");
    top.resize((160, 50));
    top.shows(&["oldest waiting", "failed/m"]);
    top.resize((20, 3));
    top.signal(Signal::TERM);
    assert_eq!(ended(&mut top).0, Some(0));
}

#[test]
fn a_signal_and_a_panic_restore_the_terminal() {
    let fixture = fixture();
    for signal in [Signal::TERM, Signal::INT] {
        let mut top = Terminal::run(&fixture, &["top"], (80, 24));
        top.shows(&["q quit"]);
        assert!(top.is_raw());
        top.signal(signal);
        assert_eq!(ended(&mut top).0, Some(0));
    }
    let mut top = Terminal::run(&fixture, &["top", "--panic"], (80, 24));
    let (status, text) = ended(&mut top);
    let (_, after) = text.split_once("\u{1b}[?1049l").unwrap();
    assert!(status == Some(101) && after.contains("asked to panic"), "{text:?}");
}

#[test]
fn no_color_is_respected() {
    let fixture = fixture();
    let coloured = Terminal::run(&fixture, &["top"], (80, 24));
    coloured.shows(&["q quit", "no such letter box"]);
    assert!(coloured.text().contains("\u{1b}[38;5;1"), "failures are red");
    let top = Terminal::run_in(&fixture, &["top"], (80, 24), &[("NO_COLOR", "1")]);
    top.shows(&["q quit", "no such letter box"]);
    assert!(!top.text().contains("\u{1b}[38;5;"));
}

#[test]
fn it_needs_a_terminal() {
    let fixture = Fixture::with_queues(&[]);
    fixture.pm(&["top"]).assert_refused(2, &["needs a terminal", "pm db stats --json"]);
    fixture.pm(&["top", "--json"]).assert_refused(2, &["needs a terminal"]);
    fixture.pm(&["top", "--every", "x"]).assert_refused(2, &["like 90s"]);
}
