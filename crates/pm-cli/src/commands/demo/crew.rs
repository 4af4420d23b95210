//! The worker processes of the demo.

use super::place::Place;
use super::worker::Event;
use crate::error::CommandError;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::mpsc;

/// How long a dismissed worker may take to go.
const FAREWELL: Duration = Duration::from_secs(3);
/// So many events may wait to be told.
const EVENTS: usize = 64;

/// Workers in processes of their own.
pub(super) struct Crew {
    workers: Vec<Worker>,
    events: mpsc::Receiver<(usize, Event)>,
}

/// A process that works. Dropping it kills it.
pub(super) struct Worker {
    /// What it calls itself.
    pub(super) name: String,
    /// Its process id.
    pub(super) process: u32,
    child: Child,
    /// It works until this is closed.
    stdin: Option<ChildStdin>,
}

impl Crew {
    /// Starts so many workers.
    ///
    /// # Errors
    ///
    /// Exit code 3 when a process cannot be started.
    pub(super) fn start(place: &Place, count: usize) -> Result<Self, CommandError> {
        let (sender, events) = mpsc::channel(EVENTS);
        let start = |number: usize| Worker::start(place, number, sender.clone());
        let workers = (0..count).map(start).collect::<Result<_, _>>()?;
        Ok(Crew { workers, events })
    }

    /// Returns a worker.
    pub(super) fn worker(&self, number: usize) -> &Worker {
        &self.workers[number]
    }

    /// Returns who did what next, `None` when all workers are gone.
    pub(super) async fn next_event(&mut self) -> Option<(usize, Event)> {
        self.events.recv().await
    }

    /// Kills a worker with SIGKILL and returns the number of the signal that ended it.
    ///
    /// # Errors
    ///
    /// Exit code 3 when it ended otherwise.
    pub(super) async fn kill(&mut self, number: usize) -> Result<i32, CommandError> {
        let worker = &mut self.workers[number];
        let ended = match worker.child.start_kill() {
            Ok(()) => worker.child.wait().await,
            Err(error) => Err(error),
        };
        let failed = |what: String| CommandError::trouble(format!("{} could not be killed: {what}", worker.name));
        let status = ended.map_err(|error| failed(error.to_string()))?;
        status.signal().ok_or_else(|| failed(format!("it ended by itself, with {status}")))
    }

    /// Lets the workers finish and go.
    pub(super) async fn dismiss(mut self) {
        self.workers.iter_mut().for_each(|worker| drop(worker.stdin.take()));
        for worker in &mut self.workers {
            // Who does not go is killed when dropped.
            drop(tokio::time::timeout(FAREWELL, worker.child.wait()).await);
        }
    }
}

impl Worker {
    fn start(place: &Place, number: usize, events: mpsc::Sender<(usize, Event)>) -> Result<Self, CommandError> {
        let name = format!("worker-{}", number + 1);
        let failed = |why: &str| CommandError::trouble(format!("{name} could not be started: {why}"));
        let mut command = place.command()?;
        command.args(["demo-worker", "--name", &name]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(&error.to_string()))?;
        let stdout = child.stdout.take().ok_or_else(|| failed("it has no stdout"))?;
        let process = child.id().ok_or_else(|| failed("it ended at once"))?;
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
