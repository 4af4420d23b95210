//! `pm work`

mod command;
pub(crate) mod guard;
mod hard_codes;
mod health;
mod tree;

use crate::context::{Context, options};
use crate::error::CommandError;
use crate::input::{parse_duration, parse_queue, show_duration};
use crate::render::Format;
use crate::stop::Stop;
use command::{Ended, Program, TO_END};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use guard::Guard;
use hard_codes::{HardCodes, parse_hard_codes};
use health::Outage;
use pm_core::QueueName;
use pm_driver_tokio_postgres::{JobStream, PendingJob, Queue, RawPayload, StreamOptions};
use serde::Serialize;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// For how long a lease is kept alive: a command may run for as long as it likes.
const HEARTBEAT: Duration = Duration::from_secs(365 * 86_400);
/// How often it looks whether the database has gone away or come back.
const LOOK: Duration = Duration::from_millis(500);
/// How long results may take to be stored once the commands were ended; the database may be away.
const LAST_RESULTS: Duration = Duration::from_secs(5);

/// What is asked of the commands that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Order {
    GoOn,
    End,
    Die,
}

/// Runs a command for each job of a queue
///
/// The payload is on its stdin, the job's id in PM_JOB_ID, the number of the attempt in
/// PM_ATTEMPT, the queue in PM_QUEUE. Exit code 0 finishes the job. 75 is a failure that is
/// retried after the queue's backoff, and so is every other one, but those of --hard-codes,
/// which fail the job for good. The end of what it wrote to stderr is kept as the reason.
///
/// The lease is kept alive while the command runs; when it is lost all the same, the command
/// is killed. On Ctrl-C, SIGTERM or SIGHUP no job is begun any more, and those that run are
/// waited for, with --grace no longer than that: then their commands get SIGTERM, SIGKILL 2 s
/// later, and the jobs are given back. A second signal kills them at once. However pm work
/// dies, its commands die with it.
///
/// When the database goes away and when it is back, a line on stderr says so. It exits with 3
/// when the result of a command was lost: the job runs again then.
///
/// Example:
///   pm work mail -- ./send-mail
///   pm work mail --grace 25s --health 0.0.0.0:8080 -- ./send-mail
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
    /// How long commands may go on after the signal to stop
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    grace: Option<Duration>,
    /// Answers probes over HTTP: GET /live, and GET /ready while the database is there
    #[arg(long, value_name = "ADDR:PORT")]
    health: Option<SocketAddr>,
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
    /// Whether the command ended by itself, and how could not be stored.
    #[serde(skip)]
    is_result_lost: bool,
}

pub(super) async fn run(context: &mut Context, args: &WorkArgs) -> Result<(), CommandError> {
    let settings = context.settings()?;
    let queue = context.connect_with(options(&settings).connections(2).waiting_connections(2)).await?;
    // A stream would say so as well, but later.
    queue.queue_settings(args.queue.as_str()).await?;
    let program = Program::new(&args.command, args.queue.as_str(), Guard::start()?);
    let concurrency = usize::from(args.concurrency);
    let stream = StreamOptions::default().prefetch(concurrency).heartbeat(Some(HEARTBEAT));
    let jobs = queue.try_stream_jobs_with::<RawPayload>(args.queue.as_str(), stream);
    let mut stop = Stop::listen()?;
    tokio::spawn(health::ask(queue.clone()));
    if let Some(address) = args.health {
        tokio::spawn(health::serve(health::listen(address).await?, queue.clone()));
    }
    if context.output.format() == Format::People {
        context.output.say(&format!("Working on queue \"{}\"; Ctrl-C stops it.", args.queue));
    }
    work(context, &queue, jobs, &mut stop, &program, args).await
}

