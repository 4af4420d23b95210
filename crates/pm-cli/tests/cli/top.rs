//! `pm top` on a real terminal.

use crate::support::Place;
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// A running `pm top` and its terminal; killed when dropped.
struct Terminal {
    child: Child,
    master: OwnedFd,
    /// Keeps the terminal open, so that what it is set to can be asked afterwards.
    terminal: File,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn run(place: &Place, arguments: &[&str], columns: u16, rows: u16) -> Terminal {
        Terminal::run_in(place, arguments, (columns, rows), &[])
    }

    fn run_in(place: &Place, arguments: &[&str], (columns, rows): (u16, u16), more: &[(&str, &str)]) -> Terminal {
        let (master, terminal) = crate::support::open_terminal(columns);
        tcsetwinsize(&terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        // The program is to find this terminal whoever runs the test, and to hear of its size.
        let mut command = Command::new("setsid");
        command.args(["--ctty", env!("CARGO_BIN_EXE_pm"), "top"]).args(arguments);
        let as_ours = place.command();
        let variables = as_ours.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
        command.env_clear().envs(variables).env("TERM", "xterm").env("PATH", std::env::var_os("PATH").unwrap());
        command.envs(more.iter().copied());
        let [input, out, err] = [(); 3].map(|()| terminal.try_clone().unwrap());
        let child = command.stdin(input).stdout(out).stderr(err).spawn().unwrap();
        let written = Arc::new(Mutex::new(Vec::new()));
        let mut reader = File::from(master.try_clone().unwrap());
        let sink = written.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                sink.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Terminal { child, master, terminal, written }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// Waits until all of these words are on the screen.
    #[track_caller]
    fn shows(&self, words: &[&str]) {
        let begin = Instant::now();
        loop {
            let screen = screen(&self.text());
            if words.iter().all(|word| screen.contains(word)) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{words:?} are not all on the screen:\n{screen}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn press(&self, keys: &str) {
        File::from(self.master.try_clone().unwrap()).write_all(keys.as_bytes()).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(self.terminal.as_fd()).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Waits for the end; returns the status and all that was written.
    #[track_caller]
    fn ended(&mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap().code();
        assert!(!self.is_raw(), "the terminal is as it was");
        let begin = Instant::now();
        while !self.text().contains("\u{1b}[?25h") {
            assert!(begin.elapsed() < PATIENCE, "the cursor is not shown again: {:?}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        }
        let text = self.text();
        assert!(text.contains("\u{1b}[?1049h") && text.contains("\u{1b}[?1049l"), "{text:?}");
        (status, text)
    }
}

/// Returns what a terminal shows that was sent this: it knows how to place the cursor, and how to clear.
fn screen(sent: &str) -> String {
    let mut cells = BTreeMap::new();
    let (mut row, mut column) = (1, 1);
    let mut rest = sent;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\u{1b}' if rest.starts_with('[') => {
                let Some(end) = rest.find(|c: char| c.is_ascii_alphabetic()) else { break };
                let (order, arguments) = (rest.as_bytes()[end], &rest[1..end]);
                rest = &rest[end + 1..];
                match order {
                    b'H' => {
                        let mut numbers = arguments.split(';').map(|number| number.parse().unwrap_or(1));
                        (row, column) = (numbers.next().unwrap_or(1), numbers.next().unwrap_or(1));
                    }
                    b'J' => cells.clear(),
                    _ => {}
                }
            }
            '\n' => (row, column) = (row + 1, 1),
            '\r' => column = 1,
            c => {
                cells.insert((row, column), c);
                column += unicode_width::UnicodeWidthChar::width(c).unwrap_or(0);
            }
        }
    }
    let mut lines = Vec::new();
    for ((row, column), c) in cells {
        if lines.len() < row {
            lines.resize(row, String::new());
        }
        let line: &mut String = &mut lines[row - 1];
        let gap = column.saturating_sub(1).saturating_sub(unicode_width::UnicodeWidthStr::width(line.as_str()));
        line.push_str(&" ".repeat(gap));
        line.push(c);
    }
    lines.join("\n")
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
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
    let mut top = Terminal::run(&place, &["--every", "200ms"], 80, 24);
    top.shows(&["Queues (2)", "mail", "日本", "Leases (0)", "no such letter box", "q quit"]);
    assert!(!top.text().contains("\u{1b}[48;"), "light and dark are the terminal's affair");
    assert!(top.is_raw());
    place.add(&["日本", "3", "--in", "1h"]);
    place.pm(&["job", "next", "mail"]);
    top.shows(&["Leases (1)"]);
    top.press("q");
    let (status, _) = top.ended();
    assert_eq!(status, Some(0));
}

#[test]
fn keys_pause_resume_and_open_a_job() {
    let place = place();
    let mut top = Terminal::run(&place, &[], 80, 24);
    top.shows(&["no such letter box", "q quit"]);
    top.press("p");
    top.shows(&["Pause queue \"mail\"? y/n"]);
    top.press("n");
    top.shows(&["quit"]);
    assert_eq!(place.value("select count(*) from pm.queue where paused"), "0");
    top.press("py");
    top.shows(&["Paused queue \"mail\": 1 jobs held now", "(paused)"]);
    assert_eq!(place.value("select count(*) from pm.queue where paused"), "1");
    top.press("ry");
    top.shows(&["Resumed queue \"mail\": 1 jobs set free"]);
    assert_eq!(place.value("select count(*) from pm.queue where paused"), "0");
    top.press("\t\t\r");
    top.shows(&["reason: ", "Esc close"]);
    top.press("\u{3}");
    assert_eq!(top.ended().0, Some(0), "Ctrl-C quits");
}

#[test]
fn it_follows_the_size_of_the_terminal() {
    let place = place();
    let mut top = Terminal::run(&place, &["--every", "10m"], 80, 24);
    top.shows(&["q quit", "Queues (2)"]);
    assert!(!top.text().contains("oldest waiting"), "80 columns have no room for it");
    tcsetwinsize(&top.terminal, Winsize { ws_row: 50, ws_col: 160, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    top.shows(&["oldest waiting", "failed/m"]);
    tcsetwinsize(&top.terminal, Winsize { ws_row: 3, ws_col: 20, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    top.signal(Signal::TERM);
    assert_eq!(top.ended().0, Some(0));
}

#[test]
fn a_signal_and_a_panic_give_the_terminal_back() {
    let place = place();
    for signal in [Signal::TERM, Signal::INT] {
        let mut top = Terminal::run(&place, &[], 80, 24);
        top.shows(&["q quit"]);
        assert!(top.is_raw());
        top.signal(signal);
        assert_eq!(top.ended().0, Some(0));
    }
    let mut top = Terminal::run(&place, &["--panic"], 80, 24);
    let (status, text) = top.ended();
    let (_, after) = text.split_once("\u{1b}[?1049l").unwrap();
    assert!(status == Some(101) && after.contains("asked to panic"), "{text:?}");
}

#[test]
fn no_color_is_obeyed() {
    let place = place();
    let coloured = Terminal::run(&place, &[], 80, 24);
    coloured.shows(&["q quit", "no such letter box"]);
    assert!(coloured.text().contains("\u{1b}[38;5;1"), "failures are red");
    let top = Terminal::run_in(&place, &[], (80, 24), &[("NO_COLOR", "1")]);
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
