//! A program on smol, without a tokio runtime: it enqueues a mail when it starts, sends the queued mails, eight at a
//! time, and exits cleanly on SIGTERM or Ctrl-C.

use async_signal::{Signal, Signals};
use futures_util::StreamExt;
use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions, Error, PendingJob, catch_panic, connect_on, runtime};
use pm_examples::{Mail, database_url};
use std::sync::Arc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    smol::block_on(async {
        let queue = connect_on(&database_url()?, ConnectOptions::default(), Arc::new(runtime::Smol)).await?;
        queue.create_queue("mails", false).await?;
        let welcome = Mail { to: "welcome@example.org".to_owned(), takes_ms: 0 };
        queue.enqueue("mails", welcome, EnqueueOptions::default()).await?;

        let mut signals = Signals::new([Signal::Term, Signal::Int])?;
        let closing = queue.clone();
        smol::spawn(async move {
            signals.next().await;
            closing.close().await;
        })
        .detach();
        println!("ready");

        queue.try_stream_jobs::<Mail>("mails").for_each_concurrent(8, send).await;
        queue.close().await;
        println!("done");
        Ok(())
    })
}

/// Sends a mail and settles its job. A panic soft-fails this job, with its message as the reason; the others go on.
async fn send(job: Result<PendingJob<Mail>, Error>) {
    // For example a payload that is not a `Mail`: the job waits for a worker that can decode it.
    let (mail, ack) = match job {
        Ok(job) => job.into_parts(),
        Err(error) => return eprintln!("{error}"),
    };
    let settling = match catch_panic(deliver(&mail)).await {
        Ok(()) => ack.commit(),
        Err(panic) => ack.soft_fail(panic),
    };
    if let Err(error) = settling.await {
        eprintln!("the mail to {} may go out twice: {error}", mail.to);
    }
}

async fn deliver(mail: &Mail) {
    println!("mail to {} by way of {}", mail.to, mail.domain());
    smol::Timer::after(mail.takes()).await;
}
