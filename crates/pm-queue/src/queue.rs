//! `Queue`: the handle on the queues of a database.

use crate::ack::Worker;
use crate::codec::RawPayload;
use crate::link::Link;
use crate::listening::Listening;
use crate::producer::{Enqueueing, ProducerHandle, key_conflict};
use crate::stream::JobStream;
use crate::task::{Shared, Task};
use crate::worker::{LocalWorkers, WorkerWaiters};
use crate::{
    ConnectOptions, Driver, EnqueueOptions, Error, ErrorKind, OnConflict, QueueNames, Randomness, Runtime,
    StreamOptions, SystemRandomness,
};
use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use pm_core::doctor::{foreign_encoding, hidden_rows, other_schemas};
use pm_core::machine::{self, Enqueued};
use pm_core::op::{Notification, Relations, SchemaFound, SchemaVersion, advance_positions_script};
use pm_core::{NewJob, OTHER_TEXT_SQLSTATE, Operation, QueueName, SCHEMA_VERSION, job_id, migration_script};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use uuid::Uuid;

/// How many jobs of one `enqueue_many` are encoded ahead of the statements that carry them.
const ENCODED_AHEAD: usize = 4_000;

/// A handle on the queues of one database: enqueues jobs, streams them to handlers, and manages queues, jobs and
/// schedules. A driver's `connect` returns one.
///
/// Cloning it is cheap. All clones share connections, and concurrent enqueues share statements. After the last clone
/// is dropped, enqueues that were started are still sent, and streams and acks keep working.
#[derive(Clone)]
pub struct Queue {
    inner: Arc<Inner>,
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

struct Inner {
    link: Arc<Link>,
    producer: ProducerHandle,
    workers: Arc<LocalWorkers>,
    listening: Arc<Listening>,
    closed: AtomicBool,
    worker_name: String,
    /// Settles and extends the jobs fetched by id; started by the first fetch.
    fetching: OnceLock<Arc<Worker>>,
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
    /// Opens a handle over a driver and a runtime. For driver authors; programs call their driver's `connect`.
    ///
    /// Checks the schema's version and migrates a missing or older schema, unless the options turn that off.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the database cannot be reached; `Schema` when the schema is newer than this program, or is
    /// missing or older while [`ConnectOptions::migrate`] is off; `Invalid` for a bad schema name, or a timeout that
    /// is not between 1 ms and 24.8 days; `Forbidden` when the role lacks a privilege or row-level security hides rows
    /// from it.
    pub async fn open(
        driver: Arc<dyn Driver>,
        runtime: Arc<dyn Runtime>,
        options: &ConnectOptions,
    ) -> Result<Queue, Error> {
        Queue::open_with(driver, runtime, Arc::new(SystemRandomness), options).await
    }

    /// Does what [`Queue::open`] does, with the caller's source of randomness. For simulations.
    ///
    /// # Errors
    ///
    /// As [`Queue::open`].
    pub async fn open_with(
        driver: Arc<dyn Driver>,
        runtime: Arc<dyn Runtime>,
        randomness: Arc<dyn Randomness>,
        options: &ConnectOptions,
    ) -> Result<Queue, Error> {
        options.check()?;
        let link = Arc::new(Link::new(driver, runtime, randomness, options)?);
        let workers = Arc::new(LocalWorkers::default());
        let producer = ProducerHandle::spawn(&link, &workers);
        let worker_name = format!("{}@{}", std::process::id(), host_name());
        let listening = Arc::new(Listening::default());
        let inner = Inner {
            link,
            producer,
            workers,
            listening,
            closed: AtomicBool::new(false),
            worker_name,
            fetching: OnceLock::new(),
        };
        let queue = Queue { inner: Arc::new(inner) };
        if options.check_schema {
            queue.check_schema(options.migrate).await?;
            if options.pooler {
                queue.advance_positions().await;
            }
        }
        Ok(queue)
    }

