//! P6: the cost of an idle worker.

use crate::Result;
use crate::ours::QUEUE;
use crate::report::Report;
use crate::testbed::Testbed;
use futures_util::StreamExt;
use pm_driver_tokio_postgres::connect;
use std::pin::pin;
use std::time::Duration;

/// After this time the worker polls at its longest interval.
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(30);

pub(crate) async fn measure(testbed: &Testbed, report: &mut Report) -> Result<()> {
    eprintln!("an idle worker: {} s", (WARM_UP + MEASURED).as_secs());
    let database = testbed.database().await?;
    let queue = connect(&database.url).await?;
    queue.create_queue(QUEUE, false).await?;
    let mut jobs = pin!(queue.try_stream_jobs::<()>(QUEUE));
    if tokio::time::timeout(WARM_UP, jobs.next()).await.is_ok() {
        return Err("an empty queue gave a job".into());
    }
    let (before, transactions) = (testbed.read().await?, testbed.transactions(&database.name).await?);
    if tokio::time::timeout(MEASURED, jobs.next()).await.is_ok() {
        return Err("an empty queue gave a job".into());
    }
    let spent = testbed.spent_since(before).await?;
    let transactions = testbed.transactions(&database.name).await? - transactions;
    let seconds = spent.time.as_secs_f64();
    report.add("P6", "idle worker, statements/s".to_owned(), "ours", transactions as f64 / seconds);
    report.add("P6", "idle worker, client ms CPU/s".to_owned(), "ours", spent.client_cpu.as_secs_f64() * 1e3 / seconds);
    queue.close().await;
    database.drop().await
}
