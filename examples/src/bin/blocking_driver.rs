//! A custom driver over the blocking `postgres` crate. It carries statements and rows without interpreting them. The
//! program sends one mail with it.

use futures_util::StreamExt;
use pm_examples::bytes::{encoded, failure, rows_of};
use pm_examples::{Mail, database_url};
use pm_queue::driver::{BoxFuture, Driver, Executor, Failure, Rows, Statement, Value};
use pm_queue::{ConnectOptions, EnqueueOptions, Queue, catch_panic, runtime};
use postgres::{Client, NoTls};
use std::error::Error;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

/// The driver: the URL of the database, and the idle connections.
#[derive(Clone)]
struct Blocking {
    url: String,
    session_script: String,
    idle: Arc<Mutex<Vec<Client>>>,
}

impl Blocking {
    /// Runs `work` with a connection, on a thread that may block.
    async fn with_client<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Client) -> Result<T, postgres::Error> + Send + 'static,
    ) -> Result<T, Failure> {
        let driver = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut client = driver.client()?;
            let answer = work(&mut client).map_err(|error| failure(&error));
            if !client.is_closed() {
                driver.idle().push(client);
            }
            answer
        });
        done.await.unwrap_or_else(|_| Err(Failure::no_reply("the thread has ended")))
    }

    fn client(&self) -> Result<Client, Failure> {
        let idle = self.idle().pop();
        idle.filter(|client| !client.is_closed()).map_or_else(|| self.connect(), Ok)
    }

    fn connect(&self) -> Result<Client, Failure> {
        let connected = Client::connect(&self.url, NoTls).and_then(|mut client| {
            client.batch_execute(&self.session_script)?;
            Ok(client)
        });
        connected
            .map_err(|error| Failure::unreachable("the server", error.as_db_error().map(|_| failure(&error)), &error))
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Executor for Blocking {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        Box::pin(async move {
            let params = params.iter().map(encoded).collect::<Result<Vec<_>, _>>()?;
            let (text, columns) = (statement.text.clone(), statement.columns.len());
            let run = move |client: &mut Client| rows_of(client, &text, &params, columns);
            self.with_client(run).await
        })
    }
}

impl Driver for Blocking {
    fn run_script<'a>(&'a self, script: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        let script = script.to_owned();
        Box::pin(self.with_client(move |client| client.batch_execute(&script)))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let driver = self.clone();
        // Dropping a client blocks until it has closed its connection, so it needs another thread.
        Box::pin(async move { drop(tokio::task::spawn_blocking(move || driver.idle().clear()).await) })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = ConnectOptions::default();
    let driver = Blocking { url: database_url()?, session_script: options.session_script(), idle: Arc::default() };
    let queue = Queue::open(Arc::new(driver), Arc::new(runtime::Tokio::current()), &options).await?;
    queue.create_queue("mails", false).await?;
    let mail = Mail { to: "ada@example.org".to_owned(), takes_ms: 0 };
    queue.enqueue("mails", mail, EnqueueOptions::default()).await?;

    let mut jobs = pin!(queue.try_stream_jobs::<Mail>("mails"));
    if let Some(job) = jobs.next().await {
        let (mail, ack) = job?.into_parts();
        let sent = catch_panic(async { println!("mail to {} by way of {}", mail.to, mail.domain()) }).await;
        match sent {
            Ok(()) => ack.commit().await?,
            Err(panic) => ack.soft_fail(panic).await?,
        }
    }
    queue.close().await;
    println!("done");
    Ok(())
}
