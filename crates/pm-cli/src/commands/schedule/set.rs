//! `pm schedule set`

use crate::context::Context;
use crate::error::CommandError;
use crate::input::{Source, codec_parser, parse_duration, parse_missed, parse_overlap, parse_queue, parse_schedule};
use crate::input::{read_all, stored};
use crate::render::ScheduleView;
use pm_core::{Codec, Missed, Overlap, QueueName, ScheduleName};
use pm_driver_tokio_postgres::Schedule;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Makes a schedule, or puts it in the place of the one of that name
///
/// CRON has five fields: minute, hour, day of the month, month, weekday; or is @hourly,
/// @daily, @weekly, @monthly or @yearly. L is the last day of a month. When both day and
/// weekday are given, either suffices.
///
/// When clocks change, what falls into the gap happens at its end, and what comes twice
/// happens the first time. When the hour begins with *, it is whatever the clock shows.
///
/// Each tick makes one job, whose key is NAME@TIME. Workers fire, and `pm reap`. While CRON and
/// zone stay the same, so does the next tick; a paused schedule stays paused.
///
/// Example:
///   pm schedule set nightly reports '30 2 * * *' '{"kind": "daily"}' --zone Europe/Berlin
///   pm schedule set poll feeds '*/5 * * * *' --missed skip --overlap skip
///   pm schedule set billing invoices '0 6 L * *' --missed all:3 --retries 20
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct SetArgs {
    /// Its name: 1 to 200 bytes, no control characters, no blank at either end
    #[arg(value_name = "NAME", value_parser = parse_schedule)]
    name: ScheduleName,
    /// Where its jobs go
    #[arg(value_name = "QUEUE", value_parser = parse_queue)]
    queue: QueueName,
    /// When it fires, like '30 2 * * MON-FRI'
    #[arg(value_name = "CRON")]
    cron: String,
    /// What the worker gets [default: null]; - reads it from stdin
    #[arg(value_name = "PAYLOAD", allow_negative_numbers = true, conflicts_with = "file")]
    payload: Option<String>,
    /// Read the payload from a file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How the payload is stored
    #[arg(long, value_name = "CODEC", default_value = "json", value_parser = codec_parser())]
    codec: Codec,
    /// The IANA time zone whose clock the fields name
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    zone: String,
    /// What becomes of ticks that nobody fired in time: skip, once (the latest), or all:N (the latest N)
    #[arg(long, value_name = "POLICY", default_value = "once", value_parser = parse_missed)]
    missed: Missed,
    /// What becomes of a tick while the job of the one before has not ended: allow or skip
    #[arg(long, value_name = "POLICY", default_value = "allow", value_parser = parse_overlap)]
    overlap: Overlap,
    /// The priority of the jobs; higher first
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// A note for people on each job
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// How many soft failures of a job are retried, if not as many as the queue says
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// The delays before the retries, with commas, if not the queue's
    #[arg(long, value_name = "TIMES", value_delimiter = ',', value_parser = parse_duration)]
    backoff: Option<Vec<Duration>>,
}

#[derive(Serialize)]
struct Set {
    created: bool,
    #[serde(flatten)]
    schedule: Option<ScheduleView>,
}

pub(super) async fn run(context: &mut Context, args: &SetArgs) -> Result<(), CommandError> {
    let payload = stored(args.codec, read_all(&args.source())?)?;
    let queue = context.connect().await?;
    let name = args.name.as_str();
    let created = queue.set_schedule(name, args.schedule(), payload).await?;
    let schedule = queue.schedule(name).await?.map(ScheduleView::new);
    let next = schedule.as_ref().map_or("it has gone since".to_owned(), ScheduleView::next);
    let action = if created { "Created" } else { "Replaced" };
    context.output.done(&Set { created, schedule }, &format!("{action} schedule \"{name}\"; {next}."))
}

impl SetArgs {
    fn source(&self) -> Source {
        match (self.payload.as_deref(), &self.file) {
            (Some("-"), _) => Source::Stdin,
            (Some(text), _) => Source::Argument(text.to_owned()),
            (None, Some(path)) => Source::File(path.clone()),
            (None, None) => Source::Argument("null".to_owned()),
        }
    }

    fn schedule(&self) -> Schedule {
        let schedule = Schedule::new(self.queue.as_str(), &self.cron).zone(&self.zone).codec(self.codec);
        let mut schedule = schedule.missed(self.missed).overlap(self.overlap).priority(self.priority);
        schedule.description = self.description.clone();
        schedule.max_retries = self.retries;
        schedule.backoff = self.backoff.clone();
        schedule
    }
}
