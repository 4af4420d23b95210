use std::env;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Error;
use crate::account::{Account, readable};

/// A shell process that owns a server's directory and processes, and cleans up even after this
/// process has ended.
///
/// However this process ends, the kernel closes the shell's standard input.
#[derive(Debug)]
pub(crate) struct Supervisor {
    /// The account that the server runs as.
    pub(crate) account: Account,
    shell: Child,
    /// The shell's standard input, to which a port is written for each start; `None` once the
    /// shell is to finish.
    ports: Option<ChildStdin>,
    replies: ChildStdout,
    alive: File,
    /// Contains the socket, the log and, unless they are kept, the data.
    pub(crate) dir: PathBuf,
    /// The process id of the server since its last start.
    pub(crate) pid: Option<Pid>,
}

impl Supervisor {
    /// Starts the shell, which creates the directory; `server` and `arguments` are the command
    /// that it will run.
    pub(crate) fn start(
        account: Account,
        server: &Path,
        arguments: &[String],
        data_dir: Option<&Path>,
    ) -> Result<Self, Error> {
        let failed = || Error::io("cannot start sh");
        let mut shell = account
            .command(Path::new("sh"))
            .args(["-c", include_str!("supervisor.sh"), "pm-supervisor"])
            .args([base().as_path(), data_dir.unwrap_or(Path::new("")), server])
            .args(arguments)
            // Ctrl-C in a terminal must not reach the shell.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed())?;
        let (Some(ports), Some(mut replies)) = (shell.stdin.take(), shell.stdout.take()) else {
            return Err(failed()(io::ErrorKind::BrokenPipe.into()));
        };
        let dir = PathBuf::from(read_line(&mut replies).map_err(failed())?);
        if !dir.is_absolute() {
            shell.wait().map_err(failed())?;
            return Err(Error::NoDirectory(dir.display().to_string()));
        }
        let alive = open_alive(&dir, false)?;
        Ok(Self { account, shell, ports: Some(ports), replies, alive, dir, pid: None })
    }

    /// Returns a command that runs as the server's account. The directory is kept until the
    /// command has ended, even if this process ends before. It must be dropped before the server
    /// starts.
    pub(crate) fn command(&self, program: &Path) -> Result<Command, Error> {
        let mut command = self.account.command(program);
        command.stdin(open_alive(&self.dir, true)?);
        Ok(command)
    }

    /// Starts the server, which must not be running.
    pub(crate) fn launch(&mut self, port: u16) -> Result<(), Error> {
        let failed = || Error::io("the server's supervisor has ended");
        let Some(ports) = &mut self.ports else {
            return Err(failed()(io::ErrorKind::BrokenPipe.into()));
        };
        writeln!(ports, "{port}").map_err(failed())?;
        let pid = read_line(&mut self.replies).map_err(failed())?;
        self.pid = pid.parse().ok().and_then(Pid::from_raw);
        if self.pid.is_some() { Ok(()) } else { Err(failed()(io::ErrorKind::InvalidData.into())) }
    }

    /// Waits until every process of the server has ended; returns `false` if the deadline comes
    /// first.
    pub(crate) fn has_ended_by(&self, deadline: Instant) -> Result<bool, Error> {
        match self.pid {
            None => Ok(true),
            Some(_) => readable(&self.alive, deadline).map_err(Error::io("cannot watch the server")),
        }
    }

    /// Sends a signal to the server, if it is running.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Error> {
        match self.pid {
            Some(pid) if !self.has_ended_by(Instant::now())? => match kill_process(pid, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
                Err(error) => Err(Error::io("cannot signal the server")(error.into())),
            },
            _ => Ok(()),
        }
    }

    /// Stops the server and removes the directory, within 30 s. A second call does nothing.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        let failed = || Error::io("cannot stop the server");
        if self.ports.take().is_none() {
            return Ok(());
        }
        let deadline = Instant::now() + FINISH;
        let mut rest = [0; 64];
        while readable(&self.replies, deadline).map_err(failed())? {
            if self.replies.read(&mut rest).map_err(failed())? == 0 {
                self.shell.wait().map_err(failed())?;
                return Ok(());
            }
        }
        self.signal(Signal::KILL)?;
        self.shell.kill().map_err(failed())?;
        self.shell.wait().map_err(failed())?;
        std::fs::remove_dir_all(&self.dir).map_err(failed())?;
        let output = String::from("it was killed");
        Err(Error::Deadline { waiting_for: "stopping", seconds: FINISH.as_secs(), output })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // `drop` cannot report an error; `Server::stop` does.
        self.finish().ok();
    }
}

const FINISH: Duration = Duration::from_secs(30);
const REPLY: Duration = Duration::from_secs(10);

/// The longest path of a Unix socket that every system supports, without the final zero byte.
const SOCKET_PATH_LIMIT: usize = 103;

/// Returns the system's temporary directory, or `/tmp` if a socket's path in it would be too long.
fn base() -> PathBuf {
    let longest = "/pm-XXXXXX/.s.PGSQL.65535".len();
    std::path::absolute(env::temp_dir())
        .ok()
        .filter(|base| base.as_os_str().len() + longest <= SOCKET_PATH_LIMIT)
        .unwrap_or_else(|| "/tmp".into())
}

fn open_alive(dir: &Path, write: bool) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(dir.join("alive"))
        .map_err(Error::io(format!("cannot open a file in {}", dir.display())))
}

fn read_line(source: &mut ChildStdout) -> io::Result<String> {
    let deadline = Instant::now() + REPLY;
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        if !readable(&*source, deadline)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if source.read(&mut byte)? == 0 || byte == *b"\n" {
            return Ok(String::from_utf8_lossy(&line).into_owned());
        }
        line.push(byte[0]);
    }
}
