//! A process that connects (which migrates), creates a queue, and enqueues and commits one job.

use futures_util::StreamExt;
use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions, Error, Sockets, connect_on, runtime};
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        [url, name, "smol"] => smol::block_on(work(url, name, Arc::new(runtime::Smol))),
        [url, name] | [url, name, "tokio"] => {
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
            tokio.block_on(async { work(url, name, Arc::new(runtime::Tokio::current())).await })
        }
        _ => {
            eprintln!("usage: connect URL QUEUE [tokio | smol]");
            return ExitCode::FAILURE;
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{:?}: {error}", error.kind());
            ExitCode::FAILURE
        }
    }
}

async fn work(url: &str, name: &str, runtime: Arc<dyn Sockets>) -> Result<(), Error> {
    let queue = connect_on(url, ConnectOptions::default(), runtime).await?;
    queue.create_queue(name, false).await?;
    queue.enqueue(name, 1u64, EnqueueOptions::default()).await?;
    let job = queue.try_stream_jobs::<u64>(name).next().await.expect("the stream goes on")?;
    job.into_parts().1.commit().await?;
    queue.close().await;
    Ok(())
}
