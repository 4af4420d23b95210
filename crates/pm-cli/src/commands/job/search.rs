//! `pm job search`

use super::bulk::{Filter, Pages};
use crate::context::Context;
use crate::error::CommandError;
use crate::input::parse_state;
use crate::render::{JobMatch, Location, Needle, Progress, RowStream, jobs};
use crate::stop::Stop;
use futures_util::future::try_join_all;
use pm_core::{QueueName, State};
use pm_driver_tokio_postgres::{JobMetadata, Queue};

/// How many bytes of payload are searched by default.
const MAX_BYTES: u64 = 50_000_000;
/// About how many bytes of payload are read at a time; one payload may be larger.
const CHUNK_BYTES: u64 = 4_000_000;
/// How many payloads are read at a time.
const CHUNK_JOBS: usize = 64;

/// Finds jobs that contain a text, newest first, and prints each as it is found
///
/// It searches description, key, reason and payload: strings, the keys of maps, numbers as
/// written, and bytes that are text. The search ignores case. A line shows the job's id, queue and
/// status, and where the text was found. Exit code 1 when nothing is found.
///
/// It stops after 50 MB of payload, with exit code 1. It keeps about 4 MB in memory, or one
/// payload that is larger.
///
/// Example:
///   pm job search ada@example.org --queue mail
///   pm job search timeout --status failed --limit 10 --no-limit
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct SearchArgs {
    /// The text to search for
    #[arg(value_name = "PATTERN", allow_hyphen_values = true)]
    pattern: String,
    /// Only jobs of this queue
    #[arg(short, long, value_name = "QUEUE", value_parser = QueueName::new)]
    queue: Option<QueueName>,
    /// Only jobs that are pending, paused, in-progress, finished or failed
    #[arg(short, long, value_name = "STATUS", value_parser = parse_state)]
    status: Option<State>,
    /// Stop after this many matches
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Do not stop after 50 MB of payload
    #[arg(long)]
    no_limit: bool,
}

pub(super) async fn run(context: &mut Context, args: &SearchArgs) -> Result<(), CommandError> {
    if args.pattern.is_empty() {
        return Err(CommandError::usage("an empty pattern matches every job").hint("to list jobs: pm job ls"));
    }
    let queue = context.connect().await?;
    let filter = Filter { queue: args.queue.clone(), status: args.status, ..Filter::default() };
    let mut search = Search {
        needle: Needle::new(&args.pattern),
        queue,
        rows: RowStream::default(),
        stop: Stop::listen()?,
        progress: Progress::new("Searching jobs", None),
        max_matches: args.limit.unwrap_or(u64::MAX),
        max_bytes: if args.no_limit { u64::MAX } else { MAX_BYTES },
        jobs: 0,
        bytes: 0,
    };
    let ended = search.run(context, Pages::new(filter)).await;
    drop(search.progress);
    match ended {
        // Nothing was written, so no output has to be ended.
        Err(error) if search.jobs == 0 => Err(error),
        ended => search.rows.end(&mut context.output).and(ended),
    }
}

struct Search {
    needle: Needle,
    queue: Queue,
    rows: RowStream,
    stop: Stop,
    progress: Progress,
    max_matches: u64,
    max_bytes: u64,
    /// How many jobs were searched.
    jobs: u64,
    /// How many bytes of payload were searched.
    bytes: u64,
}

impl Search {
    async fn run(&mut self, context: &mut Context, mut pages: Pages) -> Result<(), CommandError> {
        while let Some(page) = pages.next(&self.queue).await? {
            let mut page = page.into_iter().peekable();
            while page.peek().is_some() {
                if self.stop.was_requested() {
                    return Err(CommandError::refused(format!("interrupted after {}", jobs(self.jobs))));
                }
                let mut chunk = Vec::new();
                let mut bytes = 0;
                while chunk.len() < CHUNK_JOBS
                    && let Some(job) = page.next_if(|job| chunk.is_empty() || bytes + job.payload_bytes <= CHUNK_BYTES)
                {
                    bytes += job.payload_bytes;
                    chunk.push(job);
                }
                if self.bytes > 0 && self.bytes + bytes > self.max_bytes {
                    let searched = jobs(self.jobs);
                    let message = format!("stopped after {searched}: the limit is {MAX_BYTES} bytes of payload");
                    return Err(CommandError::refused(message)
                        .hint("narrow the search with --queue or --status, or use --no-limit"));
                }
                self.bytes += bytes;
                if self.search(context, chunk).await? {
                    return Ok(());
                }
            }
        }
        if self.rows.count == 0 { Err(CommandError::refused("no job matches")) } else { Ok(()) }
    }

    /// Searches a chunk of jobs; returns whether the limit of matches is reached.
    async fn search(&mut self, context: &mut Context, chunk: Vec<JobMetadata>) -> Result<bool, CommandError> {
        let locations = try_join_all(chunk.iter().map(|job| self.location(job))).await?;
        for (job, location) in chunk.into_iter().zip(locations) {
            self.jobs += 1;
            let Some(location) = location else { continue };
            self.progress.hide();
            self.rows.row(&mut context.output, &JobMatch { job, found: location }, JobMatch::line)?;
            if self.rows.count >= self.max_matches {
                return Ok(true);
            }
        }
        self.progress.show(self.jobs);
        Ok(false)
    }

    async fn location(&self, job: &JobMetadata) -> Result<Option<Location>, CommandError> {
        if let Some(location) = self.needle.in_job(job) {
            return Ok(Some(location));
        }
        // The job may have been deleted since it was listed.
        let payload = self.queue.payload(job.id).await?;
        Ok(payload.and_then(|payload| self.needle.in_payload(&payload)))
    }
}
