//! What the demo tells: only what workers report and the database confirms.

use super::crew::Crew;
use super::parcel::parcels;
use super::place::Place;
use super::worker::{Event, QUEUE, Verdict};
use crate::error::CommandError;
use crate::render::Output;
use pm_driver_tokio_postgres::{Ending, EnqueueOptions, JobFilter, Queue, SettingsChange, State, Uuid};
use std::collections::HashSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long a worker may hold a job: short, so that a rescue can be watched.
const LEASE: Duration = Duration::from_millis(1_500);
/// How soon a soft failure is tried again.
const RETRY: Duration = Duration::from_millis(300);
/// How many workers there are.
const WORKERS: usize = 3;
/// The story takes three seconds; something is wrong when it takes this long.
const LONGEST: Duration = Duration::from_secs(30);
/// So many last digits of an id are told.
const TOLD_DIGITS: usize = 6;

/// Tells the story from beginning to end.
///
/// # Errors
///
/// Exit code 3 when something went otherwise than it should.
pub(super) async fn tell(output: &mut Output, place: &Place) -> Result<(), CommandError> {
    let mut story = Story { output, begin: Instant::now(), killed: None, rescued: None };
    story.say(&place.sentence())?;
    let queue = place.connect().await?;
    let count = story.enqueue(&queue).await?;
    let mut crew = Crew::start(place, WORKERS)?;
    let worked = tokio::time::timeout(LONGEST, story.work(&queue, &mut crew, count)).await;
    worked.map_err(|_| CommandError::trouble(format!("the jobs were not done within {} s", LONGEST.as_secs())))??;
    crew.dismiss().await;
    let rescued = story.confirm(&queue, count).await?;
    queue.close().await;
    story.show(place, &rescued).await
}

struct Story<'a> {
    output: &'a mut Output,
    begin: Instant,
    killed: Option<Killed>,
    /// The job that another worker took over.
    rescued: Option<Uuid>,
}

struct Killed {
    worker: String,
    job: Uuid,
    at: Instant,
}

