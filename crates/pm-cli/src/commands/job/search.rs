//! `pm job search`

use super::bulk::{Filter, Pages};
use crate::context::Context;
use crate::error::CommandError;
use crate::input::{parse_queue, parse_state};
use crate::render::{MatchView, Needle, Place, Progress, RowStream, jobs};
use crate::stop::Stop;
use futures_util::future::try_join_all;
use pm_core::{QueueName, State};
use pm_driver_tokio_postgres::{JobMetadata, Queue};

/// So many bytes of payloads are searched, unless told otherwise.
const MOST_BYTES: u64 = 50_000_000;
/// So many bytes of payloads are held at once, about, and one payload of any size.
const HELD_BYTES: u64 = 4_000_000;
/// So many payloads are asked for at once.
const HELD_JOBS: usize = 64;

/// Finds jobs that contain a text, newest first, and prints each as it is found
///
/// Searched are description, key, reason and payload: its texts, the keys of maps, numbers as
/// they are written, and bytes that are text. Case does not matter. A line is the job's id,
/// queue and status, and where the text is. Exit code 1 when nothing is found.
///
/// It stops after 50 MB of payload, with exit code 1, and holds about 4 MB at a time, or one
/// payload that is larger.
///
/// Example:
///   pm job search ada@example.org --queue mail
///   pm job search timeout --status failed --limit 10 --no-limit
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct SearchArgs {
    /// The text
    #[arg(value_name = "PATTERN", allow_hyphen_values = true)]
    pattern: String,
    /// Only jobs of this queue
    #[arg(short, long, value_name = "QUEUE", value_parser = parse_queue)]
    queue: Option<QueueName>,
    /// Only jobs that are pending, paused, in-progress, finished or failed
    #[arg(short, long, value_name = "STATUS", value_parser = parse_state)]
    status: Option<State>,
    /// Stop after so many matches
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Search on after 50 MB of payload
    #[arg(long)]
    no_limit: bool,
}

pub(super) async fn run(context: &mut Context, args: &SearchArgs) -> Result<(), CommandError> {
    if args.pattern.is_empty() {
        return Err(CommandError::usage("an empty pattern is in every job").hint("to list jobs: pm job ls"));
    }
    let queue = context.connect().await?;
    let filter = Filter { queue: args.queue.clone(), state: args.status, ..Filter::default() };
    let mut search = Search {
        needle: Needle::new(&args.pattern),
        queue,
        rows: RowStream::default(),
        stop: Stop::listen()?,
        progress: Progress::new("Searching jobs", None),
        most_matches: args.limit.unwrap_or(u64::MAX),
        most_bytes: if args.no_limit { u64::MAX } else { MOST_BYTES },
        jobs: 0,
        bytes: 0,
    };
    let ended = search.walk(context, Pages::new(filter)).await;
    drop(search.progress);
    match ended {
        // Nothing was written that would have to be ended.
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
    most_matches: u64,
    most_bytes: u64,
    /// How many jobs were searched.
    jobs: u64,
    /// How many bytes of payload were searched.
    bytes: u64,
}

impl Search {
    async fn walk(&mut self, context: &mut Context, mut pages: Pages) -> Result<(), CommandError> {
        while let Some(page) = pages.next(&self.queue).await? {
            let mut page = page.into_iter().peekable();
            while page.peek().is_some() {
                if self.stop.was_asked() {
                    return Err(CommandError::refused(format!("stopped after {}", jobs(self.jobs))));
                }
                let mut held = Vec::new();
                let mut bytes = 0;
                while let Some(job) = page.next_if(|job| held.is_empty() || bytes + job.payload_bytes <= HELD_BYTES) {
                    bytes += job.payload_bytes;
                    held.push(job);
                    if held.len() == HELD_JOBS {
                        break;
                    }
                }
                if self.bytes > 0 && self.bytes + bytes > self.most_bytes {
                    let searched = jobs(self.jobs);
                    let message = format!("stopped after {searched}: the limit is {MOST_BYTES} bytes of payload");
                    return Err(CommandError::refused(message)
                        .hint("narrow it down with --queue or --status, or search on with --no-limit"));
                }
                self.bytes += bytes;
                if self.search(context, held).await? {
                    return Ok(());
                }
            }
        }
        if self.rows.count == 0 { Err(CommandError::refused("no job matches")) } else { Ok(()) }
    }

    /// Searches some jobs; returns whether there were enough matches.
    async fn search(&mut self, context: &mut Context, held: Vec<JobMetadata>) -> Result<bool, CommandError> {
        let places = try_join_all(held.iter().map(|job| self.place(job))).await?;
        for (job, place) in held.into_iter().zip(places) {
            self.jobs += 1;
            let Some(place) = place else { continue };
            self.progress.hide();
            self.rows.row(&mut context.output, &MatchView::new(job, place), MatchView::line)?;
            if self.rows.count >= self.most_matches {
                return Ok(true);
            }
        }
        self.progress.show(self.jobs);
        Ok(false)
    }

    async fn place(&self, job: &JobMetadata) -> Result<Option<Place>, CommandError> {
        if let Some(place) = self.needle.in_job(job) {
            return Ok(Some(place));
        }
        // It may have been deleted meanwhile.
        let payload = self.queue.payload(job.id).await?;
        Ok(payload.and_then(|payload| self.needle.in_payload(&payload)))
    }
}
