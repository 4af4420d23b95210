//! The handle on the database through which everything goes.

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

/// How many jobs of one `enqueue_many` are written ahead of the statements that carry them.
const WRITTEN_AHEAD: usize = 4_000;

/// A handle on the queues of one database.
///
/// It is cheap to clone; all clones share connections, and their enqueues share statements. When the last clone is
/// dropped, jobs on their way in are still sent, and streams and acks go on.
#[derive(Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

/// How things stand between a handle and the database.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// How many statements in a row found no database, or how many claims in a row were refused, if that is more;
    /// zero when all is well.
    pub failures: u32,
    /// What the last such failure said, however long ago.
    pub last_failure: Option<String>,
    /// Whether notifications of other processes are heard.
    pub listening: bool,
}

struct Inner {
    link: Arc<Link>,
    producer: ProducerHandle,
    workers: Arc<LocalWorkers>,
    listening: Arc<Listening>,
    closed: AtomicBool,
    worker_name: String,
    /// Looks after jobs that were fetched by their ids.
    fetching: OnceLock<Arc<Worker>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(worker) = self.fetching.get() {
            worker.tell(|state| state.machine.shut_down(self.link.now()));
        }
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("schema", self.inner.link.catalog.schema()).finish_non_exhaustive()
    }
}

impl Queue {
    /// Returns a handle over a driver and a runtime, for drivers; programs call their driver's `connect`.
    ///
    /// Unless told not to, it looks at the schema's version, and migrates an empty or older schema.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the database cannot be reached; `Schema` when the schema is newer than this program, or is
    /// missing or older and must not be migrated; `Invalid` for a schema name that cannot be one, or a timeout that is not
    /// between 1 ms and 24.8 days.
    pub async fn open(
        driver: Arc<dyn Driver>,
        runtime: Arc<dyn Runtime>,
        options: &ConnectOptions,
    ) -> Result<Queue, Error> {
        Queue::open_with(driver, runtime, Arc::new(SystemRandomness), options).await
    }

    /// Does what [`Queue::open`] does, with randomness of the caller's: for simulations.
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

