//! A worker of the demo, in a process of its own. It is an ordinary user of the library.

use super::parcel::{Fate, Parcel};
use crate::context::{Context, options};
use crate::error::CommandError;
use futures_util::StreamExt;
use pm_driver_tokio_postgres::{Ending, PendingJob, Queue, StreamOptions, connect_with};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::oneshot;

/// The queue of the demo.
pub(super) const QUEUE: &str = "parcels";
/// How long a delivery takes.
const DELIVERY: Duration = Duration::from_millis(120);
/// How long a dismissed worker waits for the database, which may be gone already.
const FAREWELL: Duration = Duration::from_secs(2);

/// Works for `pm demo`, and tells it on stdout what it does.
#[derive(clap::Args)]
pub(crate) struct DemoWorkerArgs {
    #[arg(long)]
    name: String,
}

/// What a worker tells, a line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// It waits for jobs.
    Ready,
    /// It has this job and begins.
    Began {
        job: String,
        attempt: u32,
        priority: i32,
        contents: String,
        to: String,
        /// Whether it will hold the job until it is killed.
        waits_for_death: bool,
    },
    /// The database has its verdict.
    Settled { job: String, contents: String, verdict: Verdict },
}

/// What a worker said of a job.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Commit,
    SoftFail(String),
    HardFail(String),
}

/// Works until stdin ends: that is when `pm demo` wants it to, or is no more.
pub(crate) async fn run_worker(context: &mut Context, args: &DemoWorkerArgs) -> Result<(), CommandError> {
    let settings = context.settings()?;
    let queue = connect_with(settings.url()?, options(&settings)).await?;
    let stream = StreamOptions::default().prefetch(1).worker_name(&args.name);
    let mut jobs = pin!(queue.try_stream_jobs_with::<Parcel>(QUEUE, stream));
    let mut dismissed = dismissal();
    tell(context, &Event::Ready)?;
    loop {
        let job = tokio::select! {
            job = jobs.next() => job,
            _ = &mut dismissed => break,
        };
        let Some(job) = job else { break };
        tokio::select! {
            delivered = deliver(context, &queue, job?) => delivered?,
            _ = &mut dismissed => break,
        }
    }
    tokio::time::timeout(FAREWELL, queue.close()).await.map_err(|_| CommandError::trouble("the database is gone"))
}

async fn deliver(context: &mut Context, queue: &Queue, job: PendingJob<Parcel>) -> Result<(), CommandError> {
    let (id, metadata) = (job.id(), job.metadata().clone());
    let past = queue.attempts(id).await?;
    let ended_before = |ending: Ending| past.iter().any(|attempt| attempt.ending == ending);
    let (parcel, ack) = job.into_parts();
    let waits_for_death = parcel.fate == Fate::CourierDies && !ended_before(Ending::Reap);
    let Parcel { to, contents, fate } = parcel;
    tell(
        context,
        &Event::Began {
            job: id.to_string(),
            attempt: metadata.attempt,
            priority: metadata.priority,
            contents: contents.clone(),
            to,
            waits_for_death,
        },
    )?;
    if waits_for_death {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(DELIVERY).await;
    let verdict = match fate {
        Fate::NobodyAtHome if !ended_before(Ending::SoftFail) => Verdict::SoftFail("nobody at home".to_owned()),
        Fate::NoSuchAddress => Verdict::HardFail("no such address".to_owned()),
        _ => Verdict::Commit,
    };
    match &verdict {
        Verdict::Commit => ack.commit().await?,
        Verdict::SoftFail(reason) => ack.soft_fail(reason).await?,
        Verdict::HardFail(reason) => ack.hard_fail(reason).await?,
    }
    tell(context, &Event::Settled { job: id.to_string(), contents, verdict })
}

fn tell(context: &mut Context, event: &Event) -> Result<(), CommandError> {
    let line = serde_json::to_string(event);
    context.output.line(&line.map_err(|error| CommandError::trouble(format!("cannot tell: {error}")))?)
}

/// Returns what resolves when stdin ends. A thread reads it, because a runtime waits for its own readers at its end.
fn dismissal() -> oneshot::Receiver<()> {
    let (dismiss, dismissed) = oneshot::channel();
    std::thread::spawn(move || {
        let mut ignored = [0; 64];
        while std::io::stdin().lock().read(&mut ignored).is_ok_and(|read| read > 0) {}
        // Nobody may be waiting any longer.
        dismiss.send(()).ok();
    });
    dismissed
}
