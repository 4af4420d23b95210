//! `pm top` on a real terminal.

use crate::screen::Terminal;
use crate::support::Place;
use rustix::process::Signal;

/// Waits for the end; returns the status and all that was written. The terminal is as it was before.
#[track_caller]
fn ended(top: &mut Terminal) -> (Option<i32>, String) {
    let (status, text) = top.ended();
    for order in ["\u{1b}[?1049h", "\u{1b}[?1049l", "\u{1b}[?25h"] {
        assert!(text.contains(order), "{order:?} is missing in {text:?}");
    }
    assert!(text.rfind("\u{1b}[?25h") > text.rfind("\u{1b}[?25l"), "the cursor is shown again");
    (status, text)
}

fn place() -> Place {
    let place = Place::with_queues(&["mail", "日本"]);
    place.add(&["mail", "{\"to\": \"ada\"}"]);
    let failed = place.add(&["mail", "2"]);
    assert_eq!(place.pm(&["job", "fail", &failed, "-m", "no such letter box"]).status, 0);
    place
}

#[test]
fn it_shows_queues_and_failures_and_quits() {
    let place = place();
    let mut top = Terminal::run(&place, &["top", "--every", "200ms"], (80, 24));
    top.shows(&["Queues (2)", "mail", "日本", "Leases (0)", "no such letter box", "q quit"]);
    assert!(!top.text().contains("\u{1b}[48;"), "light and dark are the terminal's affair");
    assert!(top.is_raw());
    place.add(&["日本", "3", "--in", "1h"]);
    place.pm(&["job", "next", "mail"]);
    top.shows(&["Leases (1)"]);
    top.press("q");
    let (status, _) = ended(&mut top);
    assert_eq!(status, Some(0));
}

#[test]
fn keys_pause_resume_and_open_a_job() {
    let place = place();
    let mut top = Terminal::run(&place, &["top"], (80, 24));
    top.shows(&["no such letter box", "q quit"]);
    top.press("p");
    top.shows(&["Pause queue \"mail\"? y/n"]);
    top.press("n");
    top.shows(&["quit"]);
    assert_eq!(place.value("select count(*) from pm.queue where paused"), "0");
    top.press("py");
    top.shows(&["Paused queue \"mail\": 1 job held now", "(paused)"]);
    assert_eq!(place.value("select count(*) from pm.queue where paused"), "1");
    top.press("ry");
    top.shows(&["Resumed queue \"mail\": 1 job set free"]);
    assert_eq!(place.value("select count(*) from pm.queue where paused"), "0");
    top.press("\t\t\r");
    top.shows(&["reason: ", "Esc close"]);
    top.press("\u{3}");
    assert_eq!(ended(&mut top).0, Some(0), "Ctrl-C quits");
}

#[test]
fn it_follows_the_size_of_the_terminal() {
    let place = place();
    let mut top = Terminal::run(&place, &["top", "--every", "10m"], (80, 24));
    top.shows(&["q quit", "Queues (2)"]);
    assert!(!top.text().contains("oldest waiting"), "80 columns have no room for it");
    top.resize((160, 50));
    top.shows(&["oldest waiting", "failed/m"]);
    top.resize((20, 3));
    top.signal(Signal::TERM);
    assert_eq!(ended(&mut top).0, Some(0));
}

#[test]
fn a_signal_and_a_panic_give_the_terminal_back() {
    let place = place();
    for signal in [Signal::TERM, Signal::INT] {
        let mut top = Terminal::run(&place, &["top"], (80, 24));
        top.shows(&["q quit"]);
        assert!(top.is_raw());
        top.signal(signal);
        assert_eq!(ended(&mut top).0, Some(0));
    }
    let mut top = Terminal::run(&place, &["top", "--panic"], (80, 24));
    let (status, text) = ended(&mut top);
    let (_, after) = text.split_once("\u{1b}[?1049l").unwrap();
    assert!(status == Some(101) && after.contains("asked to panic"), "{text:?}");
}

#[test]
fn no_color_is_obeyed() {
    let place = place();
    let coloured = Terminal::run(&place, &["top"], (80, 24));
    coloured.shows(&["q quit", "no such letter box"]);
    assert!(coloured.text().contains("\u{1b}[38;5;1"), "failures are red");
    let top = Terminal::run_in(&place, &["top"], (80, 24), &[("NO_COLOR", "1")]);
    top.shows(&["q quit", "no such letter box"]);
    assert!(!top.text().contains("\u{1b}[38;5;"));
}

#[test]
fn it_is_for_terminals_and_says_so() {
    let place = Place::with_queues(&[]);
    place.pm(&["top"]).assert_refused(2, &["for people at a terminal", "pm db stats --json"]);
    place.pm(&["top", "--json"]).assert_refused(2, &["for people at a terminal"]);
    place.pm(&["top", "--every", "x"]).assert_refused(2, &["like 90s"]);
}
