//! What is measured: pm, the floor and, later, other job queues.

use crate::Result;
use serde::{Deserialize, Serialize};

/// A job queue on its own database.
pub(crate) trait Contender: Sized {
    /// The name in the table.
    const NAME: &'static str;
    /// The SQL that counts the finished jobs.
    const COUNT_ENDED: &'static str;
    /// The SQL that counts all jobs.
    const COUNT_ALL: &'static str;

    /// Sets up the queue on an empty database.
    async fn open(url: &str) -> Result<Self>;

    /// Enqueues this number of jobs as fast as possible.
    async fn enqueue_many(&self, jobs: usize) -> Result<()>;

    /// Enqueues this number of jobs one by one from several tasks, each of which waits until its job is durable.
    async fn enqueue_each(&self, jobs: usize, tasks: usize) -> Result<()>;

    /// Works off this number of jobs; returns when all settlements are durable.
    async fn drain(&self, jobs: usize, commits: Commits) -> Result<()>;

    /// Closes the connections to the database.
    async fn close(self) -> Result<()>;
}

/// How handlers commit their jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commits {
    /// This number of handlers, each of which waits for its commit.
    Awaited(usize),
    /// This number of handlers, which do not wait for their commits.
    Detached(usize),
}

/// The payload: about 120 bytes of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mail {
    to: String,
    subject: String,
    template: String,
    number: usize,
}

impl Mail {
    pub(crate) fn new(number: usize) -> Self {
        Mail {
            to: format!("somebody.{number:06}@example.org"),
            subject: "Your order is on its way".to_owned(),
            template: "order-shipped/v3".to_owned(),
            number,
        }
    }
}

/// The handler of all contenders: it reads the payload and does nothing.
pub(crate) fn handle(mail: &Mail) {
    std::hint::black_box(mail.number);
}