    /// Checks that the tables exist, at a version this program can use, and migrates them if `migrate` is set.
    pub(crate) async fn check_schema(&self, migrate: bool) -> Result<(), Error> {
        let schema = self.inner.link.catalog.schema();
        let relations = self.run(Relations).await?;
        if let Some(message) = hidden_rows(&relations, schema) {
            return Err(Error::new(ErrorKind::Forbidden, message));
        }
        if let Some(message) = foreign_encoding(&relations) {
            return Err(Error::invalid(message));
        }
        match self.schema_version().await? {
            SCHEMA_VERSION => Ok(()),
            found if found > SCHEMA_VERSION => Err(newer_schema(schema.as_str(), found)),
            _ if migrate => self.migrate().await,
            0 => {
                let others: Vec<_> = other_schemas(&relations).iter().map(|name| format!("{name:?}")).collect();
                let hint = match others.is_empty() {
                    true => String::new(),
                    false => format!(", but there are tables of pm in schema {}: use that one", others.join(" and ")),
                };
                Err(Error::unmigrated(format!("the database has no schema {:?} of pm{hint}", schema.as_str())))
            }
            found => Err(Error::unmigrated(format!(
                "schema {:?} is at version {found}, this program needs {SCHEMA_VERSION}",
                schema.as_str()
            ))),
        }
    }

    /// Advances the sequence of positions when it is behind the positions that jobs already have. That happens after a
    /// failover to a logical replica, and would put new jobs ahead of older ones.
    ///
    /// For drivers over connections that they do not open themselves; other drivers send
    /// [`opening_script`](crate::opening_script), which does the same. One attempt; does nothing when the sequence is
    /// not behind.
    pub async fn advance_positions(&self) {
        let script = advance_positions_script(self.inner.link.catalog.schema());
        let driver = self.inner.link.driver.clone();
        // After a failure, `doctor` reports the sequence.
        drop(self.spawned(async move { Ok(driver.run_script(&script).await?) }).await);
    }

    /// Migrates the schema to the version this program works with, creating it if it does not exist.
    ///
    /// Runs in one transaction and waits at most 10 s for a lock. Several processes may call it at the same time.
    ///
    /// # Errors
    ///
    /// `Schema` when the schema is newer than this program or was made by another development version of it;
    /// `Forbidden` when the role may not create tables, or may not create the schema if it does not exist.
    pub async fn migrate(&self) -> Result<(), Error> {
        self.check_open()?;
        let found = self.schema_version().await?;
        let schema = self.inner.link.catalog.schema().clone();
        if found > SCHEMA_VERSION {
            return Err(newer_schema(schema.as_str(), found));
        }
        if found == SCHEMA_VERSION {
            return Ok(());
        }
        let driver = self.inner.link.driver.clone();
        self.spawned(async move {
            driver.run_script(&migration_script(&schema)).await.map_err(|failure| match failure.sqlstate() {
                Some(OTHER_TEXT_SQLSTATE) => other_text(schema.as_str()).with_source(failure),
                _ => failure.into(),
            })
        })
        .await
    }

