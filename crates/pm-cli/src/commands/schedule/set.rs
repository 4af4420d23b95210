//! `pm schedule set`

use crate::context::Context;
use crate::duration::parse_duration;
use crate::error::CommandError;
use crate::input::{Source, codec_parser, encode, read_all};
use crate::input::{parse_missed, parse_overlap};
use crate::render::{Json, Value, next_tick};
use pm_core::{Codec, Missed, Overlap, QueueName, ScheduleName};
use pm_driver_tokio_postgres::{EnqueueOptions, Schedule};
use std::path::PathBuf;
use std::time::Duration;

/// Creates a schedule, or replaces the one of that name
///
/// CRON has five fields: minute, hour, day of the month, month, weekday; or is @hourly,
/// @daily, @weekly, @monthly or @yearly. L is the last day of a month. When both day and weekday
/// are restricted, a day must match either of them; if one begins with *, it must match both.
///
/// When the clock is set forward, skipped ticks fire once, at the end of the gap. When it is set
/// back, repeated ticks fire the first time only. With an hour that begins with *, the schedule
/// fires whenever the clock shows a matching time.
///
/// Each tick adds one job, whose key is NAME@TIME. Workers and `pm reap` fire schedules. While
/// CRON and zone stay the same, so does the next tick; a paused schedule stays paused.
///
/// Example:
///   pm schedule set nightly reports '30 2 * * *' '{"kind": "daily"}' --zone Europe/Berlin
///   pm schedule set poll feeds '*/5 * * * *' --missed skip --overlap skip
///   pm schedule set billing invoices '0 6 L * *' --missed all:3 --retries 20
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct SetArgs {
    /// The name: 1 to 200 bytes, no control characters, no leading or trailing space
    #[arg(value_name = "NAME", value_parser = ScheduleName::new)]
    name: ScheduleName,
    /// The queue of its jobs
    #[arg(value_name = "QUEUE", value_parser = QueueName::new)]
    queue: QueueName,
    /// When it fires, like '30 2 * * MON-FRI'
    #[arg(value_name = "CRON")]
    cron: String,
    /// The payload [default: null]; - reads it from stdin
    #[arg(value_name = "PAYLOAD", allow_negative_numbers = true, conflicts_with = "file")]
    payload: Option<String>,
    /// Read the payload from a file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How the payload is stored
    #[arg(long, value_name = "CODEC", default_value = "json", value_parser = codec_parser())]
    codec: Codec,
    /// The IANA time zone of the cron expression
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    zone: String,
    /// What to do with missed ticks: skip, once (fire the latest), or all:N (fire the latest N)
    #[arg(long, value_name = "POLICY", default_value = "once", value_parser = parse_missed)]
    missed: Missed,
    /// What to do with a tick while the previous tick's job has not ended: allow or skip
    #[arg(long, value_name = "POLICY", default_value = "allow", value_parser = parse_overlap)]
    overlap: Overlap,
    /// The priority of the jobs; higher first
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// A description of the jobs, for humans
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// How many times a job is retried after soft failures [default: the queue's setting]
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// The delays before the retries, separated by commas [default: the queue's setting]
    #[arg(long, value_name = "TIMES", value_delimiter = ',', value_parser = parse_duration)]
    backoff: Option<Vec<Duration>>,
}

pub(super) async fn run(context: &mut Context, args: &SetArgs) -> Result<(), CommandError> {
    let source = Source::given(args.payload.as_deref(), args.file.as_ref());
    let payload = encode(args.codec, read_all(&source.unwrap_or(Source::Argument("null".to_owned())))?)?;
    let queue = context.connect().await?;
    let name = args.name.as_str();
    let created = queue.set_schedule(name, args.schedule(), payload).await?;
    let schedule = queue.schedule(name).await?;
    let next = schedule.as_ref().map_or("it has been deleted since".to_owned(), next_tick);
    let action = if created { "Created" } else { "Replaced" };
    let shown = schedule.as_ref().map_or(Value::named([]), Json::json);
    let json = Value::named([("created", created.into())]).and(shown);
    context.output.done(&json, &format!("{action} schedule \"{name}\"; {next}."))
}

impl SetArgs {
    fn schedule(&self) -> Schedule {
        let mut options = EnqueueOptions::default().codec(self.codec).priority(self.priority);
        options.description = self.description.clone();
        options.retry.max_retries = self.retries;
        options.retry.backoff = self.backoff.clone();
        let schedule = Schedule::new(self.queue.as_str(), &self.cron).zone(&self.zone);
        schedule.missed(self.missed).overlap(self.overlap).options(options)
    }
}