impl Story<'_> {
    fn say(&mut self, sentence: &str) -> Result<(), CommandError> {
        let seconds = self.begin.elapsed().as_secs_f64();
        self.output.line(&format!("{seconds:5.2}s  {sentence}"))
    }

    async fn enqueue(&mut self, queue: &Queue) -> Result<usize, CommandError> {
        queue.create_queue(QUEUE, false).await?;
        let change = SettingsChange::new().lease(LEASE).max_retries(3).backoff(vec![RETRY]).jitter_percent(0);
        let settings = queue.set_queue_settings(QUEUE, change).await?;
        let lease = crate::input::show_duration(settings.lease);
        self.say(&format!("Queue \"{QUEUE}\" is made: who takes a job has a lease of {lease} on it."))?;
        // Without this line, a job of low priority that begins before a higher one would look like a mistake.
        self.say(&format!("{WORKERS} workers will come. Each claims a job ahead, so that the next one is at hand."))?;
        for (parcel, priority) in parcels() {
            let description = format!("{} for {}", parcel.contents, parcel.to);
            let options = EnqueueOptions::default().priority(priority).description(&description);
            let id = queue.enqueue(QUEUE, parcel, options).await?;
            self.say(&format!("Job {} is added: {description}, priority {priority}.", told(&id.to_string())))?;
        }
        Ok(queue.list_jobs(JobFilter::default().queue(QUEUE)).await?.len())
    }

    /// Tells what the workers do until the end of each of so many jobs is told.
    async fn work(&mut self, queue: &Queue, crew: &mut Crew, count: usize) -> Result<(), CommandError> {
        let mut ended = HashSet::new();
        while let Some((number, event)) = crew.next_event().await {
            let name = crew.worker(number).name.clone();
            match event {
                Event::Ready => {
                    let process = crew.worker(number).process;
                    self.say(&format!("{name} is at work, as process {process}."))?;
                }
                Event::Began { job, attempt, priority, contents, to, waits_for_death } => {
                    let again = if attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
                    let what = format!("{contents} for {to}, priority {priority}{again}");
                    self.say(&format!("{name} takes job {}: {what}.", told(&job)))?;
                    let job = parse(&job)?;
                    self.tell_rescue(queue, &name, job).await?;
                    if waits_for_death {
                        self.kill(queue, crew, number, job).await?;
                    }
                }
                Event::Settled { job, contents, verdict } => {
                    let job = parse(&job)?;
                    let state = self.tell_verdict(queue, &name, job, &contents, &verdict).await?;
                    if matches!(state, State::Finished | State::Failed) {
                        ended.insert(job);
                    }
                    if ended.len() == count {
                        return Ok(());
                    }
                }
            }
        }
        Err(CommandError::trouble("all workers went away before the jobs were done"))
    }

    async fn kill(&mut self, queue: &Queue, crew: &mut Crew, number: usize, job: Uuid) -> Result<(), CommandError> {
        let signal = crew.kill(number).await?;
        let worker = crew.worker(number).name.clone();
        let process = crew.worker(number).process;
        self.say(&format!("{worker}, process {process}, is killed by signal {signal} while it holds the job."))?;
        let held = queue.job(job).await?;
        if let (State::InProgress, Some(until)) = (held.state, held.lease_expires_at) {
            let left_ms = (until.unix_us() - held.read_at.unix_us()) / 1_000;
            self.say(&format!(
                "Nobody knows: job {} is in progress, its lease ends in {left_ms} ms.",
                told(&job.to_string())
            ))?;
        }
        self.killed = Some(Killed { worker, job, at: Instant::now() });
        Ok(())
    }

    /// Tells how a job came to be free again, if it is one that the killed worker had.
    async fn tell_rescue(&mut self, queue: &Queue, name: &str, job: Uuid) -> Result<(), CommandError> {
        let Some(killed) = &self.killed else { return Ok(()) };
        let Some(attempt) = queue.attempts(job).await?.pop() else { return Ok(()) };
        if attempt.ending != Ending::Reap || attempt.worker.as_deref() != Some(&killed.worker) {
            return Ok(());
        }
        let (worker, after_ms) = (killed.worker.clone(), killed.at.elapsed().as_millis());
        if job != killed.job {
            return self.say(&format!("{worker} had claimed that one ahead; its lease ended as well."));
        }
        let reason = attempt.reason.unwrap_or_default();
        self.rescued = Some(job);
        self.say(&format!(
            "That is the rescue, {after_ms} ms after the kill: attempt {} of {worker} ended with \"{reason}\", now {name} has it.",
            attempt.attempt
        ))
    }

    async fn tell_verdict(
        &mut self,
        queue: &Queue,
        name: &str,
        job: Uuid,
        contents: &str,
        verdict: &Verdict,
    ) -> Result<State, CommandError> {
        let state = queue.job(job).await?.state;
        let did = match verdict {
            Verdict::Commit => format!("{name} delivers the {contents}"),
            Verdict::SoftFail(reason) => {
                format!("{name} fails softly with the {contents} ({reason}), to be tried again")
            }
            Verdict::HardFail(reason) => format!("{name} gives up the {contents} ({reason})"),
        };
        self.say(&format!("{did}: job {} is {state}.", told(&job.to_string())))?;
        Ok(state)
    }

    /// Holds the story against the database.
    async fn confirm(&mut self, queue: &Queue, count: usize) -> Result<Uuid, CommandError> {
        let jobs = queue.list_jobs(JobFilter::default().queue(QUEUE)).await?;
        let of = |state: State| jobs.iter().filter(|job| job.state == state).count();
        let (finished, failed) = (of(State::Finished), of(State::Failed));
        self.say(&format!(
            "Of {count} jobs, {finished} are finished and {failed} failed. None is lost, none is left."
        ))?;
        if finished + failed != count || failed != 1 {
            return Err(CommandError::trouble("the jobs did not end as they should"));
        }
        let rescued = self.rescued.ok_or_else(|| CommandError::trouble("no job was rescued"))?;
        match queue.job(rescued).await?.state {
            State::Finished => Ok(rescued),
            state => Err(CommandError::trouble(format!("the rescued job is {state}"))),
        }
    }

    /// Shows what the real commands say.
    async fn show(&mut self, place: &Place, rescued: &Uuid) -> Result<(), CommandError> {
        let id = rescued.to_string();
        for arguments in [&["queue", "ls"][..], &["job", "ls"], &["job", "show", &id]] {
            self.output.line(&format!("\n$ pm {}", arguments.join(" ")))?;
            let status = place.command()?.args(arguments).stdin(Stdio::null()).status().await;
            let status = status.map_err(|error| CommandError::trouble(format!("cannot run pm: {error}")))?;
            if !status.success() {
                return Err(CommandError::trouble(format!("pm {} ended with {status}", arguments.join(" "))));
            }
        }
        Ok(())
    }
}

fn parse(id: &str) -> Result<Uuid, CommandError> {
    Uuid::parse_str(id).map_err(|error| CommandError::trouble(format!("a worker told a bad id: {error}")))
}

fn told(id: &str) -> &str {
    &id[id.len().saturating_sub(TOLD_DIGITS)..]
}
