//! The course of the demo. It prints only what workers report and the database confirms.

use super::crew::Workers;
use super::parcel::parcels;
use super::place::Target;
use super::worker::{Event, QUEUE};
use crate::error::CommandError;
use crate::render::Output;
use pm_driver_tokio_postgres::{Ending, EnqueueOptions, JobFilter, JobMetadata, Queue, SettingsChange, State, Uuid};
use std::collections::HashSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The lease: short, so that the job of the killed worker is reaped soon.
const LEASE: Duration = Duration::from_millis(1_500);
/// The delay before a retry.
const RETRY: Duration = Duration::from_millis(300);
/// The number of workers.
const WORKERS: usize = 3;
/// The demo takes three seconds; it fails after this time.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How many digits of an id are printed: the last ones.
const SHORT_ID: usize = 6;

/// Runs the demo. Errors: exit code 3 when something unexpected happened.
pub(super) async fn run(output: &mut Output, target: &Target) -> Result<(), CommandError> {
    let mut demo = Demo { output, begin: Instant::now(), killed: None, reaped: None };
    demo.print(&target.description())?;
    let queue = target.connect().await?;
    let count = demo.enqueue(&queue).await?;
    let mut workers = Workers::start(target, WORKERS)?;
    let worked = tokio::time::timeout(TIMEOUT, demo.work(&queue, &mut workers, count)).await;
    worked.map_err(|_| CommandError::trouble(format!("the jobs were not done within {} s", TIMEOUT.as_secs())))??;
    workers.stop().await;
    let reaped = demo.confirm(&queue, count).await?;
    queue.close().await;
    demo.show(target, &reaped).await
}

struct Demo<'a> {
    output: &'a mut Output,
    begin: Instant,
    killed: Option<Killed>,
    /// The killed worker's job, once another worker has it.
    reaped: Option<Uuid>,
}

struct Killed {
    worker: String,
    job: Uuid,
    at: Instant,
}

