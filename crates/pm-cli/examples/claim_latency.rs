//! Takes one job after another for some seconds, and prints how long a claim and its awaited commit took.
//!
//! `claim_latency URL QUEUE SECONDS`; `scripts/bench-cli` runs it beside a bulk delete.

use futures_util::StreamExt;
use pm_driver_tokio_postgres::{RawPayload, StreamOptions, connect};
use std::error::Error;
use std::time::{Duration, Instant};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [url, name, seconds] = arguments.as_slice() else {
        return Err("usage: claim_latency URL QUEUE SECONDS".into());
    };
    let queue = connect(url).await?;
    let options = StreamOptions::default().prefetch(1).listen(false);
    let mut jobs = Box::pin(queue.try_stream_jobs_with::<RawPayload>(name, options));
    let mut cycles = Vec::new();
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    while Instant::now() < end {
        let began = Instant::now();
        let job = jobs.next().await.ok_or("the stream ended")??;
        job.into_parts().1.commit().await?;
        cycles.push(began.elapsed());
    }
    drop(jobs);
    queue.close().await;
    cycles.sort();
    let at = |share: f64| cycles[((cycles.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let (count, [p50, p99, max]) = (cycles.len(), [0.5, 0.99, 1.0].map(at));
    println!("{count} jobs, claim and commit: p50 {p50:.1} ms, p99 {p99:.1} ms, longest {max:.1} ms");
    Ok(())
}
