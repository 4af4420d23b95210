//! Q13: the size and the start of the `pm` command, and the memory of a worker.

use crate::Result;
use crate::contender::Contender;
use crate::load::Role;
use crate::ours::{Ours, QUEUE};
use crate::paced;
use crate::report::{Report, median};
use crate::side::{Side, limited, print_line, wait_for_go};
use crate::testbed::{Database, Testbed};
use futures_util::StreamExt;
use pm_driver_tokio_postgres::{EnqueueOptions, StreamOptions, connect};
use std::path::Path;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const CASE: &str = "Q13";
/// The name of the work of a worker that claims far ahead.
pub(crate) const PREFETCH: &str = "prefetch";
/// How many jobs it has claimed ahead at least, if it takes jobs fast enough.
const AHEAD: usize = 10_000;
/// How many jobs it takes before it stops: enough to show for more than a second that it takes that many.
const TAKEN: usize = 60_000;
const PAYLOAD_BYTES: usize = 1_000;
/// After this time an idle worker has done all that it does at first.
const IDLE: Duration = Duration::from_secs(5);
const STARTS: usize = 21;

/// Measures the command, if there is one, and two workers.
pub(crate) async fn measure(testbed: &Testbed, pm: Option<&Path>, report: &mut Report) -> Result<()> {
    match pm {
        Some(pm) => measure_command(pm, report)?,
        None => eprintln!("without --pm the command is left out"),
    }
    let side = Side::of::<Ours>()?;
    eprintln!("memory of an idle worker, and of one that claims ahead");
    let database = testbed.database().await?;
    limited(measure_idle(&database, &side, report)).await?;
    database.drop().await?;
    let database = testbed.database().await?;
    limited(measure_ahead(&database, &side, report)).await?;
    database.drop().await
}

fn measure_command(pm: &Path, report: &mut Report) -> Result<()> {
    add(report, "size of pm, MB", std::fs::metadata(pm)?.len() as f64 / 1e6);
    let mut times_ms = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        if !Command::new(pm).arg("--version").stdout(Stdio::null()).status()?.success() {
            return Err("pm --version failed".into());
        }
        times_ms.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    add(report, "pm --version, ms", median(&times_ms));
    Ok(())
}

async fn measure_idle(database: &Database<'_>, side: &Side, report: &mut Report) -> Result<()> {
    let mut worker = side.start(&database.url, &Role::Worker(paced::COMMITS).name(), usize::MAX).await?;
    worker.go().await?;
    tokio::time::sleep(IDLE).await;
    add(report, "idle worker, MB resident", worker.memory_mb("VmRSS")?);
    Ok(())
}

async fn measure_ahead(database: &Database<'_>, side: &Side, report: &mut Report) -> Result<()> {
    <Ours>::open(&database.url).await?.close().await?;
    let queue = connect(&database.url).await?;
    let payload = "x".repeat(PAYLOAD_BYTES);
    let jobs = (0..TAKEN + 3 * AHEAD).map(|_| (&payload, EnqueueOptions::default()));
    queue.enqueue_many(QUEUE, jobs).await?;
    let mut worker = side.start(&database.url, PREFETCH, TAKEN).await?;
    worker.go().await?;
    worker.line().await?;
    let ahead = database.number("select count(*) from pm.job where state = 1").await?;
    add(report, "jobs of 1 kB claimed ahead", ahead as f64);
    add(report, "worker with these jobs, MB resident", worker.memory_mb("VmRSS")?);
    add(report, "worker with these jobs, MB resident at most", worker.memory_mb("VmHWM")?);
    queue.close().await;
    Ok(())
}

fn add(report: &mut Report, what: &str, value: f64) {
    report.add(CASE, what.to_owned(), <Ours>::NAME, value);
}

/// Is the worker that claims far ahead: it takes this number of jobs, prints a line, and takes no more until it is
/// killed.
pub(crate) async fn serve(url: &str, jobs: usize) -> Result<()> {
    let queue = connect(url).await?;
    wait_for_go().await?;
    // It claims again when half of them are left, if handlers take that many in a second.
    let options = StreamOptions::default().prefetch(2 * AHEAD);
    let mut stream = pin!(queue.try_stream_jobs_with::<String>(QUEUE, options));
    for _ in 0..jobs {
        let (payload, ack) = stream.next().await.ok_or("the stream ended")??.into_parts();
        std::hint::black_box(payload);
        ack.commit().detach();
    }
    // The claims and settlements in flight end; jobs that no handler takes are released only after 5 s.
    tokio::time::sleep(Duration::from_secs(1)).await;
    print_line("taken").await?;
    std::future::pending().await
}