impl Demo<'_> {
    fn print(&mut self, sentence: &str) -> Result<(), CommandError> {
        let seconds = self.begin.elapsed().as_secs_f64();
        self.output.line(&format!("{seconds:5.2}s  {sentence}"))
    }

    async fn enqueue(&mut self, queue: &Queue) -> Result<usize, CommandError> {
        queue.create_queue(QUEUE, false).await?;
        let change = SettingsChange::new().lease(LEASE).max_retries(3).backoff(vec![RETRY]).jitter_percent(0);
        let settings = queue.set_queue_settings(QUEUE, change).await?;
        let lease = crate::duration::show_duration(settings.lease);
        self.print(&format!("Created queue \"{QUEUE}\": a worker that claims a job gets a lease of {lease}."))?;
        // Explains why a job may start before another one of higher priority.
        self.print(&format!(
            "{WORKERS} workers will start. Each claims one job ahead, so that it need not wait for the next."
        ))?;
        for (parcel, priority) in parcels() {
            let description = format!("{} for {}", parcel.contents, parcel.to);
            let options = EnqueueOptions::default().priority(priority).description(&description);
            let id = queue.enqueue(QUEUE, parcel, options).await?;
            self.print(&format!("Added job {}: {description}, priority {priority}.", short(id)))?;
        }
        Ok(queue.list_jobs(JobFilter::default().queue(QUEUE)).await?.len())
    }

    /// Prints what the workers do until `count` jobs have ended.
    async fn work(&mut self, queue: &Queue, workers: &mut Workers, count: usize) -> Result<(), CommandError> {
        let mut ended = HashSet::new();
        while let Some((number, event)) = workers.events.recv().await {
            let name = workers.workers[number].name.clone();
            match event {
                Event::Ready => {
                    let process = workers.workers[number].process;
                    self.print(&format!("{name} started as process {process}."))?;
                }
                Event::Began { job, waits_to_be_killed } => {
                    let job = Uuid::from_u128(job);
                    self.report_start(queue, &name, job).await?;
                    self.report_reap(queue, &name, job).await?;
                    if waits_to_be_killed {
                        self.kill(queue, workers, number, job).await?;
                    }
                }
                Event::Settled { job, contents } => {
                    let job = Uuid::from_u128(job);
                    let state = self.report_settlement(queue, &name, job, &contents).await?;
                    if matches!(state, State::Finished | State::Failed) {
                        ended.insert(job);
                    }
                    if ended.len() == count {
                        return Ok(());
                    }
                }
            }
        }
        Err(CommandError::trouble("all workers exited before the jobs were done"))
    }

    async fn kill(
        &mut self,
        queue: &Queue,
        workers: &mut Workers,
        number: usize,
        job: Uuid,
    ) -> Result<(), CommandError> {
        let signal = workers.kill(number).await?;
        let worker = workers.workers[number].name.clone();
        let process = workers.workers[number].process;
        self.print(&format!("{worker}, process {process}, is killed by signal {signal} while it works on the job."))?;
        let leased = queue.job(job).await?;
        if let (State::InProgress, Some(until)) = (leased.state, leased.lease_expires_at) {
            let left_ms = (until.unix_us() - leased.read_at.unix_us()) / 1_000;
            self.print(&format!("Job {} is still in progress; its lease expires in {left_ms} ms.", short(job)))?;
        }
        self.killed = Some(Killed { worker, job, at: Instant::now() });
        Ok(())
    }

    async fn report_start(&mut self, queue: &Queue, name: &str, job: Uuid) -> Result<(), CommandError> {
        let JobMetadata { attempt, priority, description, .. } = queue.job(job).await?;
        let what = description.unwrap_or_default();
        let again = if attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
        self.print(&format!("{name} starts job {}: {what}, priority {priority}{again}.", short(job)))
    }

    /// If the job was reaped from the killed worker, prints how.
    async fn report_reap(&mut self, queue: &Queue, name: &str, job: Uuid) -> Result<(), CommandError> {
        let Some(killed) = &self.killed else { return Ok(()) };
        let Some(attempt) = queue.attempts(job).await?.pop() else { return Ok(()) };
        if attempt.ending != Ending::Reap || attempt.worker.as_deref() != Some(&killed.worker) {
            return Ok(());
        }
        let (worker, after_ms) = (killed.worker.clone(), killed.at.elapsed().as_millis());
        if job != killed.job {
            return self.print(&format!("{worker} had claimed this job ahead; its lease has expired too."));
        }
        let reason = attempt.reason.unwrap_or_default();
        self.reaped = Some(job);
        self.print(&format!(
            "The job was reaped: attempt {} by {worker} ended with \"{reason}\". Now, {after_ms} ms after the kill, {name} \
             has it.",
            attempt.attempt
        ))
    }

    async fn report_settlement(
        &mut self,
        queue: &Queue,
        name: &str,
        job: Uuid,
        contents: &str,
    ) -> Result<State, CommandError> {
        let JobMetadata { state, reason, .. } = queue.job(job).await?;
        let reason = reason.unwrap_or_default();
        let did = match state {
            State::Finished => format!("{name} delivered the {contents}"),
            State::Failed => format!("{name} hard-failed the {contents} ({reason})"),
            _ => format!("{name} soft-failed the {contents} ({reason}), to be retried"),
        };
        self.print(&format!("{did}: job {} is {state}.", short(job)))?;
        Ok(state)
    }

    /// Checks the final states in the database; returns the reaped job.
    async fn confirm(&mut self, queue: &Queue, count: usize) -> Result<Uuid, CommandError> {
        let jobs = queue.list_jobs(JobFilter::default().queue(QUEUE)).await?;
        let of = |state: State| jobs.iter().filter(|job| job.state == state).count();
        let (finished, failed) = (of(State::Finished), of(State::Failed));
        self.print(&format!("Of {count} jobs, {finished} are finished and {failed} failed. No job was lost."))?;
        if finished + failed != count || failed != 1 {
            return Err(CommandError::trouble("the jobs did not end as expected"));
        }
        let reaped = self.reaped.ok_or_else(|| CommandError::trouble("no job was reaped"))?;
        match queue.job(reaped).await?.state {
            State::Finished => Ok(reaped),
            state => Err(CommandError::trouble(format!("the reaped job is {state}"))),
        }
    }

    /// Runs pm's commands and shows their output.
    async fn show(&mut self, target: &Target, reaped: &Uuid) -> Result<(), CommandError> {
        let id = reaped.to_string();
        for arguments in [&["queue", "ls"][..], &["job", "ls"], &["job", "show", &id]] {
            self.output.line(&format!("\n$ pm {}", arguments.join(" ")))?;
            let status = target.command()?.args(arguments).stdin(Stdio::null()).status().await;
            let status = status.map_err(|error| CommandError::trouble(format!("cannot run pm: {error}")))?;
            if !status.success() {
                return Err(CommandError::trouble(format!("pm {} failed with {status}", arguments.join(" "))));
            }
        }
        Ok(())
    }
}

fn short(id: Uuid) -> String {
    let id = id.to_string();
    id[id.len() - SHORT_ID..].to_owned()
}
