//! P7: the rate of draining jobs at different sizes of the backlog.

use crate::Result;
use crate::contender::{Contender, Mail, handle};
use crate::ours::{Ours, QUEUE};
use crate::report::Report;
use crate::testbed::Testbed;
use futures_util::StreamExt;
use pm_driver_tokio_postgres::connect;
use std::pin::pin;
use std::time::Instant;

/// The numbers of jobs that are drained to warm up, and then to measure.
const WARM_UP: usize = 2_000;
const MEASURED: usize = 5_000;

pub(crate) async fn measure(testbed: &Testbed, quick: bool, report: &mut Report) -> Result<()> {
    // The backlog that remains after the drained jobs.
    let backlogs: &[(usize, &str)] = &[(1_000, "1k"), (100_000, "100k"), (1_000_000, "1M")];
    for (size, name) in &backlogs[..if quick { 2 } else { 3 }] {
        eprintln!("drain at a backlog of {name}");
        let database = testbed.database().await?;
        <Ours>::open(&database.url).await?.enqueue_many(size + WARM_UP + MEASURED).await?;
        let queue = connect(&database.url).await?;
        let mut jobs = pin!(queue.try_stream_jobs::<Mail>(QUEUE));
        let mut start = Instant::now();
        for taken in 0..WARM_UP + MEASURED {
            if taken == WARM_UP {
                start = Instant::now();
            }
            let (mail, ack) = jobs.next().await.ok_or("the stream ended")??.into_parts();
            handle(&mail);
            ack.commit().detach();
        }
        let rate = MEASURED as f64 / start.elapsed().as_secs_f64();
        report.add("P7", format!("drain at a backlog of {name}, jobs/s"), "ours", rate);
        queue.close().await;
        database.drop().await?;
    }
    Ok(())
}
