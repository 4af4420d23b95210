//! Runs `pm` in a clean environment: no configuration, no colours, a known time zone.

use pm_sandbox::TestDatabase;
use rustix::fd::OwnedFd;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The result of a run of `pm`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn assert(&self, status: i32, stdout: &str, stderr: &str) {
        assert_eq!((self.status, self.stdout.as_str(), self.stderr.as_str()), (status, stdout, stderr));
    }

    /// Asserts that it failed with this status, with all of these texts on stderr and nothing on stdout.
    #[track_caller]
    pub(crate) fn assert_refused(&self, status: i32, texts: &[&str]) {
        assert_eq!((self.status, self.stdout.as_str()), (status, ""), "{}", self.stderr);
        for text in texts {
            assert!(self.stderr.contains(text), "{text:?} is missing in: {}", self.stderr);
        }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.status, 0, "{}", self.stderr);
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// A database and a home directory for one test.
pub(crate) struct Fixture {
    pub(crate) database: TestDatabase,
    pub(crate) home: Home,
}

impl Fixture {
    /// Returns an empty database.
    pub(crate) fn empty() -> Self {
        Fixture { database: TestDatabase::create().unwrap(), home: Home::new() }
    }

    /// Returns a database with pm's tables and these queues.
    pub(crate) fn with_queues(queues: &[&str]) -> Self {
        let fixture = Fixture::empty();
        assert_eq!(fixture.pm(&["db", "migrate"]).status, 0);
        for queue in queues {
            assert_eq!(fixture.pm(&["queue", "create", queue]).status, 0);
        }
        fixture
    }

    pub(crate) fn pm<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Ran {
        self.pm_reading(arguments, b"")
    }

    pub(crate) fn pm_reading<S: AsRef<OsStr>>(&self, arguments: &[S], stdin: &[u8]) -> Ran {
        run(self.command().args(arguments), stdin)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = self.home.command();
        command.env("PM_DATABASE_URL", self.database.url());
        command
    }

    /// Adds a job and returns its id.
    #[track_caller]
    pub(crate) fn add(&self, arguments: &[&str]) -> String {
        let ran = self.pm(&[&["job", "add"], arguments].concat());
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
        ran.stdout.trim_end().to_owned()
    }

    /// Returns the single value that the SQL returns.
    #[track_caller]
    pub(crate) fn value(&self, sql: &str) -> String {
        let rows = self.database.execute(sql).unwrap();
        rows[0][0].clone().unwrap_or_default()
    }
}

/// A home directory that is deleted when this is dropped.
pub(crate) struct Home(PathBuf);

impl Home {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pm-cli-test-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Home(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes the configuration file under `$XDG_CONFIG_HOME`, and returns its path.
    pub(crate) fn configure(&self, text: &str) -> PathBuf {
        let path = self.0.join("config/postmodern/config.toml");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Returns a command that runs `pm` with only this home directory in its environment.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pm"));
        command.env_clear().env("HOME", &self.0).env("XDG_CONFIG_HOME", self.0.join("config")).env("TZ", "UTC");
        // To find Postgres, and for temporary files.
        for name in ["PATH", "TMPDIR", "PM_PG_BINDIR"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

pub(crate) fn run(command: &mut Command, stdin: &[u8]) -> Ran {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The program need not read all of stdin.
    child.stdin.take().unwrap().write_all(stdin).ok();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let status = output.status.code().unwrap_or(-1);
    Ran { status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Opens a terminal of this size, in columns and rows; returns the master and the end for a process.
pub(crate) fn open_terminal((columns, rows): (u16, u16)) -> (OwnedFd, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal = File::options().read(true).write(true).open(OsStr::from_bytes(name.as_bytes())).unwrap();
    tcsetwinsize(&terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    (master, terminal)
}

/// Returns everything written to a terminal until all processes have closed it, which ends reading with an error.
pub(crate) fn read_terminal(master: OwnedFd) -> String {
    let mut bytes = Vec::new();
    File::from(master).read_to_end(&mut bytes).ok();
    String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
}

/// Runs `command` on a terminal with this input; returns the status and everything shown.
pub(crate) fn run_on_terminal(command: &mut Command, typed: &str) -> (i32, String) {
    let (master, terminal) = open_terminal((120, 50));
    let [out, err] = [(); 2].map(|()| terminal.try_clone().unwrap());
    File::from(master.try_clone().unwrap()).write_all(typed.as_bytes()).unwrap();
    let mut child = command.stdin(terminal).stdout(out).stderr(err).spawn().unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let text = read_terminal(master);
    (child.wait().unwrap().code().unwrap_or(-1), text)
}

/// Replaces ids by `<id>`, times by `<time>`, and relative times by `<ago>`.
pub(crate) fn redact(text: &str) -> String {
    let mut redacted = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (name, length) = [("<id>", ID), ("<time>", TIME)]
            .into_iter()
            .find(|(_, form)| matches_form(rest, form))
            .map_or(("", c.len_utf8()), |(name, form)| (name, form.len()));
        redacted.push_str(if name.is_empty() { &rest[..length] } else { name });
        rest = &rest[length..];
    }
    redacted = redacted.replace("(now)", "(<ago>)");
    for seconds in 1..60 {
        redacted = redacted.replace(&format!("({seconds}s ago)"), "(<ago>)");
    }
    redacted
}

const ID: &str = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
const TIME: &str = "dddd-dd-dd dd:dd:dd+00:00";

fn matches_form(text: &str, form: &str) -> bool {
    let matches = |(c, wanted): (char, char)| match wanted {
        'x' => c.is_ascii_hexdigit(),
        'd' => c.is_ascii_digit(),
        wanted => c == wanted,
    };
    text.chars().count() >= form.len()
        && text.is_char_boundary(form.len())
        && text.chars().zip(form.chars()).all(matches)
}