    /// Returns the version of the schema, or 0 if it does not exist.
    ///
    /// # Errors
    ///
    /// `Schema` when the schema was made by another development version of pm; `Unavailable` when the database cannot
    /// be reached.
    pub async fn schema_version(&self) -> Result<u32, Error> {
        match self.run(SchemaVersion).await {
            Ok(SchemaFound { version, is_same_text }) if is_same_text || version > SCHEMA_VERSION => Ok(version),
            Ok(_) => Err(other_text(self.inner.link.catalog.schema().as_str())),
            Err(error) if error.kind() == ErrorKind::Schema => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Enqueues a job and returns its id, or the id of the existing job that holds the same key.
    ///
    /// When it returns `Ok`, the job is committed. Concurrent calls share a statement; a single call is sent at once.
    /// If the connection is lost, the job is sent again with the same id for up to 30 s, so it is never enqueued
    /// twice. If the job was certainly not enqueued, because no server can be reached or another transaction has
    /// locked the queue's row or the key, it is retried for 5 s; other enqueues do not wait for it. Dropping the
    /// future after its first poll does not cancel the enqueue.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`; `Payload` when the payload cannot be encoded; `Invalid` for a payload over 1 GB, or a text
    /// that is too long or contains NUL; `KeyConflict` when the key is reserved and the options say
    /// [`OnConflict::Refuse`]; `Unavailable`; `Database`, also when a lock was not granted in time. After an error the
    /// job is not enqueued, unless [`Error::is_outcome_unknown`] returns true.
    pub async fn enqueue<T: Serialize>(&self, queue: &str, payload: T, options: EnqueueOptions) -> Result<Uuid, Error> {
        self.enqueue_with_outcome(queue, payload, options).await.map(|enqueued| enqueued.id())
    }

    /// Does what [`Queue::enqueue`] does, and returns whether the job is new or which job holds its key.
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue`].
    pub async fn enqueue_with_outcome<T: Serialize>(
        &self,
        queue: &str,
        payload: T,
        options: EnqueueOptions,
    ) -> Result<Enqueued, Error> {
        let refuses = options.on_conflict == OnConflict::Refuse;
        let job = self.encoded_job(&QueueName::new(queue)?, &payload, options)?;
        drop(payload);
        let enqueueing = self.inner.producer.enqueue(job, false, self.inner.link.now())?;
        enqueue_outcome(enqueueing.await?, refuses)
    }

    /// Enqueues many jobs, up to 1,000 in one statement, and returns their outcomes in the order given.
    ///
    /// Each statement is atomic, the whole call is not: after an error, the jobs before the failing one are enqueued,
    /// and some after it may be. About 4,000 jobs are encoded ahead of the statements that carry them. The jobs become
    /// ready in the order given, except one whose key another transaction has locked: it is enqueued when that
    /// transaction ends.
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue`], for the first job that fails.
    pub async fn enqueue_many<T: Serialize, I>(&self, queue: &str, jobs: I) -> Result<Vec<Enqueued>, Error>
    where
        I: IntoIterator<Item = (T, EnqueueOptions)>,
        I::IntoIter: Send,
    {
        let queue = QueueName::new(queue)?;
        let mut in_flight: VecDeque<(Enqueueing, bool)> = VecDeque::new();
        let mut enqueued = Vec::new();
        let mut jobs = jobs.into_iter();
        let mut has_keys = false;
        loop {
            while in_flight.len() < ENCODED_AHEAD
                && let Some((payload, options)) = jobs.next()
            {
                let refuses = options.on_conflict == OnConflict::Refuse;
                let job = self.encoded_job(&queue, &payload, options)?;
                drop(payload);
                if !has_keys && job.options.key.is_some() {
                    // From here on all jobs are sent with the keyed ones. To keep the order, wait for those before.
                    has_keys = true;
                    for (enqueueing, refuses) in std::mem::take(&mut in_flight) {
                        enqueued.push(enqueue_outcome(enqueueing.await?, refuses)?);
                    }
                }
                let enqueueing = self.inner.producer.enqueue(job, has_keys, self.inner.link.now())?;
                in_flight.push_back((enqueueing, refuses));
            }
            let Some((enqueueing, refuses)) = in_flight.pop_front() else { return Ok(enqueued) };
            enqueued.push(enqueue_outcome(enqueueing.await?, refuses)?);
        }
    }

    /// Returns a new job with its payload encoded.
    pub(crate) fn encoded_job<T: Serialize>(
        &self,
        queue: &QueueName,
        payload: &T,
        options: EnqueueOptions,
    ) -> Result<NewJob, Error> {
        self.check_open()?;
        let RawPayload { codec, bytes } = crate::codec::encode(options.codec, payload)?;
        self.new_job(queue.clone(), bytes, options.codec(codec))
    }

    /// Returns a new job with a fresh id.
    pub(crate) fn new_job(&self, queue: QueueName, payload: Bytes, options: EnqueueOptions) -> Result<NewJob, Error> {
        let link = &self.inner.link;
        let random = [link.randomness.next_u64().to_ne_bytes(), link.randomness.next_u64().to_ne_bytes()].concat();
        let random = random.first_chunk().expect("two u64 are 16 bytes");
        let job = NewJob { id: job_id(link.runtime.unix_ms(), *random), queue, payload, options };
        job.check()?;
        Ok(job)
    }

    /// Returns a stream of the jobs of one or more queues, with the default [`StreamOptions`].
    ///
    /// It starts claiming when first polled. See [`JobStream`] for how it behaves.
    pub fn try_stream_jobs<T: DeserializeOwned + 'static>(&self, queues: impl QueueNames) -> JobStream<T> {
        self.try_stream_jobs_with(queues, StreamOptions::default())
    }

