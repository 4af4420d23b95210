//! Runs `pm` on a terminal: what it shows, and its reaction to keys and signals.

use crate::support::{Fixture, open_terminal};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A running `pm` and its terminal; killed when dropped.
pub(crate) struct Terminal {
    child: Child,
    master: OwnedFd,
    /// Keeps the terminal open, so that its settings can be read afterwards.
    terminal: File,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Runs `pm` on a terminal of this size, in columns and rows.
    pub(crate) fn run(fixture: &Fixture, arguments: &[&str], size: (u16, u16)) -> Terminal {
        Terminal::run_in(fixture, arguments, size, &[])
    }

    /// Runs `pm` like [`Terminal::run`], with these additional variables in the environment.
    pub(crate) fn run_in(fixture: &Fixture, arguments: &[&str], size: (u16, u16), more: &[(&str, &str)]) -> Terminal {
        let (master, terminal) = open_terminal(size);
        // `setsid --ctty` makes this the controlling terminal, so that the program receives changes of its size.
        let mut command = Command::new("setsid");
        command.args(["--ctty", env!("CARGO_BIN_EXE_pm")]).args(arguments);
        let plain = fixture.command();
        let variables = plain.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
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

    /// Changes the size, in columns and rows.
    pub(crate) fn resize(&self, (columns, rows): (u16, u16)) {
        tcsetwinsize(&self.terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    }

    /// Returns everything written so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// Waits until all of these texts are on the screen.
    #[track_caller]
    pub(crate) fn shows(&self, texts: &[&str]) {
        let begin = Instant::now();
        loop {
            let screen = screen(&self.text());
            if texts.iter().all(|text| screen.contains(text)) {
                return;
            }
            assert!(begin.elapsed() < TIMEOUT, "{texts:?} are not all on the screen:\n{screen}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn press(&self, keys: &str) {
        File::from(self.master.try_clone().unwrap()).write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn is_raw(&self) -> bool {
        !tcgetattr(self.terminal.as_fd()).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Waits for the process to exit; returns the status and everything written.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap().code();
        assert!(!self.is_raw(), "the terminal is restored");
        // Output arrives in order, so this marker comes last.
        const END: &str = "\u{1}the end\u{1}";
        self.terminal.try_clone().unwrap().write_all(END.as_bytes()).unwrap();
        let begin = Instant::now();
        while !self.text().ends_with(END) {
            assert!(begin.elapsed() < TIMEOUT, "the rest does not arrive: {:?}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        }
        (status, self.text().replace(END, ""))
    }
}

/// Returns the screen of a terminal that received this output; supports cursor positioning and erasing.
pub(crate) fn screen(sent: &str) -> String {
    let mut cells = BTreeMap::new();
    let (mut row, mut column) = (1, 1);
    let mut rest = sent;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\u{1b}' if rest.starts_with('[') => {
                let Some(end) = rest.find(|c: char| c.is_ascii_alphabetic()) else { break };
                let (command, arguments) = (rest.as_bytes()[end], &rest[1..end]);
                rest = &rest[end + 1..];
                match command {
                    b'H' => {
                        let mut numbers = arguments.split(';').map(|number| number.parse().unwrap_or(1));
                        (row, column) = (numbers.next().unwrap_or(1), numbers.next().unwrap_or(1));
                    }
                    b'J' => cells.clear(),
                    b'K' => cells.retain(|(line, cell), _| (*line, *cell) < (row, column) || *line > row),
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
        // The process may have exited already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
