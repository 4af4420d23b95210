//! The binary `pm-sandbox` in other processes: killed, several at a time, and as another account.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

#[test]
fn killed_process_leaves_neither_server_nor_directory() {
    let scratch = ScratchDir::new();
    let mut sandbox = Sandbox::spawn(&mut scratch.command());
    let (dir, pid) = (sandbox.socket_dir(), sandbox.postmaster());
    assert!(is_running(pid));

    sandbox.child.kill().expect("it is our child");
    sandbox.child.wait().expect("it is our child");

    eventually("the server is gone", || !is_running(pid));
    eventually("the directory is gone", || !dir.exists());
    eventually("only templates are left", || scratch.entries().iter().all(|name| is_cache(name)));
}

#[test]
fn children_of_a_killed_process_do_not_keep_the_server_alive() {
    let scratch = ScratchDir::new();
    let script = "echo PM_TEST_SERVER=$PM_TEST_SERVER; echo $$; exec sleep 60";
    let mut child = spawn(scratch.command().args(["sh", "-c", script]));
    let output = child.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(output).lines().map(|line| line.expect("it can be read"));
    let url = lines.next().expect("there is a first line");
    let grandchild = lines.next().and_then(|line| line.parse().ok()).expect("it is a number");
    let sandbox = Sandbox::of(child, &url);
    let (dir, pid) = (sandbox.socket_dir(), sandbox.postmaster());

    let mut child = sandbox.child;
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
    eventually("the server is gone", || !is_running(pid));
    eventually("the directory is gone", || !dir.exists());

    assert!(is_running(grandchild));
    let grandchild = Pid::from_raw(grandchild.cast_signed()).expect("it is not zero");
    kill_process(grandchild, Signal::KILL).expect("it is running");
}

#[test]
fn process_killed_while_it_starts_leaves_nothing() {
    let scratch = ScratchDir::new();
    for wait_ms in [0, 20, 100, 300, 600] {
        let mut child = scratch.command().stdin(Stdio::piped()).spawn().expect("it runs");
        // Kill the process at several moments of its start; there is no event to wait for.
        std::thread::sleep(Duration::from_millis(wait_ms));
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
    }
    eventually("only templates are left", || scratch.entries().iter().all(|name| is_cache(name)));
    Sandbox::spawn(&mut scratch.command()).finish();
}

#[test]
fn end_of_input_ends_the_server() {
    let scratch = ScratchDir::new();
    let sandbox = Sandbox::spawn(&mut scratch.command());
    let (dir, pid) = (sandbox.socket_dir(), sandbox.postmaster());
    sandbox.finish();
    assert!(!is_running(pid));
    assert!(!dir.exists());
}

#[test]
fn command_is_given_the_server() {
    let scratch = ScratchDir::new();
    let script = "echo $PM_TEST_SERVER; exit 7";
    let output = scratch.command().args(["sh", "-c", script]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(7));
    let url = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(url.starts_with("postgres://postgres@%2F"), "{url}");
}

#[test]
fn four_processes_make_one_template() {
    let scratch = ScratchDir::new();
    let children: Vec<_> = (0..4).map(|_| spawn(&mut scratch.command())).collect();
    for sandbox in children.into_iter().map(Sandbox::wait_for) {
        sandbox.finish();
    }
    assert_eq!(scratch.templates().len(), 1, "{:?}", scratch.templates());
}

#[test]
fn damaged_template_is_made_again() {
    let scratch = ScratchDir::new();
    Sandbox::spawn(&mut scratch.command()).finish();
    let [template] = scratch.templates().try_into().expect("there is one");
    fs::remove_file(template.join("global/pg_control")).expect("it is there");

    Sandbox::spawn(&mut scratch.command()).finish();
    let templates = scratch.templates();
    assert_eq!(templates.len(), 1, "{templates:?}");
    assert!(templates[0].join("global/pg_control").exists());
}

#[test]
fn template_that_others_may_write_is_not_trusted() {
    let scratch = ScratchDir::new();
    Sandbox::spawn(&mut scratch.command()).finish();
    let [template] = scratch.templates().try_into().expect("there is one");
    let cache = template.parent().expect("it has one");
    fs::set_permissions(cache, fs::Permissions::from_mode(0o777)).expect("it is there");
    fs::write(template.join("postgresql.conf"), "nonsense").expect("it is there");

    Sandbox::spawn(&mut scratch.command()).finish();
    let left = fs::read_to_string(template.join("postgresql.conf")).expect("it is there");
    assert_eq!(left, "nonsense");
}