    /// Returns a stream of the jobs of one or more queues, configured by `options`.
    ///
    /// An error in the arguments, a bad name for example, is the stream's only item.
    pub fn try_stream_jobs_with<T: DeserializeOwned + 'static>(
        &self,
        queues: impl QueueNames,
        options: StreamOptions,
    ) -> JobStream<T> {
        match self.start_worker(queues.into_names(), options) {
            Ok(worker) => JobStream::running(worker, self.inner.link.clone(), self.inner.workers.clone()),
            Err(error) => JobStream::refused(error),
        }
    }

    fn start_worker(&self, queues: Vec<String>, options: StreamOptions) -> Result<Arc<Worker>, Error> {
        self.check_open()?;
        let mut names = queues.iter().map(|name| QueueName::new(name)).collect::<Result<Vec<_>, _>>()?;
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Err(Error::invalid("a stream needs the name of at least one queue"));
        }
        Ok(self.spawn_worker(names, options))
    }

    /// Returns the worker for jobs fetched by id, which the first call starts.
    pub(crate) fn fetching_worker(&self) -> Result<Arc<Worker>, Error> {
        self.check_open()?;
        let start = || self.spawn_worker(Vec::new(), StreamOptions::default().listen(false));
        Ok(self.inner.fetching.get_or_init(start).clone())
    }

    fn spawn_worker(&self, names: Vec<QueueName>, options: StreamOptions) -> Arc<Worker> {
        let link = &self.inner.link;
        let idle_poll = options.listen.then_some(options.idle_poll);
        let channel = Notification::channel(link.catalog.schema());
        let options = options.into_core(names, &self.inner.worker_name, channel, link.statement_timeout);
        let worker = Shared::new(machine::Worker::new(options, link.now()), WorkerWaiters::new(idle_poll));
        self.inner.workers.add(&worker);
        if self.inner.closed.load(Ordering::Acquire) {
            // The queue was closed after the caller's check, perhaps before this worker was in the list.
            self.inner.workers.close(link.now());
        }
        Task::spawn(&worker, link);
        if idle_poll.is_some() {
            Listening::ensure_started(&self.inner.listening, link, &self.inner.workers);
        }
        worker
    }

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
    pub(crate) async fn run<O>(&self, operation: O) -> Result<O::Output, Error>
    where
        O: Operation<Output: Send + 'static> + Send + Sync + 'static,
    {
        self.check_open()?;
        let link = self.inner.link.clone();
        self.spawned(async move { link.run(operation).await }).await
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

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.inner.link
    }

    pub(crate) fn worker_name(&self) -> String {
        self.inner.worker_name.clone()
    }

    pub(crate) async fn sleep(&self, duration: std::time::Duration) {
        self.inner.link.runtime.sleep(duration).await;
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

/// Turns an existing job into an error, for an enqueue that refuses a reserved key.
fn enqueue_outcome(enqueued: Enqueued, refuses: bool) -> Result<Enqueued, Error> {
    match enqueued {
        Enqueued::Existing(..) if refuses => Err(key_conflict(enqueued)),
        enqueued => Ok(enqueued),
    }
}

fn newer_schema(schema: &str, found: u32) -> Error {
    let message = format!(
        "schema {schema:?} is at version {found}, newer than the {SCHEMA_VERSION} of this program: upgrade the program"
    );
    Error::new(ErrorKind::Schema, message)
}

fn other_text(schema: &str) -> Error {
    Error::unmigrated(format!(
        "schema {schema:?} was made by another development version of pm, and there is no migration from it: rename it \
         (alter schema \"{schema}\" rename to \"{schema} old\") or drop it, and migrate again"
    ))
}

fn host_name() -> String {
    let name = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}