/// Works until the stream ends, the program cannot be run, or it was asked to stop and nothing runs any more.
async fn work(
    context: &mut Context,
    queue: &Queue,
    jobs: JobStream<RawPayload>,
    stop: &mut Stop,
    program: &Program,
    args: &WorkArgs,
) -> Result<(), CommandError> {
    let (order, orders) = watch::channel(Order::GoOn);
    let mut jobs = Some(Box::pin(jobs));
    // How many commands have ended by themselves and are being settled.
    let settling = AtomicU64::new(0);
    let mut running = FuturesUnordered::new();
    let (mut outcome, mut lost, mut kept, mut stops) = (Ok(()), 0u64, 0u64, 0u32);
    // The last error of the stream that was shown: one that goes on is shown once.
    let mut last_shown = None;
    let (mut outage, mut look) = (Outage::default(), interval(LOOK));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // When the commands that still run are ended, and when their results are waited for no longer.
    let (mut grace_ends, mut gives_up): (Option<Instant>, Option<Instant>) = (None, None);
    while jobs.is_some() || !running.is_empty() {
        let has_room = running.len() < usize::from(args.concurrency);
        tokio::select! {
            Some(job) = async { jobs.as_mut()?.next().await.map(Some).or(Some(None)) }, if has_room && jobs.is_some() => {
                match job {
                    Some(Ok(job)) => running.push(one(job, program, &args.hard_codes, orders.clone(), &settling)),
                    Some(Err(error)) => {
                        let text = error.to_string();
                        if last_shown.as_ref() != Some(&text) {
                            context.output.say(&format!("Error: {text}"));
                            last_shown = Some(text);
                        }
                        outcome = Err(error.into());
                    }
                    // It ends after the error that it showed.
                    None => jobs = None,
                }
            }
            Some(worked) = running.next(), if !running.is_empty() => {
                lost += u64::from(worked.as_ref().is_ok_and(|worked| worked.is_result_lost));
                if let Err(error) = worked.and_then(|worked| tell(context, &worked)) {
                    (outcome, jobs) = (Err(error), None);
                }
            }
            () = stop.asked() => {
                (jobs, stops) = (None, stops + 1);
                if stops > 1 {
                    order.send_replace(Order::Die);
                    gives_up.get_or_insert(Instant::now() + LAST_RESULTS);
                } else if !running.is_empty() {
                    grace_ends = args.grace.map(|grace| Instant::now() + grace);
                    context.output.say(&waiting(running.len(), args.grace));
                }
            }
            () = sleep_until(grace_ends.unwrap_or_else(Instant::now)), if grace_ends.is_some() => {
                grace_ends = None;
                order.send_if_modified(|order| *order < Order::End && { *order = Order::End; true });
                gives_up.get_or_insert(Instant::now() + TO_END + LAST_RESULTS);
            }
            () = sleep_until(gives_up.unwrap_or_else(Instant::now)), if gives_up.is_some() => {
                let unsettled = settling.load(Ordering::Relaxed);
                (lost, kept) = (lost + unsettled, running.len() as u64 - unsettled);
                break;
            }
            _ = look.tick() => outage.look(queue, context),
        }
    }
    let trouble = match (lost, kept) {
        (0, 0) => return outcome,
        (0, _) => format!("{} could not be given back", crate::render::jobs(kept)),
        _ => format!("the results of {} were lost", crate::render::jobs(lost)),
    };
    outcome.and(Err(CommandError::trouble(trouble).hint("the jobs run again when their leases have ended")))
}

fn waiting(running: usize, grace: Option<Duration>) -> String {
    let count = crate::render::jobs(running as u64);
    let limit = grace.map_or(String::new(), |grace| format!(" for up to {}", show_duration(grace)));
    format!("Waiting for {count}{limit}; Ctrl-C once more kills what runs.")
}

/// Runs the program for one job and says what became of it.
async fn one(
    job: PendingJob<RawPayload>,
    program: &Program,
    hard_codes: &HardCodes,
    mut orders: watch::Receiver<Order>,
    settling: &AtomicU64,
) -> Result<Worked, CommandError> {
    let (id, attempt) = (job.id(), job.metadata().attempt);
    let (payload, ack) = job.into_parts();
    let worked =
        |result, code, reason| Worked { id: id.to_string(), attempt, result, code, reason, is_result_lost: false };
    let (lost, mut later_orders) = (ack.lost(), orders.clone());
    let ended = {
        let asked_to_end = async { drop(orders.wait_for(|order| *order == Order::End).await) };
        let mut ended = pin!(program.run(id, attempt, payload.bytes, asked_to_end));
        tokio::select! {
            ended = &mut ended => ended.transpose(),
            () = lost => return Ok(worked("lost", None, Some("the lease was lost; the command was killed".to_owned()))),
            _ = later_orders.wait_for(|order| *order == Order::Die) => None,
        }
    };
    let (settled, worked) = match ended {
        None => (ack.release(), worked("released", None, Some("the command was ended before it was done".to_owned()))),
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
    let is_result = worked.result != "released";
    settling.fetch_add(u64::from(is_result), Ordering::Relaxed);
    let settled = settled.await;
    settling.fetch_sub(u64::from(is_result), Ordering::Relaxed);
    match settled {
        Ok(()) => Ok(worked),
        Err(error) => {
            Ok(Worked { result: "lost", reason: Some(error.to_string()), is_result_lost: is_result, ..worked })
        }
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
