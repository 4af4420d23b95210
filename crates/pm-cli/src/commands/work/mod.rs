//! `pm work`

mod command;
mod hard_codes;

use crate::context::{Context, options};
use crate::error::CommandError;
use crate::input::parse_queue;
use crate::render::Format;
use crate::stop::Stop;
use command::{Ended, Program};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hard_codes::{HardCodes, parse_hard_codes};
use pm_core::QueueName;
use pm_driver_tokio_postgres::{JobStream, PendingJob, RawPayload, StreamOptions};
use serde::Serialize;
use std::ffi::OsString;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::watch;

/// For how long a lease is kept alive: a command may run for as long as it likes.
const KEEP_ALIVE: Duration = Duration::from_secs(365 * 86_400);

/// Runs a command for each job of a queue
///
/// The payload is on its stdin, the job's id in PM_JOB_ID, the number of the attempt in
/// PM_ATTEMPT, the queue in PM_QUEUE. Exit code 0 finishes the job. 75 is a failure that is
/// retried after the queue's backoff, and so is every other one, but those of --hard-codes,
/// which fail the job for good. The end of what it wrote to stderr is kept as the reason.
///
/// The lease is kept alive while the command runs; when it is lost all the same, the command
/// is killed. On Ctrl-C, SIGTERM or SIGHUP no job is begun any more, and those that run are
/// waited for; a second one kills their commands and gives the jobs back.
///
/// Example:
///   pm work mail -- ./send-mail
///   pm work thumbnails --concurrency 4 --hard-codes 65,100-110 -- convert - -resize 64x64 out.png
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct WorkArgs {
    /// The queue
    #[arg(value_name = "QUEUE", value_parser = parse_queue)]
    queue: QueueName,
    /// So many commands run at once, up to 1000
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    concurrency: u16,
    /// Exit codes that fail a job for good, like 65,100-110, or `all` but 75
    #[arg(long, value_name = "CODES", default_value = "", hide_default_value = true, value_parser = parse_hard_codes)]
    hard_codes: HardCodes,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<OsString>,
}

/// What became of a job.
#[derive(Serialize)]
struct Worked {
    id: String,
    attempt: u32,
    /// `finished`, `soft_failed`, `hard_failed`, `released` or `lost`.
    result: &'static str,
    /// The command's exit code, if it ended by itself.
    code: Option<i32>,
    reason: Option<String>,
}

pub(super) async fn run(context: &mut Context, args: &WorkArgs) -> Result<(), CommandError> {
    let settings = context.settings()?;
    let queue = context.connect_with(options(&settings).connections(2).waiting_connections(2)).await?;
    // A stream would say so as well, but later.
    queue.queue_settings(args.queue.as_str()).await?;
    let program = Program::new(&args.command, args.queue.as_str());
    let concurrency = usize::from(args.concurrency);
    let stream = StreamOptions::default().prefetch(concurrency).keep_alive(Some(KEEP_ALIVE));
    let jobs = queue.try_stream_jobs_with::<RawPayload>(args.queue.as_str(), stream);
    let mut stop = Stop::listen()?;
    if context.output.format() == Format::People {
        context.output.say(&format!("Working on queue \"{}\"; Ctrl-C stops it.", args.queue));
    }
    work(context, jobs, &mut stop, &program, args, concurrency).await
}

/// Works until the stream ends, the program cannot be run, or it was asked to stop and nothing runs any more.
async fn work(
    context: &mut Context,
    jobs: JobStream<RawPayload>,
    stop: &mut Stop,
    program: &Program,
    args: &WorkArgs,
    concurrency: usize,
) -> Result<(), CommandError> {
    let (kill, killed) = watch::channel(false);
    let mut jobs = Some(Box::pin(jobs));
    let mut running = FuturesUnordered::new();
    let mut outcome = Ok(());
    while jobs.is_some() || !running.is_empty() {
        let has_room = running.len() < concurrency;
        tokio::select! {
            Some(job) = async { jobs.as_mut()?.next().await.map(Some).or(Some(None)) }, if has_room && jobs.is_some() => {
                match job {
                    Some(Ok(job)) => running.push(one(job, program, &args.hard_codes, killed.clone())),
                    Some(Err(error)) => outcome = Err(error.into()),
                    // It ends after the error that it showed.
                    None => jobs = None,
                }
            }
            Some(worked) = running.next(), if !running.is_empty() => {
                if let Err(error) = worked.and_then(|worked| tell(context, &worked)) {
                    (outcome, jobs) = (Err(error), None);
                }
            }
            () = stop.asked() => {
                if jobs.take().is_none() {
                    kill.send_replace(true);
                } else if !running.is_empty() {
                    let count = crate::render::jobs(running.len() as u64);
                    context.output.say(&format!("Waiting for {count}; Ctrl-C once more kills what runs."));
                }
            }
        }
    }
    outcome
}

/// Runs the program for one job and says what became of it.
async fn one(
    job: PendingJob<RawPayload>,
    program: &Program,
    hard_codes: &HardCodes,
    mut killed: watch::Receiver<bool>,
) -> Result<Worked, CommandError> {
    let (id, attempt) = (job.id(), job.metadata().attempt);
    let (payload, ack) = job.into_parts();
    let worked = |result, code, reason| Worked { id: id.to_string(), attempt, result, code, reason };
    let lost = ack.lost();
    let ended = {
        let mut ended = pin!(program.run(id, attempt, payload.bytes));
        tokio::select! {
            ended = &mut ended => Some(ended),
            () = lost => return Ok(worked("lost", None, Some("the lease was lost; the command was killed".to_owned()))),
            _ = killed.wait_for(|killed| *killed) => None,
        }
    };
    let (settled, worked) = match ended {
        None => (ack.release(), worked("released", None, Some("the command was killed".to_owned()))),
        Some(Err(error)) => {
            ack.release().await?;
            return Err(error);
        }
        Some(Ok(Ended { code: Some(0), .. })) => (ack.commit(), worked("finished", Some(0), None)),
        Some(Ok(Ended { code, reason })) if code.is_some_and(|code| hard_codes.contains(code)) => {
            (ack.hard_fail(&reason), worked("hard_failed", code, Some(reason)))
        }
        Some(Ok(Ended { code, reason })) => (ack.soft_fail(&reason), worked("soft_failed", code, Some(reason))),
    };
    match settled.await {
        Ok(()) => Ok(worked),
        Err(error) => Ok(Worked { result: "lost", reason: Some(error.to_string()), ..worked }),
    }
}

/// Tells people what went wrong, and programs everything.
fn tell(context: &mut Context, worked: &Worked) -> Result<(), CommandError> {
    let Worked { id, attempt, result, reason, .. } = worked;
    if context.output.format() == Format::People && *result == "finished" {
        return Ok(());
    }
    let first_line = reason.as_deref().and_then(|reason| reason.lines().next()).unwrap_or_default();
    let sentence = format!("Job {id}, attempt {attempt}: {}: {first_line}", result.replace('_', " "));
    context.output.done(worked, &sentence)?;
    context.output.flush()
}
