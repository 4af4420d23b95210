//! The program in the README.

use pm_driver_tokio_postgres::{EnqueueOptions, Error, JobContext, Outcome, RunOptions, connect};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Serialize, Deserialize)]
struct Mail {
    to: String,
}

/// Sends a mail. An error, or a panic, is a soft fail: the job is tried again later.
async fn send(mail: Mail, _job: JobContext) -> Result<Outcome, String> {
    let Some((_, domain)) = mail.to.split_once('@') else {
        return Ok(Outcome::Fail("an address has an @".to_owned())); // never again
    };
    println!("mail to {} by way of {domain}", mail.to);
    Ok(Outcome::Done)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::var("DATABASE_URL").unwrap_or_else(|_| "postgres://localhost/app".to_owned());
    let queue = connect(&url).await?; // makes the tables if they are missing
    queue.create_queue("mails", false).await?; // false: not paused
    let mail = Mail { to: "ada@example.org".to_owned() };
    let id = queue.enqueue("mails", mail, EnqueueOptions::default()).await?;
    println!("job {id}");

    let options = RunOptions::new().concurrency(8).timeout(Duration::from_secs(60));
    queue.run("mails", options, send).await // until the process ends
}
