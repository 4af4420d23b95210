//! `Queue`: the handle on the queues of a database, and what its calls share.

use crate::Error;
use crate::producer::ProducerHandle;
use crate::sending::Link;
use crate::worker::{Listening, LocalWorkers, Worker};
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use pm_core::Operation;
use pm_core::op::{Notification, NotifyIdle};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A handle on the queues of one database: enqueues jobs, streams them to handlers, and manages queues, jobs and
/// schedules. A driver's `connect` returns one.
///
/// Cloning it is cheap. All clones share connections, and concurrent enqueues share statements. After the last clone
/// is dropped, enqueues that were started are still sent, and streams and acks keep working.
#[derive(Clone)]
pub struct Queue {
    pub(super) inner: Arc<Inner>,
}

/// The state of the connection between a handle and the database.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The number of consecutive statements that could not reach the database, or of consecutive claims that failed,
    /// whichever is larger. Zero when the connection is healthy.
    pub failures: u32,
    /// The message of the most recent such failure, if there ever was one.
    pub last_failure: Option<String>,
    /// Whether the listener is connected: then other processes wake this one's idle streams through `NOTIFY`.
    pub listening: bool,
}

pub(super) struct Inner {
    pub(super) link: Arc<Link>,
    pub(super) producer: ProducerHandle,
    pub(super) workers: Arc<LocalWorkers>,
    pub(super) listening: Arc<Listening>,
    pub(super) closed: AtomicBool,
    pub(super) worker_name: String,
    /// Settles and extends the jobs fetched by id; started by the first fetch.
    pub(super) fetching: OnceLock<Arc<Worker>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(worker) = self.fetching.get() {
            worker.update(|state| state.machine.shut_down(self.link.now()));
        }
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("schema", self.inner.link.catalog.schema()).finish_non_exhaustive()
    }
}

impl Queue {
    /// Closes this handle and its clones; returns when nothing is left to settle.
    ///
    /// Streams end, jobs that no handler has started are released, and enqueues that were started are sent. Every ack
    /// that was handed out is waited for until it is used or dropped, or its lease ends. A claim whose reply was lost
    /// is released repeatedly until the server has certainly stopped working on it: for the statement timeout after
    /// the reply was lost. While the database is unreachable this goes on for 30 s more; jobs that such a claim took
    /// become ready again when their leases end. Calls after this one get an error of kind `Closed`.
    pub async fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        self.inner.workers.close(self.inner.link.now());
        poll_fn(|cx| self.inner.workers.poll_closed(cx)).await;
        self.inner.producer.close();
        poll_fn(|cx| self.inner.producer.poll_closed(cx)).await;
        self.inner.link.driver.close().await;
    }

    /// Does what [`Queue::close`] does, but waits for `time` at most; returns whether everything was settled.
    ///
    /// After a timeout, pending enqueues and settlements are still sent in the background while the process runs. Jobs
    /// whose acks are never used become ready again when their leases end.
    pub async fn close_within(&self, time: Duration) -> bool {
        let (close, deadline) = (pin!(self.close()), self.inner.link.runtime.sleep(time));
        matches!(select(close, deadline).await, Either::Left(_))
    }

    /// Runs one operation in its own task, so that dropping the future does not abandon a statement half-way.
    pub(crate) async fn execute<O>(&self, operation: O) -> Result<O::Output, Error>
    where
        O: Operation<Output: Send + 'static> + Send + Sync + 'static,
    {
        self.check_open()?;
        let link = self.inner.link.clone();
        self.spawned(async move { Ok(link.run(operation).await?) }).await
    }

    /// Runs `work` in its own task. If the caller drops the future, the result is dropped.
    pub(crate) async fn spawned<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.inner.link.runtime.spawn(Box::pin(async move {
            drop(answer.send(work.await));
        }));
        answered.await.unwrap_or_else(|_| Err(Error::no_task()))
    }

    /// Notifies the workers of this process and of others that something about a queue changed.
    pub(crate) fn notify_of_change(&self, queue_id: i32) {
        self.notify_local_workers();
        self.notify_other_processes(queue_id);
    }

    /// Notifies the workers of other processes that something about a queue changed.
    pub(crate) fn notify_other_processes(&self, queue_id: i32) {
        self.inner.producer.notify(Notification { queue_id, priority: None });
    }

    /// Returns the state of the connection between this handle and the database. Sends no statement.
    ///
    /// Streams do not yield connection errors, because they reconnect on their own; use this to monitor them.
    pub fn health(&self) -> Health {
        let (failures, last_failure) = self.inner.link.health();
        Health { failures, last_failure, listening: self.is_listening() }
    }

    /// Returns whether the listener is connected. While it is not, idle streams poll more often.
    pub fn is_listening(&self) -> bool {
        self.inner.listening.is_listening()
    }

    /// Notifies the workers of this process that something about the queues changed.
    pub(crate) fn notify_local_workers(&self) {
        self.inner.workers.handle_change(self.inner.link.now());
    }

    /// Notifies idle workers, if any jobs became ready.
    pub(crate) async fn notify_idle(&self, jobs: u64) {
        if jobs > 0 {
            // If this fails, the workers find the jobs when they poll.
            drop(self.wake_workers().await);
        }
    }

    /// Makes idle workers poll their queues at once, in this process and in others. Runs one statement.
    ///
    /// For jobs that were enqueued without a notification: by a prepared transaction (see
    /// [`WithoutNotify`](crate::driver::WithoutNotify)), or by the program's own SQL.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn wake_workers(&self) -> Result<(), Error> {
        self.notify_local_workers();
        let channel = Notification::channel(self.link().catalog.schema());
        self.execute(NotifyIdle { channel }).await.map(drop)
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.inner.link
    }

    /// Returns 63 random bits.
    pub(crate) fn random_seed(&self) -> i64 {
        pm_core::Lease::number_from(self.inner.link.randomness.next_u64())
    }

    pub(crate) fn check_open(&self) -> Result<(), Error> {
        match self.inner.closed.load(Ordering::Acquire) {
            true => Err(Error::closed()),
            false => Ok(()),
        }
    }
}
