use std::env;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Error;

/// The account that the server runs as: the current one, or another one if that is root, as which
/// Postgres refuses to run.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) is_other: bool,
}

impl Account {
    pub(crate) fn for_server() -> Result<Self, Error> {
        let uid = rustix::process::geteuid();
        if !uid.is_root() {
            let gid = rustix::process::getegid().as_raw();
            return Ok(Self { name: "self".into(), uid: uid.as_raw(), gid, is_other: false });
        }
        let accounts = fs::read_to_string("/etc/passwd").map_err(Error::io("cannot read /etc/passwd"))?;
        ["postgres", "nobody"].iter().find_map(|name| find(&accounts, name)).ok_or(Error::NoAccount)
    }

    /// Returns a command that runs as this account, without the `PG*` environment variables, in
    /// the locale C and time zone UTC, and without standard input.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C").env("TZ", "UTC").current_dir("/").stdin(Stdio::null());
        if self.is_other {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }
}

/// Runs a command to completion and returns its output on both streams.
pub(crate) fn run(command: &mut Command, name: &'static str, seconds: u64) -> Result<String, Error> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let doing = || Error::io(format!("cannot run {}", command.get_program().display()));
    let failed = doing();
    let (mut reader, writer) = io::pipe().map_err(doing())?;
    let second_writer = writer.try_clone().map_err(doing())?;
    let child = command.stdout(writer).stderr(second_writer).spawn();
    // `command` holds our copies of the write end; drop them, or the pipe would never close.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.map_err(failed)?;

    let mut output = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if !readable(&reader, deadline).map_err(Error::io(name))? {
            // It may have ended in the meantime.
            child.kill().ok();
            child.wait().map_err(Error::io(name))?;
            let output = String::from_utf8_lossy(&output).into_owned();
            return Err(Error::Deadline { waiting_for: name, seconds, output });
        }
        match reader.read(&mut chunk).map_err(Error::io(name))? {
            0 => break,
            length => output.extend_from_slice(&chunk[..length]),
        }
    }
    let output = String::from_utf8_lossy(&output).into_owned();
    if child.wait().map_err(Error::io(name))?.success() {
        Ok(output)
    } else {
        Err(Error::Program { name: name.into(), output })
    }
}

/// Waits until there is data or the end of the stream; returns `false` if the deadline comes
/// first.
pub(crate) fn readable(source: impl AsFd, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&source, PollFlags::IN)], Some(&left)) {
            Ok(count) => return Ok(count > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn find(accounts: &str, name: &str) -> Option<Account> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { name: name.into(), uid, gid, is_other: true })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_is_found_by_its_whole_name() {
        let accounts = "root:x:0:0::/:/bin/sh\npostgres2:x:7:7::/:/bin/sh\npostgres:x:101:104::/:/\n";
        let account = find(accounts, "postgres").expect("the account is listed");
        assert_eq!((account.uid, account.gid), (101, 104));
        assert!(find(accounts, "nobody").is_none());
    }

    #[test]
    fn command_that_takes_too_long_is_killed() {
        let mut command = Command::new("sleep");
        command.arg("30");
        let error = run(&mut command, "sleep", 0).expect_err("30 is more than 0");
        assert!(matches!(error, Error::Deadline { .. }), "{error}");
    }

    #[test]
    fn failure_contains_the_programs_output() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no luck >&2; exit 3"]);
        let error = run(&mut command, "sh", 10).expect_err("it exits with 3");
        assert_eq!(error.to_string(), "sh failed: no luck");
    }
}
