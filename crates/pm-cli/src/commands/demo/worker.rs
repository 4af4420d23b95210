//! A worker process of the demo. It uses the library like any application.

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
/// How long closing the connection may take; the database may have stopped already.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Works for `pm demo`, and reports to it on stdout.
#[derive(clap::Args)]
pub(crate) struct DemoWorkerArgs {
    #[arg(long)]
    name: String,
}

/// A report of a worker, as a line of JSON. A job is given by the number of its id.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// The worker waits for jobs.
    Ready,
    /// It begins a job, and perhaps keeps it until it is killed.
    Began { job: u128, waits_to_be_killed: bool },
    /// It has settled a job in the database.
    Settled { job: u128, contents: String },
}

/// Works until stdin is closed: by `pm demo`, or because it has exited.
pub(crate) async fn run_worker(context: &mut Context, args: &DemoWorkerArgs) -> Result<(), CommandError> {
    let settings = context.settings()?;
    let queue = connect_with(settings.url()?, options(&settings)).await?;
    let stream = StreamOptions::default().prefetch(1).worker_name(&args.name);
    let mut jobs = pin!(queue.try_stream_jobs_with::<Parcel>(QUEUE, stream));
    let mut closed = stdin_closed();
    report(context, &Event::Ready)?;
    loop {
        let job = tokio::select! {
            job = jobs.next() => job,
            _ = &mut closed => break,
        };
        let Some(job) = job else { break };
        tokio::select! {
            delivered = deliver(context, &queue, job?) => delivered?,
            _ = &mut closed => break,
        }
    }
    tokio::time::timeout(CLOSE_TIMEOUT, queue.close())
        .await
        .map_err(|_| CommandError::trouble("the database cannot be reached"))
}

async fn deliver(context: &mut Context, queue: &Queue, job: PendingJob<Parcel>) -> Result<(), CommandError> {
    let id = job.id();
    let attempts = queue.attempts(id).await?;
    let ended_before = |ending: Ending| attempts.iter().any(|attempt| attempt.ending == ending);
    let (Parcel { contents, fate, .. }, ack) = job.into_parts();
    let waits_to_be_killed = fate == Fate::CourierDies && !ended_before(Ending::Reap);
    report(context, &Event::Began { job: id.as_u128(), waits_to_be_killed })?;
    if waits_to_be_killed {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(DELIVERY).await;
    match fate {
        Fate::NobodyAtHome if !ended_before(Ending::SoftFail) => ack.soft_fail("nobody at home").await?,
        Fate::NoSuchAddress => ack.hard_fail("no such address").await?,
        _ => ack.commit().await?,
    }
    report(context, &Event::Settled { job: id.as_u128(), contents })
}

fn report(context: &mut Context, event: &Event) -> Result<(), CommandError> {
    let line = serde_json::to_string(event);
    context.output.line(&line.map_err(|error| CommandError::trouble(format!("cannot report: {error}")))?)
}

/// Returns a receiver that resolves when stdin is closed. A separate thread reads stdin, because at its end a runtime
/// waits for its own blocking reads.
fn stdin_closed() -> oneshot::Receiver<()> {
    let (sender, closed) = oneshot::channel();
    std::thread::spawn(move || {
        let mut ignored = [0; 64];
        while std::io::stdin().lock().read(&mut ignored).is_ok_and(|read| read > 0) {}
        // The receiver may have been dropped.
        sender.send(()).ok();
    });
    closed
}
