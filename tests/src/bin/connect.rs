//! A process of its own that connects, which migrates, and creates a queue: for tests of many at once.

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
    queue.close().await;
    Ok(())
}