    /// Looks whether the tables are there and can be worked with as they are.
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
                let elsewhere = match others.is_empty() {
                    true => String::new(),
                    false => format!(", but there are tables of pm in schema {}: name it,", others.join(" and ")),
                };
                let elsewhere = elsewhere.trim_end_matches(',');
                let message = format!(
                    "the database has no schema {schema:?} of pm{elsewhere}; run: pm db migrate",
                    schema = schema.as_str()
                );
                Err(Error::new(ErrorKind::Schema, message))
            }
            found => {
                let message = format!(
                    "schema {:?} is at version {found}, this program needs {SCHEMA_VERSION}; run: pm db migrate",
                    schema.as_str()
                );
                Err(Error::new(ErrorKind::Schema, message))
            }
        }
    }

    /// Advances the sequence of positions when it is behind those that jobs have, as after a failover by logical
    /// replication, so that new jobs are not put before older ones.
    ///
    /// For drivers over connections that they do not open: others do so with
    /// [`opening_script`](crate::opening_script). It is tried once, and does nothing when nothing is behind.
    pub async fn advance_positions(&self) {
        let script = advance_positions_script(self.inner.link.catalog.schema());
        let driver = self.inner.link.driver.clone();
        // Should it fail, doctor finds the sequence.
        drop(self.spawned(async move { Ok(driver.run_script(&script).await?) }).await);
    }

    /// Brings the schema to the version this program works with; creates it when it is missing.
    ///
    /// Any number of processes may do so at once. It is one transaction and waits at most 10 s for a lock.
    ///
    /// # Errors
    ///
    /// `Schema` when the schema is newer than this program, or made by another development version of it; `Database`
    /// when the role may not create tables, or the schema when it is missing.
    pub async fn migrate(&self) -> Result<(), Error> {
        self.open_or_closed()?;
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

    /// Returns the version of the schema, 0 when there is none.
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

    /// Puts a job on a queue and returns the id of the job that now stands for this work.
    ///
    /// When it returns `Ok`, the job is durable. Calls made at the same time share a statement by themselves; a lone
    /// one leaves at once. When the connection is lost it is sent again, with the same id, for up to 30 s: the job goes in
    /// once. When it surely has not run it is tried for 5 s: no server can be reached, or another transaction has locked
    /// the queue's row or the key, which holds up no other enqueue. Dropping the future after it was polled does not
    /// take the job back.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`; `Payload` when the payload cannot be written; `Invalid` for a payload over 1 GB, or a text
    /// that is too long or holds NUL; `KeyConflict` when the key is held and the options say to refuse; `Unavailable`;
    /// `Database`, also when a lock was not to be had. The job is not in, unless [`Error::is_outcome_unknown`].
    pub async fn enqueue<T: Serialize>(&self, queue: &str, payload: T, options: EnqueueOptions) -> Result<Uuid, Error> {
        self.enqueue_with_outcome(queue, payload, options).await.map(|enqueued| enqueued.id())
    }

    /// Does what [`Queue::enqueue`] does, and tells whether the job is new or which one holds its key.
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
        let job = self.written_job(&QueueName::new(queue)?, &payload, options)?;
        drop(payload);
        let enqueueing = self.inner.producer.enqueue(job, false, self.inner.link.now())?;
        told(enqueueing.await?, refuses)
    }

    /// Puts many jobs on a queue, up to 1,000 in one statement, and returns what became of each, in order.
    ///
    /// Each statement is atomic, the whole is not: after an error, jobs before the failing one are in, and some after
    /// it may be. About 4,000 jobs are written ahead of the statements that carry them. They become ready in their
    /// order, but for one whose key another transaction has locked: it comes when that ends.
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
        let mut under_way: VecDeque<(Enqueueing, bool)> = VecDeque::new();
        let mut enqueued = Vec::new();
        let mut jobs = jobs.into_iter();
        let mut has_keys = false;
        loop {
            while under_way.len() < WRITTEN_AHEAD
                && let Some((payload, options)) = jobs.next()
            {
                let refuses = options.on_conflict == OnConflict::Refuse;
                let job = self.written_job(&queue, &payload, options)?;
                drop(payload);
                if !has_keys && job.options.key.is_some() {
                    // From here on all travel with those that have keys; to keep the order, those before go in first.
                    has_keys = true;
                    for (enqueueing, refuses) in std::mem::take(&mut under_way) {
                        enqueued.push(told(enqueueing.await?, refuses)?);
                    }
                }
                let enqueueing = self.inner.producer.enqueue(job, has_keys, self.inner.link.now())?;
                under_way.push_back((enqueueing, refuses));
            }
            let Some((enqueueing, refuses)) = under_way.pop_front() else { return Ok(enqueued) };
            enqueued.push(told(enqueueing.await?, refuses)?);
        }
    }

    /// Returns a job with its payload written.
    pub(crate) fn written_job<T: Serialize>(
        &self,
        queue: &QueueName,
        payload: &T,
        options: EnqueueOptions,
    ) -> Result<NewJob, Error> {
        self.open_or_closed()?;
        let RawPayload { codec, bytes } = crate::codec::encode(options.codec, payload)?;
        self.new_job(queue.clone(), bytes, options.into_core(codec))
    }

    /// Returns a job with an id of its own.
    pub(crate) fn new_job(
        &self,
        queue: QueueName,
        payload: Bytes,
        options: pm_core::JobOptions,
    ) -> Result<NewJob, Error> {
        let link = &self.inner.link;
        let random = [link.randomness.next_u64().to_ne_bytes(), link.randomness.next_u64().to_ne_bytes()].concat();
        let random = random.first_chunk().expect("two u64 are 16 bytes");
        let job = NewJob { id: job_id(link.runtime.unix_ms(), *random), queue, payload, options };
        job.check()?;
        Ok(job)
    }

    /// Returns a stream of the jobs of one queue, or several.
    ///
    /// It starts claiming when first polled, and works with the default [`StreamOptions`].
    pub fn try_stream_jobs<T: DeserializeOwned + 'static>(&self, queues: impl QueueNames) -> JobStream<T> {
        self.try_stream_jobs_with(queues, StreamOptions::default())
    }

    /// Returns a stream of the jobs of one queue, or several, that works as `options` say.
    ///
    /// Trouble, a bad name for example, is the stream's first item.
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
        self.open_or_closed()?;
        let mut names = queues.iter().map(|name| QueueName::new(name)).collect::<Result<Vec<_>, _>>()?;
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Err(Error::invalid("a stream needs the name of at least one queue"));
        }
        Ok(self.spawn_worker(names, options))
    }

    /// Returns the worker for jobs fetched by their ids, started when first needed.
    pub(crate) fn fetching_worker(&self) -> Result<Arc<Worker>, Error> {
        self.open_or_closed()?;
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
            // Closed since that was looked at, perhaps before this worker could be told.
            self.inner.workers.close(link.now());
        }
        Task::spawn(&worker, link);
        if idle_poll.is_some() {
            Listening::want(&self.inner.listening, link, &self.inner.workers);
        }
        worker
    }

    /// Stops this queue and its clones; returns when nothing is left to settle.
    ///
    /// Streams end, jobs not started are given back, jobs on their way in are sent, and every ack handed out is waited
    /// for: until it is used or dropped, or its lease ends. A claim whose reply was lost is given
    /// back, again and again until the server has surely stopped working on it: for the statement timeout after the reply
    /// was lost. While the database is away that is tried for 30 s more; jobs that such a claim took come back when their
    /// leases end. Later calls get an error of kind `Closed`.
    pub async fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        self.inner.workers.close(self.inner.link.now());
        poll_fn(|cx| self.inner.workers.poll_closed(cx)).await;
        self.inner.producer.close();
        poll_fn(|cx| self.inner.producer.poll_closed(cx)).await;
        self.inner.link.driver.close().await;
    }

    /// Stops this queue and its clones as [`Queue::close`] does, but waits no longer than `time`; returns whether nothing
    /// was left to settle.
    ///
    /// What was left goes on for as long as this process does. Jobs whose acks are still out come back when their leases
    /// end, if nothing settles them before.
    pub async fn close_within(&self, time: Duration) -> bool {
        let (close, deadline) = (pin!(self.close()), self.inner.link.runtime.sleep(time));
        matches!(select(close, deadline).await, Either::Left(_))
    }

    /// Does one operation in a task of its own, so that dropping the future never leaves a connection in doubt.
    pub(crate) async fn run<O>(&self, operation: O) -> Result<O::Output, Error>
    where
        O: Operation<Output: Send + 'static> + Clone + Send + Sync + 'static,
    {
        self.open_or_closed()?;
        let link = self.inner.link.clone();
        self.spawned(async move { link.run(operation).await }).await
    }

    /// Does `work` in a task of its own. What comes of it is dropped when nobody waits for it any longer.
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

    /// Tells the workers of other processes that something about a queue changed.
    pub(crate) fn notify_change(&self, queue_id: i32) {
        self.inner.producer.notify(Notification { queue_id, priority: None });
    }

    /// Returns how things stand between this handle and the database. Costs nothing.
    ///
    /// Streams do not show trouble with the connection, because it heals by itself: this does.
    pub fn health(&self) -> Health {
        let (failures, last_failure) = self.inner.link.trouble();
        Health { failures, last_failure, listening: self.is_listening() }
    }

    /// Returns whether notifications of other processes are heard; without, streams poll more often.
    pub fn is_listening(&self) -> bool {
        self.inner.listening.is_hearing()
    }

    /// Tells the workers of this process that something about the queues changed.
    pub(crate) fn notice_change(&self) {
        self.inner.workers.change(self.inner.link.now());
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

    fn open_or_closed(&self) -> Result<(), Error> {
        match self.inner.closed.load(Ordering::Acquire) {
            true => Err(Error::closed()),
            false => Ok(()),
        }
    }
}

fn told(enqueued: Enqueued, refuses: bool) -> Result<Enqueued, Error> {
    match enqueued {
        Enqueued::Existing(..) if refuses => Err(key_conflict(enqueued)),
        enqueued => Ok(enqueued),
    }
}

fn newer_schema(schema: &str, found: u32) -> Error {
    let message = format!(
        "schema {schema:?} is at version {found}, newer than the {SCHEMA_VERSION} this program knows: upgrade the program"
    );
    Error::new(ErrorKind::Schema, message)
}

fn other_text(schema: &str) -> Error {
    let message = format!(
        "schema {schema:?} was made by another development version of pm, and there is no migration from it: rename it \
         (alter schema \"{schema}\" rename to \"{schema} old\") or drop it, and run: pm db migrate"
    );
    Error::new(ErrorKind::Schema, message)
}

fn host_name() -> String {
    let name = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}
