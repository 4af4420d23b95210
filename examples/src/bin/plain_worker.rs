//! A plain worker: works on jobs of the queue `mails`, eight at a time, until SIGTERM or Ctrl-C. Then it finishes the
//! running jobs, releases the others, and exits. A panic in a handler soft-fails only its own job.

use futures_util::StreamExt;
use pm_driver_tokio_postgres::{Error, PendingJob, Queue, catch_panic};
use pm_examples::{Mail, database_url};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let queue = pm_driver_tokio_postgres::connect(&database_url()?).await?;
    queue.create_queue("mails", false).await?;
    tokio::spawn(close_on_signal(queue.clone()));
    println!("ready");

    // The stream ends when the queue is closed, and running handlers are waited for.
    queue.try_stream_jobs::<Mail>("mails").for_each_concurrent(8, send).await;
    queue.close().await;
    println!("done");
    Ok(())
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
    tokio::time::sleep(mail.takes()).await;
}

async fn close_on_signal(queue: Queue) {
    let mut terminate = signal(SignalKind::terminate()).expect("a signal handler can be installed");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    queue.close().await;
}