#[test]
fn template_of_another_account_is_not_trusted() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let scratch = ScratchDir::new();
    Sandbox::spawn(&mut scratch.command()).finish();
    let [template] = scratch.templates().try_into().expect("there is one");
    let cache = template.parent().expect("it has one");
    chown(cache, Some(12345), None).expect("we are root");
    fs::write(template.join("postgresql.conf"), "nonsense").expect("it is there");

    Sandbox::spawn(&mut scratch.command()).finish();
}

#[test]
fn unprivileged_account_can_run_it_and_be_killed() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let scratch = ScratchDir::new();
    let program = scratch.dir.join("sandbox-copy");
    fs::copy(env!("CARGO_BIN_EXE_pm-sandbox"), &program).expect("the directory is ours");
    let mut command = scratch.command_of(&program);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");

    let mut sandbox = Sandbox::spawn(&mut command);
    let (dir, pid) = (sandbox.socket_dir(), sandbox.postmaster());
    sandbox.child.kill().expect("it is our child");
    let status = sandbox.child.wait().expect("it is our child");
    assert_eq!(status.signal(), Some(9));
    eventually("the server is gone", || !is_running(pid));
    eventually("the directory is gone", || !dir.exists());
}

#[test]
fn temporary_directory_with_a_long_path_is_not_used() {
    let scratch = ScratchDir::new();
    let long = scratch.dir.join("x".repeat(90));
    fs::create_dir(&long).expect("the directory is ours");
    fs::set_permissions(&long, fs::Permissions::from_mode(0o1777)).expect("it is ours");
    let sandbox = Sandbox::spawn(scratch.command().env("TMPDIR", &long));
    assert_eq!(sandbox.socket_dir().parent(), Some(Path::new("/tmp")));
    sandbox.finish();
}

#[test]
fn wrong_binary_directory_names_the_variable_to_set() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pm-sandbox"));
    let output = command.env("PM_PG_BINDIR", "/nowhere").output().expect("it runs");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("/nowhere holds no initdb and postgres"), "{text}");
    assert!(text.contains("PM_PG_BINDIR"), "{text}");
}

const NOBODY: u32 = 65534;
const TIMEOUT: Duration = Duration::from_secs(30);

/// A temporary directory for one test, without a template.
struct ScratchDir {
    dir: PathBuf,
}

impl ScratchDir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("pm-scratch-{}-{count}", std::process::id()));
        fs::create_dir(&dir).expect("is new");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777)).expect("is ours");
        Self { dir }
    }

    fn command(&self) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_pm-sandbox")))
    }

    fn command_of(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("TMPDIR", &self.dir).stdin(Stdio::null());
        command
    }

    fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).expect("is ours").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    fn templates(&self) -> Vec<PathBuf> {
        let caches = self.entries().into_iter().filter(|name| is_cache(name));
        caches
            .flat_map(|name| fs::read_dir(self.dir.join(name)).expect("is ours").flatten())
            .map(|entry| entry.path())
            .collect()
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // If this fails, the system's temporary directory keeps the rest.
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// A running `pm-sandbox` without a command.
struct Sandbox {
    child: Child,
    url: String,
}

impl Sandbox {
    fn spawn(command: &mut Command) -> Self {
        Self::wait_for(spawn(command))
    }

    fn wait_for(mut child: Child) -> Self {
        let mut line = String::new();
        let output = child.stdout.as_mut().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("it can be read");
        Self::of(child, line.trim_end())
    }

    fn of(child: Child, line: &str) -> Self {
        let url = line.strip_prefix("PM_TEST_SERVER=").expect("it is the URL");
        Self { child, url: url.to_owned() }
    }

    fn socket_dir(&self) -> PathBuf {
        let host = self.url.split(['@', ':']).nth(2).expect("there is a host");
        host.replace("%2F", "/").into()
    }

    fn postmaster(&self) -> u32 {
        let path = self.socket_dir().join("data/postmaster.pid");
        let text = fs::read_to_string(path).expect("it is running");
        text.lines().next().and_then(|line| line.parse().ok()).expect("it is a number")
    }

    fn finish(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("it is our child").success());
    }
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs")
}

fn is_cache(name: &str) -> bool {
    name.starts_with("pm-sandbox-")
}

fn is_running(pid: u32) -> bool {
    let pid = Pid::from_raw(pid.cast_signed()).expect("it is not zero");
    !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// Waits until a condition that other processes bring about is true, 30 s at most.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {TIMEOUT:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
