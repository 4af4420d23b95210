//! `pm work`

mod command;
pub(crate) mod guard;
mod hard_codes;
mod outage;
mod tree;

use crate::context::{Context, options};
use crate::duration::{parse_duration, show_duration};
use crate::error::CommandError;
use crate::render::{self, Format, Value};
use crate::serving::ServeArgs;
use crate::stop::Stop;
use command::{Ended, Program, TERMINATION_TIMEOUT};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use guard::Guard;
use hard_codes::{HardCodes, parse_hard_codes};
use outage::Outage;
use pm_core::QueueName;
use pm_driver_tokio_postgres::{JobStream, PendingJob, Queue, RawPayload, StreamOptions};
use std::cell::Cell;
use std::ffi::OsString;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

/// How long leases are extended: in effect, a command may run for any time.
const HEARTBEAT: Duration = Duration::from_secs(365 * 86_400);
/// How often to check whether an outage began or ended.
const OUTAGE_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How long to wait for results to be stored after the commands were ended; the database may be unreachable.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// What running commands are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Order {
    Continue,
    Terminate,
    Kill,
}

/// Runs a command for each job of a queue
///
/// The command gets the payload on stdin, the job's id in PM_JOB_ID, the number of the attempt in
/// PM_ATTEMPT, and the queue in PM_QUEUE. Exit code 0 finishes the job. Exit code 75 and all others
/// are soft failures, which are retried after the queue's backoff, except those of --hard-codes,
/// which fail the job permanently. The end of the command's stderr is kept as the reason.
///
/// The lease is extended while the command runs; if it is lost anyway, the command is killed. On
/// Ctrl-C, SIGTERM or SIGHUP no more jobs are started, and running commands are waited for, with
/// --grace no longer than that: then they get SIGTERM, SIGKILL 2 s later, and their jobs are
/// released. A second signal kills them immediately. When pm work dies in any way, its commands
/// are killed. The command of a job that is cancelled (pm job cancel) or takes longer than --timeout
/// gets the same signals; a job that has timed out is a soft failure.
///
/// A line on stderr reports when the database becomes unreachable and when it is reachable again.
/// The exit code is 3 when the result of a command was lost: the job runs again then.
///
/// Example:
///   pm work mail -- ./send-mail
///   pm work mail --grace 25s --health 0.0.0.0:8080 --metrics 0.0.0.0:8080 -- ./send-mail
///   pm work thumbnails --concurrency 4 --hard-codes 65,100-110 -- convert - -resize 64x64 out.png
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct WorkArgs {
    /// The queue
    #[arg(value_name = "QUEUE", value_parser = QueueName::new)]
    queue: QueueName,
    /// How many commands run at once, up to 1000
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    concurrency: u16,
    /// Exit codes that fail a job permanently, like 65,100-110, or `all` (except 75)
    #[arg(long, value_name = "CODES", default_value = "", hide_default_value = true, value_parser = parse_hard_codes)]
    hard_codes: HardCodes,
    /// How long a command may run, unless its job or the queue has a timeout
    #[arg(long, value_name = "TIME", value_parser = parse_timeout)]
    timeout: Option<Duration>,
    /// How long running commands may continue after a signal to stop
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    grace: Option<Duration>,
    #[command(flatten)]
    serve: ServeArgs,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<OsString>,
}

/// Why the command of a job was ended, if the job is not to be released.
#[derive(Debug, Clone, Copy)]
enum Stopped {
    Cancelled,
    TimedOut,
}

/// The outcome of a job.
struct Worked {
    id: String,
    attempt: u32,
    /// `finished`, `soft_failed`, `hard_failed`, `cancelled`, `released` or `lost`.
    result: &'static str,
    /// The command's exit code, if it exited.
    code: Option<i32>,
    reason: Option<String>,
    /// Whether the command exited, but its result could not be stored.
    is_result_lost: bool,
}

