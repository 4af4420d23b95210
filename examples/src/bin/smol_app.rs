//! A program on smol, without a tokio runtime: it enqueues a mail when it starts, sends the queued mails, eight at a
//! time, and exits cleanly on SIGTERM or Ctrl-C.

use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions, JobContext, RunOptions, connect_on, runtime};
use pm_examples::{Mail, database_url};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    smol::block_on(async {
        let queue = connect_on(&database_url()?, ConnectOptions::default(), Arc::new(runtime::Smol)).await?;
        queue.create_queue("mails", false).await?;
        let welcome = Mail { to: "welcome@example.org".to_owned(), takes_ms: 0 };
        queue.enqueue("mails", welcome, EnqueueOptions::default()).await?;

        let options = RunOptions::new().concurrency(8).stop_on_signal(Duration::from_secs(30))?;
        println!("ready");
        queue.run("mails", options, send).await?;
        queue.close().await;
        println!("done");
        Ok(())
    })
}

/// Sends a mail. If it panics, only this job soft-fails, with the panic's message as the reason.
async fn send(mail: Mail, _job: JobContext) -> Result<(), Infallible> {
    println!("mail to {} by way of {}", mail.to, mail.domain());
    smol::Timer::after(mail.takes()).await;
    Ok(())
}
