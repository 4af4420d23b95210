//! A plain worker: works on jobs of the queue `mails`, eight at a time, until SIGTERM or Ctrl-C. Then the running jobs
//! have 30 seconds to end, the others are released, and it exits. A panic in a handler soft-fails only its own job.

use pm_driver_tokio_postgres::{JobContext, RunOptions};
use pm_examples::{Mail, database_url};
use std::convert::Infallible;
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let queue = pm_driver_tokio_postgres::connect(&database_url()?).await?;
    queue.create_queue("mails", false).await?;
    let options = RunOptions::new().concurrency(8).stop_on_signal(Duration::from_secs(30))?;
    println!("ready");
    queue.run("mails", options, send).await?;
    queue.close().await;
    println!("done");
    Ok(())
}

/// Sends a mail. If it panics, only this job soft-fails, with the panic's message as the reason.
async fn send(mail: Mail, _job: JobContext) -> Result<(), Infallible> {
    println!("mail to {} by way of {}", mail.to, mail.domain());
    tokio::time::sleep(mail.takes()).await;
    Ok(())
}
