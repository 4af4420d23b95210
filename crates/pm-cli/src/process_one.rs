//! Running as process 1 of a container.
//!
//! Process 1 inherits every orphan of the container, and signals that it does not handle have no effect. So `pm` runs
//! the command in a child: process 1 forwards signals, reaps processes, and exits with the child's exit code.

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
        Ok(runtime) => runtime.block_on(supervise()).unwrap_or_else(failed),
        Err(error) => failed(error),
    }
}

async fn supervise() -> std::io::Result<ExitCode> {
    let mut ended = signal(SignalKind::child())?;
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    for (kind, number) in SIGNALS {
        let (mut arrivals, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move { while arrivals.recv().await.is_some() && sender.send(number).is_ok() {} });
    }
    // A terminal signals a whole process group. In its own group, the child gets each signal once.
    let child = Command::new(std::env::current_exe()?).args(std::env::args_os().skip(1)).process_group(0).spawn()?;
    let child = Pid::from_child(&child);
    if std::io::stdin().is_terminal() {
        // Make the child's group the foreground group, so that it may use the terminal.
        rustix::termios::tcsetpgrp(std::io::stdin(), child).ok();
        // The child is stopped if it used the terminal before that.
        kill_process(child, Signal::CONT).ok();
    }
    loop {
        tokio::select! {
            Some(number) = received.recv() => drop(kill_process(child, number)),
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
