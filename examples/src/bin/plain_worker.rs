//! A plain worker: takes jobs off the queue `mails`, eight at once, until SIGTERM or Ctrl-C. Then it finishes what it has
//! begun, gives back what it has not, and ends. A handler that panics costs its own job one try, and nothing else.

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

    // The stream ends when the queue is closed; handlers that run are waited for.
    queue.try_stream_jobs::<Mail>("mails").for_each_concurrent(8, send).await;
    queue.close().await;
    println!("done");
    Ok(())
}

/// Sends a mail and settles its job. A panic soft-fails this job, with its text as the reason; the others go on.
async fn send(job: Result<PendingJob<Mail>, Error>) {
    // A payload that is no mail, for example: the job waits for a worker that can read it.
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
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened to");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    queue.close().await;
}
