//! Being the first process of a container.
//!
//! The kernel gives process 1 every orphan of the container, and a signal that it does not handle does nothing. So `pm`
//! does its work in a child then: process 1 passes signals on, reaps whatever ends, and ends as its child did.

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use tokio::signal::unix::{SignalKind, signal};

const SIGNALS: [(SignalKind, Signal); 4] = [
    (SignalKind::interrupt(), Signal::INT),
    (SignalKind::terminate(), Signal::TERM),
    (SignalKind::hangup(), Signal::HUP),
    (SignalKind::quit(), Signal::QUIT),
];

/// Runs this program again, as a child, and waits for it.
pub(crate) fn run() -> ExitCode {
    let failed = |error: std::io::Error| {
        eprintln!("Error: cannot start as process 1: {error}");
        ExitCode::from(crate::error::Exit::Trouble as u8)
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(attend()).unwrap_or_else(failed),
        Err(error) => failed(error),
    }
}

async fn attend() -> std::io::Result<ExitCode> {
    let mut ended = signal(SignalKind::child())?;
    let (passed, mut to_pass) = tokio::sync::mpsc::unbounded_channel();
    for (kind, passed_as) in SIGNALS {
        let (mut arrived, passed) = (signal(kind)?, passed.clone());
        tokio::spawn(async move { while arrived.recv().await.is_some() && passed.send(passed_as).is_ok() {} });
    }
    // A terminal sends its signals to a process group: the child gets each once, from here or from there.
    let child = Command::new(std::env::current_exe()?).args(std::env::args_os().skip(1)).process_group(0).spawn()?;
    let child = Pid::from_child(&child);
    if std::io::stdin().is_terminal() {
        // Of the terminal now, so that the child may read from it and write to it.
        rustix::termios::tcsetpgrp(std::io::stdin(), child).ok();
        // It was stopped if it has used the terminal before.
        kill_process(child, Signal::CONT).ok();
    }
    loop {
        tokio::select! {
            Some(passed) = to_pass.recv() => drop(kill_process(child, passed)),
            _ = ended.recv() => {
                while let Ok(Some((process, status))) = wait(WaitOptions::NOHANG) {
                    if process == child {
                        return Ok(ExitCode::from(code(status)));
                    }
                }
            }
        }
    }
}

/// Returns the exit code that a shell would show.
fn code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(u8::MAX)
}
