//! `pm job watch`

use crate::context::Context;
use crate::duration::parse_duration;
use crate::error::CommandError;
use crate::render::{JobChange, RowStream};
use crate::stop::Stop;
use pm_core::{QueueName, State};
use pm_driver_tokio_postgres::{ErrorKind, JobFilter, JobMetadata, Queue, Uuid};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How many of the newest jobs are watched.
const MAX_WATCHED: usize = 1_000;

/// Prints changes of jobs, a line each, until Ctrl-C
///
/// It polls the newest 1,000 jobs, and older ones that were waiting or in progress before. Several
/// changes of a job between two polls are printed as one. The jobs found by the first poll are not
/// printed. With --json every change is a line, as with --ndjson.
///
/// Example:
///   pm job watch --queue mail
///   pm job watch --ndjson --every 200ms
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct WatchArgs {
    /// Only jobs of this queue
    #[arg(short, long, value_name = "QUEUE", value_parser = QueueName::new)]
    queue: Option<QueueName>,
    /// The time between two polls
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    every: Duration,
}

/// The last known state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    state: State,
    attempt: u32,
    retries: u32,
}

pub(super) async fn run(context: &mut Context, args: &WatchArgs) -> Result<(), CommandError> {
    let queue = context.connect().await?;
    let mut stop = Stop::listen()?;
    let mut watch = Watch { queue, name: args.queue.as_ref().map(QueueName::to_string), seen: HashMap::new() };
    watch.poll().await?;
    context.output.note("Watching; Ctrl-C stops it.");
    let mut rows = RowStream::of_lines();
    loop {
        tokio::select! {
            () = tokio::time::sleep(args.every.max(Duration::from_millis(10))) => {}
            () = stop.requested() => return Ok(()),
        }
        let changes = tokio::select! {
            changes = watch.poll() => changes,
            () = stop.requested() => return Ok(()),
        };
        match changes {
            Ok(changes) => {
                for change in &changes {
                    rows.row(&mut context.output, change, JobChange::line)?;
                }
            }
            // The next poll that succeeds reports the changes since.
            Err(error) if error.kind() == ErrorKind::Unavailable => context.output.message(&error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
}

struct Watch {
    queue: Queue,
    name: Option<String>,
    seen: HashMap<Uuid, Seen>,
}

impl Watch {
    /// Polls once and returns the changes since the last poll, oldest job first. After an error, the next poll returns
    /// these changes.
    async fn poll(&mut self) -> Result<Vec<JobChange>, pm_driver_tokio_postgres::Error> {
        let mut filter = JobFilter::default().limit(MAX_WATCHED);
        filter.queue.clone_from(&self.name);
        let newest = self.queue.list_jobs(filter).await?;
        let listed: HashSet<_> = newest.iter().map(|job| job.id).collect();
        // Jobs no longer among the newest, deleted or moved.
        let missing = self.seen.iter().filter(|(id, before)| !before.state.is_ended() && !listed.contains(id));
        let mut others = Vec::new();
        for (id, before) in missing.take(MAX_WATCHED) {
            others.push((*id, *before, self.queue.get_job(*id).await?));
        }
        Ok(self.changes(newest, others))
    }

    /// Records what was found and returns the changes.
    fn changes(&mut self, newest: Vec<JobMetadata>, others: Vec<(Uuid, Seen, Option<JobMetadata>)>) -> Vec<JobChange> {
        let mut changes = Vec::new();
        let mut seen = HashMap::new();
        let is_here = |job: &JobMetadata| self.name.as_ref().is_none_or(|name| *name == job.queue);
        let newest = newest.into_iter().rev().map(|job| (job.id, self.seen.get(&job.id).copied(), Some(job)));
        let others = others.into_iter().map(|(id, before, job)| (id, Some(before), job.filter(is_here)));
        for (id, before, job) in newest.chain(others) {
            let now = job.as_ref().map(Seen::of);
            seen.extend(now.map(|now| (id, now)));
            if before != now {
                changes.push(JobChange { id, from: before.map(|before| before.state), job });
            }
        }
        self.seen = seen;
        changes
    }
}

impl Seen {
    fn of(job: &JobMetadata) -> Self {
        Seen { state: job.state, attempt: job.attempt, retries: job.retry_count }
    }
}
