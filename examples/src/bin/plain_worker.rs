//! A plain worker: takes jobs off the queue `mails`, eight at once, until SIGTERM or Ctrl-C. Then it finishes what it has
//! begun, gives back what it has not, and ends.

use futures_util::StreamExt;
use pm_driver_tokio_postgres::{Error, PendingJob, Queue};
use pm_examples::{Mail, database_url};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let queue = pm_driver_tokio_postgres::connect(&database_url()?).await?;
    queue.create_queue("mails", false).await?;
    tokio::spawn(close_when_told(queue.clone()));
    println!("ready");

    // The stream ends when the queue is closed; handlers that run are waited for.
    queue.try_stream_jobs::<Mail>("mails").for_each_concurrent(8, send).await;
    queue.close().await;
    println!("done");
    Ok(())
}

async fn send(job: Result<PendingJob<Mail>, Error>) {
    // A payload that is no mail, for example: the job is soft-failed already.
    let job = match job {
        Ok(job) => job,
        Err(error) => return eprintln!("{error}"),
    };
    let (mail, ack) = job.into_parts();
    println!("mail to {}", mail.to);
    tokio::time::sleep(mail.takes()).await;
    if let Err(error) = ack.commit().await {
        eprintln!("the mail to {} may go out twice: {error}", mail.to);
    }
}

async fn close_when_told(queue: Queue) {
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened to");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    queue.close().await;
}
