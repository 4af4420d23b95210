//! P5: how fast an idle worker in another process gets a job.

use crate::Result;
use crate::ours::QUEUE;
use crate::report::Report;
use crate::testbed::Testbed;
use futures_util::StreamExt;
use pm_driver_tokio_postgres::{EnqueueOptions, connect};
use std::pin::pin;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// The argument that makes this program the worker. It is followed by the URL of a database.
pub(crate) const WORKER: &str = "--pickup-worker";
const JOBS: usize = 500;
/// The time between two jobs, so that the worker is idle again. Not a multiple of any of its timers.
const GAP: Duration = Duration::from_millis(47);

/// Works on jobs until killed, and prints the time at which it got each.
pub(crate) async fn work(url: &str) -> Result<()> {
    let queue = connect(url).await?;
    let mut jobs = pin!(queue.try_stream_jobs::<usize>(QUEUE));
    let mut out = tokio::io::stdout();
    while let Some(job) = jobs.next().await {
        let (number, ack) = job?.into_parts();
        let line = format!("{number} {}\n", now_ns()?);
        ack.commit().await?;
        out.write_all(line.as_bytes()).await?;
        out.flush().await?;
    }
    Ok(())
}

/// Enqueues jobs one by one in this process, for a worker in another.
pub(crate) async fn measure(testbed: &Testbed, report: &mut Report) -> Result<()> {
    eprintln!("pick-up by another process: {JOBS} jobs");
    let database = testbed.database().await?;
    let queue = connect(&database.url).await?;
    queue.create_queue(QUEUE, false).await?;
    let mut worker = Command::new(std::env::current_exe()?)
        .args([WORKER, &database.url])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(worker.stdout.take().ok_or("the worker has no output")?).lines();
    let (mut from_call, mut from_commit) = (Vec::new(), Vec::new());
    // The first job waits for the worker to start and is not measured.
    for number in 0..=JOBS {
        tokio::time::sleep(GAP).await;
        let called = now_ns()?;
        queue.enqueue(QUEUE, number, EnqueueOptions::default()).await?;
        let committed = now_ns()?;
        let line = lines.next_line().await?.ok_or("the worker ended")?;
        let (job, taken) = line.split_once(' ').ok_or("the worker printed an unexpected line")?;
        let taken: u128 = taken.parse()?;
        if job.parse::<usize>()? != number {
            return Err(format!("the worker got job {job} instead of {number}").into());
        }
        if number > 0 {
            from_call.push(taken.saturating_sub(called) as f64 / 1e6);
            from_commit.push(taken.saturating_sub(committed) as f64 / 1e6);
        }
    }
    worker.kill().await?;
    for (what, mut values) in [("from the reply to enqueue", from_commit), ("from the call of enqueue", from_call)] {
        values.sort_by(f64::total_cmp);
        for percent in [50, 99] {
            let value = values[values.len() * percent / 100];
            report.add("P5", format!("pick-up, ms {what}, p{percent}"), "ours", value);
        }
    }
    queue.close().await;
    database.drop().await
}

fn now_ns() -> Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())
}