pub(super) async fn run(context: &mut Context, args: &WorkArgs) -> Result<(), CommandError> {
    let settings = context.settings()?;
    let options = options(&settings).connections(2).waiting_connections(2);
    let (metrics, options) = args.serve.observed(options);
    let queue = context.connect_with(options).await?;
    // Fails if the queue does not exist; the stream would fail too, but later.
    queue.queue_settings(args.queue.as_str()).await?;
    let program = Program::new(&args.command, args.queue.as_str(), Guard::start()?);
    let concurrency = usize::from(args.concurrency);
    let stream = StreamOptions::default().prefetch(concurrency).heartbeat(Some(HEARTBEAT));
    let jobs = queue.try_stream_jobs_with::<RawPayload>(args.queue.as_str(), stream);
    let mut stop = Stop::listen()?;
    let _serving = args.serve.start(&queue, metrics).await?;
    context.output.note(&format!("Working on queue \"{}\"; Ctrl-C stops it.", args.queue));
    work(context, &queue, jobs, &mut stop, &program, args).await
}

/// Works until the stream ends, the program cannot be run, or it was asked to stop and no command is running.
async fn work(
    context: &mut Context,
    queue: &Queue,
    jobs: JobStream<RawPayload>,
    stop: &mut Stop,
    program: &Program,
    args: &WorkArgs,
) -> Result<(), CommandError> {
    let (order, orders) = watch::channel(Order::Continue);
    let mut jobs = Some(Box::pin(jobs));
    // How many commands have exited and are being settled.
    let settling = AtomicU64::new(0);
    let mut running = FuturesUnordered::new();
    let (mut outcome, mut lost, mut unreleased, mut signals) = (Ok(()), 0u64, 0u64, 0u32);
    // The last error of the stream that was printed: a repeated error is printed once.
    let mut last_error = None;
    let (mut outage, mut outage_check) = (Outage::default(), interval(OUTAGE_CHECK_INTERVAL));
    outage_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // When running commands are terminated, and when to stop waiting for their results.
    let (mut terminate_at, mut give_up_at): (Option<Instant>, Option<Instant>) = (None, None);
    while jobs.is_some() || !running.is_empty() {
        let has_room = running.len() < usize::from(args.concurrency);
        tokio::select! {
            Some(job) = async { jobs.as_mut()?.next().await.map(Some).or(Some(None)) }, if has_room && jobs.is_some() => {
                match job {
                    Some(Ok(job)) => running.push(run_job(job, program, args, orders.clone(), &settling)),
                    Some(Err(error)) => {
                        let error = CommandError::from(error).with_pm(context.pm_on_schema()?);
                        let report = context.report(&error);
                        if last_error.as_ref() != Some(&report) {
                            report.lines().for_each(|line| context.output.message(line));
                            last_error = Some(report);
                        }
                        outcome = Err(error);
                    }
                    // The stream has ended; its error, if any, was printed.
                    None => jobs = None,
                }
            }
            Some(worked) = running.next(), if !running.is_empty() => {
                lost += u64::from(worked.as_ref().is_ok_and(|worked| worked.is_result_lost));
                if let Err(error) = worked.and_then(|worked| report(context, &worked)) {
                    (outcome, jobs) = (Err(error), None);
                }
            }
            () = stop.requested() => {
                (jobs, signals) = (None, signals + 1);
                if signals > 1 {
                    order.send_replace(Order::Kill);
                    give_up_at.get_or_insert(Instant::now() + SETTLE_TIMEOUT);
                } else if !running.is_empty() {
                    terminate_at = args.grace.map(|grace| Instant::now() + grace);
                    context.output.message(&waiting_message(running.len(), args.grace));
                }
            }
            () = sleep_until(terminate_at.unwrap_or_else(Instant::now)), if terminate_at.is_some() => {
                terminate_at = None;
                order.send_if_modified(|order| *order < Order::Terminate && { *order = Order::Terminate; true });
                give_up_at.get_or_insert(Instant::now() + TERMINATION_TIMEOUT + SETTLE_TIMEOUT);
            }
            () = sleep_until(give_up_at.unwrap_or_else(Instant::now)), if give_up_at.is_some() => {
                let unsettled = settling.load(Ordering::Relaxed);
                (lost, unreleased) = (lost + unsettled, running.len() as u64 - unsettled);
                break;
            }
            _ = outage_check.tick() => outage.check(queue, context),
        }
    }
    let message = match (lost, unreleased) {
        (0, 0) => return outcome,
        (0, _) => format!("{} could not be released", render::jobs(unreleased)),
        _ => format!("the results of {} were lost", render::jobs(lost)),
    };
    outcome.and(Err(CommandError::trouble(message).hint("the jobs run again when their leases have expired")))
}

