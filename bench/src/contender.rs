//! What is measured: pm, the floor and other job queues.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A job queue on its own database.
pub(crate) trait Contender: Clone + Send + Sync + 'static {
    /// The name in the table.
    const NAME: &'static str;
    /// The SQL that counts the finished jobs; `None` if it deletes them.
    const COUNT_ENDED: Option<&'static str>;
    /// The SQL that counts all jobs.
    const COUNT_ALL: &'static str;
    /// Whether its handlers can wait for their commits.
    const COMMITS: Choice = Choice::Both;
    /// Whether it can enqueue many jobs in one call.
    const HAS_BULK: bool = true;
    /// Whether it waits for jobs that come later.
    const WAITS_FOR_JOBS: bool = true;
    /// The most jobs that it enqueues one by one in a measurement; less than asked for if it is slow.
    const ENQUEUES_AT_MOST: usize = usize::MAX;
    /// The most jobs that it drains in a measurement; less than asked for if it is slow.
    const DRAINS_AT_MOST: usize = usize::MAX;

    /// Sets up the queue, unless the database has it already, and connects.
    async fn open(url: &str) -> Result<Self>;

    /// Enqueues this number of jobs as fast as possible.
    async fn enqueue_many(&self, jobs: usize) -> Result<()>;

    /// Enqueues one job, and waits until it is durable.
    fn enqueue(&self, number: usize) -> impl Future<Output = Result<()>> + Send;

    /// Enqueues this number of jobs one by one from several tasks, each of which waits until its job is durable.
    async fn enqueue_each(&self, jobs: usize, tasks: usize) -> Result<()> {
        let tasks: Vec<_> = (0..tasks)
            .map(|task| {
                let contender = self.clone();
                tokio::spawn(async move {
                    for number in (task..jobs).step_by(tasks) {
                        contender.enqueue(number).await?;
                    }
                    Ok::<_, Error>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(())
    }

    /// Works off this number of jobs; returns when all settlements are durable.
    async fn drain(&self, jobs: usize, commits: Commits) -> Result<()>;

    /// Closes the connections to the database.
    fn close(self) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }
}

/// How handlers commit their jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commits {
    /// This number of handlers, each of which waits for its commit.
    Awaited(usize),
    /// This number of handlers, which do not wait for their commits.
    Detached(usize),
}

impl Commits {
    /// Returns the number of handlers.
    pub(crate) fn handlers(self) -> usize {
        let (Commits::Awaited(handlers) | Commits::Detached(handlers)) = self;
        handlers
    }
}

/// The ways in which a contender commits, as its documentation recommends for throughput.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// As asked for.
    Both,
    /// Always awaited.
    Awaited,
    /// Never awaited, also where the others wait.
    Detached,
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
            to: format!("somebody.{:06}@example.org", number % 1_000_000),
            subject: "Your order is on its way".to_owned(),
            template: "order-shipped/v3".to_owned(),
            number,
        }
    }
}

/// The number of jobs that handlers of this process have had.
static HANDLED: AtomicUsize = AtomicUsize::new(0);
/// Receives the number of each job that a handler of this process gets.
static WATCHER: OnceLock<fn(usize)> = OnceLock::new();

/// The handler of all contenders: it reads the payload and does nothing.
pub(crate) fn handle(mail: &Mail) {
    std::hint::black_box(mail.number);
    if let Some(watcher) = WATCHER.get() {
        watcher(mail.number);
    }
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Calls a function with the number of each job from now on, when its handler begins. Only the first call counts.
pub(crate) fn watch(watcher: fn(usize)) {
    WATCHER.get_or_init(|| watcher);
}

/// Returns how many jobs handlers of this process have had.
pub(crate) fn handled() -> usize {
    HANDLED.load(Ordering::Relaxed)
}

/// Waits until handlers of this process have had this number of jobs, for contenders with workers of their own.
#[cfg(feature = "peers")]
pub(crate) async fn until_handled(jobs: usize) {
    while handled() < jobs {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}
