//! The worker processes of the demo.

use super::place::Target;
use super::worker::Event;
use crate::error::CommandError;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::mpsc;

/// How long a worker may take to exit.
const EXIT_TIMEOUT: Duration = Duration::from_secs(3);
/// How many events are buffered.
const MAX_EVENTS: usize = 64;

/// Worker processes.
pub(super) struct Workers {
    pub(super) workers: Vec<Worker>,
    /// The events, each with the number of its worker; closed when all workers have exited.
    pub(super) events: mpsc::Receiver<(usize, Event)>,
}

/// A worker process. Dropping this kills it.
pub(super) struct Worker {
    /// The worker's name.
    pub(super) name: String,
    /// The process id.
    pub(super) process: u32,
    child: Child,
    /// The worker stops when this is closed.
    stdin: Option<ChildStdin>,
}

impl Workers {
    /// Starts `count` workers. Errors: exit code 3 when a process cannot be started.
    pub(super) fn start(target: &Target, count: usize) -> Result<Self, CommandError> {
        let (sender, events) = mpsc::channel(MAX_EVENTS);
        let start = |number: usize| Worker::start(target, number, sender.clone());
        let workers = (0..count).map(start).collect::<Result<_, _>>()?;
        Ok(Workers { workers, events })
    }

    /// Kills a worker with SIGKILL and returns the signal that ended it. Errors: exit code 3 when no signal ended it.
    pub(super) async fn kill(&mut self, number: usize) -> Result<i32, CommandError> {
        let worker = &mut self.workers[number];
        let ended = match worker.child.start_kill() {
            Ok(()) => worker.child.wait().await,
            Err(error) => Err(error),
        };
        let failed = |what: String| CommandError::trouble(format!("{} could not be killed: {what}", worker.name));
        let status = ended.map_err(|error| failed(error.to_string()))?;
        status.signal().ok_or_else(|| failed(format!("it exited before, with {status}")))
    }

    /// Stops the workers after their current job.
    pub(super) async fn stop(mut self) {
        self.workers.iter_mut().for_each(|worker| drop(worker.stdin.take()));
        for worker in &mut self.workers {
            // A worker that does not exit is killed when dropped.
            drop(tokio::time::timeout(EXIT_TIMEOUT, worker.child.wait()).await);
        }
    }
}

impl Worker {
    fn start(target: &Target, number: usize, events: mpsc::Sender<(usize, Event)>) -> Result<Self, CommandError> {
        let name = format!("worker-{}", number + 1);
        let failed = |why: &str| CommandError::trouble(format!("{name} could not be started: {why}"));
        let mut command = target.command()?;
        command.args(["demo-worker", "--name", &name]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(&error.to_string()))?;
        let stdout = child.stdout.take().ok_or_else(|| failed("it has no stdout"))?;
        let process = child.id().ok_or_else(|| failed("it exited immediately"))?;
        let stdin = child.stdin.take();
        tokio::spawn(listen(number, BufReader::new(stdout).lines(), events));
        Ok(Worker { name, process, child, stdin })
    }
}

async fn listen(number: usize, mut lines: Lines<BufReader<ChildStdout>>, events: mpsc::Sender<(usize, Event)>) {
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(event) = serde_json::from_str(&line) else { continue };
        if events.send((number, event)).await.is_err() {
            return;
        }
    }
}