/// Parses a limit on the time of commands, which must be longer than zero.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("the limit must be longer than zero; leave it out for none".to_owned()),
        timeout => Ok(timeout),
    }
}

fn waiting_message(running: usize, grace: Option<Duration>) -> String {
    let count = render::jobs(running as u64);
    let limit = grace.map_or(String::new(), |grace| format!(" for up to {}", show_duration(grace)));
    format!("Waiting for {count}{limit}; press Ctrl-C again to kill the running commands.")
}

/// Runs the program for one job, settles the job, and returns the outcome.
async fn run_job(
    job: PendingJob<RawPayload>,
    program: &Program,
    args: &WorkArgs,
    mut orders: watch::Receiver<Order>,
    settling: &AtomicU64,
) -> Result<Worked, CommandError> {
    let (id, attempt) = (job.id(), job.metadata().attempt);
    let timeout = job.metadata().timeout.or(args.timeout);
    let (payload, ack) = job.into_parts();
    let worked =
        |result, code, reason| Worked { id: id.to_string(), attempt, result, code, reason, is_result_lost: false };
    let (lost, cancelled, mut later_orders) = (ack.lost(), ack.cancelled(), orders.clone());
    let stop = Cell::new(None);
    let ended = {
        let terminate = async {
            stop.set(tokio::select! {
                _ = orders.wait_for(|order| *order == Order::Terminate) => None,
                () = cancelled => Some(Stopped::Cancelled),
                () = sleep(timeout.unwrap_or_default()), if timeout.is_some() => Some(Stopped::TimedOut),
            });
        };
        let mut ended = pin!(program.run(id, attempt, payload.bytes, terminate));
        tokio::select! {
            ended = &mut ended => ended.transpose(),
            () = lost => return Ok(worked("lost", None, Some("the lease was lost; the command was killed".to_owned()))),
            _ = later_orders.wait_for(|order| *order == Order::Kill) => None,
        }
    };
    let (settled, worked) = match (ended, stop.get()) {
        // However it is settled, a cancelled job has failed, with the reason of the cancel.
        (None, Some(Stopped::Cancelled)) => (ack.release(), worked("cancelled", None, None)),
        (None, Some(Stopped::TimedOut)) => {
            let reason = format!("timed out after {}", show_duration(timeout.unwrap_or_default()));
            (ack.soft_fail(&reason), worked("soft_failed", None, Some(reason)))
        }
        (None, None) => {
            (ack.release(), worked("released", None, Some("the command was stopped before it had finished".to_owned())))
        }
        (Some(Err(error)), _) => {
            ack.release().await?;
            return Err(error);
        }
        (Some(Ok(Ended { code: Some(0), .. })), _) => (ack.commit(), worked("finished", Some(0), None)),
        (Some(Ok(Ended { code, reason })), _) if code.is_some_and(|code| args.hard_codes.contains(code)) => {
            (ack.hard_fail(&reason), worked("hard_failed", code, Some(reason)))
        }
        (Some(Ok(Ended { code, reason })), _) => (ack.soft_fail(&reason), worked("soft_failed", code, Some(reason))),
    };
    let is_result = worked.result != "released";
    settling.fetch_add(u64::from(is_result), Ordering::Relaxed);
    let settled = settled.await;
    settling.fetch_sub(u64::from(is_result), Ordering::Relaxed);
    match settled {
        Ok(()) => Ok(worked),
        Err(error) => {
            Ok(Worked { result: "lost", reason: Some(error.message().to_owned()), is_result_lost: is_result, ..worked })
        }
    }
}

/// Reports an outcome: to humans only failures, to programs everything.
fn report(context: &mut Context, worked: &Worked) -> Result<(), CommandError> {
    let Worked { id, attempt, result, code, reason, .. } = worked;
    if context.output.format() == Format::Human && *result == "finished" {
        return Ok(());
    }
    let first_line = reason.as_deref().and_then(|reason| reason.lines().next()).unwrap_or_default();
    let sentence = format!("Job {id}, attempt {attempt}: {}: {first_line}", result.replace('_', " "));
    let json = Value::named([
        ("id", id.as_str().into()),
        ("attempt", Value::number(attempt)),
        ("result", (*result).into()),
        ("code", code.map(Value::number).into()),
        ("reason", reason.as_deref().into()),
    ]);
    context.output.done(&json, &sentence)?;
    context.output.flush()
}
