//! The program in the README.

use futures_util::StreamExt;
use pm_driver_tokio_postgres::{EnqueueOptions, Error, catch_panic, connect};
use serde::{Deserialize, Serialize};
use std::pin::pin;

#[derive(Serialize, Deserialize)]
struct Mail {
    to: String,
}

/// Stands for the work.
async fn send(mail: &Mail) -> Result<(), String> {
    let (_, domain) = mail.to.split_once('@').expect("an address has an @");
    println!("mail to {} by way of {domain}", mail.to);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::var("DATABASE_URL").unwrap_or_else(|_| "postgres://localhost/app".to_owned());
    let queue = connect(&url).await?; // makes the tables if they are missing
    queue.create_queue("mails", false).await?; // false: not paused
    let mail = Mail { to: "ada@example.org".to_owned() };
    let id = queue.enqueue("mails", mail, EnqueueOptions::default()).await?;
    println!("job {id}");

    let mut jobs = pin!(queue.try_stream_jobs::<Mail>("mails"));
    while let Some(job) = jobs.next().await {
        let (mail, ack) = match job {
            Ok(job) => job.into_parts(),
            Err(error) => {
                eprintln!("{error}");
                continue; // one bad payload does not end a worker
            }
        };
        // Neither does a panic: it soft-fails this job, with its text as the reason.
        let settling = match catch_panic(send(&mail)).await {
            Ok(Ok(())) => ack.commit(),
            Ok(Err(reason)) => ack.soft_fail(reason), // again later; or hard_fail, never again
            Err(panic) => ack.soft_fail(panic),
        };
        if let Err(error) = settling.await {
            eprintln!("{error}");
        }
    }
    Ok(())
}
