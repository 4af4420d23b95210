//! P6: what a worker costs while there is nothing to do.

use crate::Result;
use crate::ground::Ground;
use crate::ours::QUEUE;
use crate::report::Report;
use futures_util::StreamExt;
use pm_driver_tokio_postgres::connect;
use std::pin::pin;
use std::time::Duration;

/// A worker has settled down by then.
const WARM_UP: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(30);

pub(crate) async fn measure(ground: &Ground, report: &mut Report) -> Result<()> {
    eprintln!("an idle worker: {} s", (WARM_UP + LOOK).as_secs());
    let database = ground.database().await?;
    let queue = connect(&database.url).await?;
    queue.create_queue(QUEUE, false).await?;
    let mut jobs = pin!(queue.try_stream_jobs::<()>(QUEUE));
    if tokio::time::timeout(WARM_UP, jobs.next()).await.is_ok() {
        return Err("an empty queue gave a job".into());
    }
    let (before, seen) = (ground.read().await?, ground.transactions(&database.name).await?);
    if tokio::time::timeout(LOOK, jobs.next()).await.is_ok() {
        return Err("an empty queue gave a job".into());
    }
    let spent = ground.spent_since(before).await?;
    let seen = ground.transactions(&database.name).await? - seen;
    let seconds = spent.time.as_secs_f64();
    report.add("P6", "idle worker, statements/s".to_owned(), "ours", seen as f64 / seconds);
    report.add("P6", "idle worker, client ms CPU/s".to_owned(), "ours", spent.client_cpu.as_secs_f64() * 1e3 / seconds);
    queue.close().await;
    database.drop().await
}
