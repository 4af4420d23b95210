//! A process of its own that connects, which migrates, creates a queue, and has a job of it done.

use pm_driver_tokio_postgres::EnqueueOptions;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(name)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: connect URL QUEUE");
        return ExitCode::FAILURE;
    };
    match work(&url, &name).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{:?}: {error}", error.kind());
            ExitCode::FAILURE
        }
    }
}

async fn work(url: &str, name: &str) -> Result<(), pm_driver_tokio_postgres::Error> {
    let queue = pm_driver_tokio_postgres::connect(url).await?;
    queue.create_queue(name, false).await?;
    queue.enqueue(name, 1u64, EnqueueOptions::default()).await?;
    let mut jobs = queue.try_stream_jobs::<u64>(name);
    pm_tests::next(&mut jobs).await.into_parts().1.commit().await?;
    queue.close().await;
    Ok(())
}
