//! What is measured: ours, the floor and, later, peers.

use crate::Result;
use serde::{Deserialize, Serialize};

/// A job queue set up on a database of its own.
pub(crate) trait Contender: Sized {
    /// Its name in the table.
    const NAME: &'static str;
    /// Counts its jobs that ended well.
    const COUNT_ENDED: &'static str;
    /// Counts all its jobs.
    const COUNT_ALL: &'static str;

    /// Sets it up on an empty database, ready to work.
    async fn open(url: &str) -> Result<Self>;

    /// Puts so many jobs in, as fast as it can.
    async fn enqueue_many(&self, jobs: usize) -> Result<()>;

    /// Puts so many jobs in one by one, from so many tasks, each waiting until its job is durable.
    async fn enqueue_each(&self, jobs: usize, tasks: usize) -> Result<()>;

    /// Works off so many jobs; returns when all their ends are durable.
    async fn drain(&self, jobs: usize, way: Way) -> Result<()>;

    /// Lets go of the database.
    async fn close(self) -> Result<()>;
}

/// How handlers end their jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// So many handlers, each waiting for its commit before it is free.
    Awaited(usize),
    /// So many handlers that leave the commit to run behind.
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

/// The handler, the same for all: it looks at the payload and does nothing.
pub(crate) fn handle(mail: &Mail) {
    std::hint::black_box(mail.number);
}
