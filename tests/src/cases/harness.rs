//! The environment of a case.

use super::{Stack, Transaction};
use crate::TIMEOUT;
use futures_util::future::{Either, select};
use futures_util::{Stream, StreamExt};
use pm_queue::{ConnectOptions, EnqueueOptions, Error, JobAck, JobFilter, JobMetadata, PendingJob, Queue, State, Uuid};
use pm_sandbox::{Pooler, TestDatabase};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A database private to one case, a handle on it, and the timers of the stack's runtime.
#[derive(Debug)]
pub struct Harness {
    /// The handle under test.
    pub queue: Queue,
    stack: Stack,
    url: String,
    pooler: Option<Pooler>,
    /// Dropped last: this drops the database. None without a server.
    database: Option<TestDatabase>,
}

/// Numbers the databases of stacks without a server.
static HARNESSES: AtomicU64 = AtomicU64::new(0);

impl Harness {
    pub(super) async fn new(stack: Stack) -> Harness {
        let create = || TestDatabase::create().expect("a private Postgres starts");
        let database = stack.has_server().then(create);
        let before = |database: &TestDatabase| Pooler::before(&database.url()).expect("a private PgBouncer starts");
        let pooler = database.as_ref().filter(|_| stack.is_pooled()).map(before);
        let number = || HARNESSES.fetch_add(1, Ordering::Relaxed).to_string();
        let url = match (&database, &pooler) {
            (Some(database), Some(pooler)) => pooler.url_of(database.name()),
            (Some(database), None) => database.url(),
            (None, _) => number(),
        };
        let options = fitting(ConnectOptions::default(), database.as_ref(), pooler.as_ref());
        let queue = stack.connect(url.clone(), options).await.expect("connecting succeeds");
        assert!(queue.create_queue("tasks", false).await.expect("a queue can be created"));
        Harness { queue, stack, url, pooler, database }
    }

    /// Returns another handle on the same database, as another process would have it.
    pub(super) async fn another(&self, options: ConnectOptions) -> Queue {
        let options = fitting(options, self.database.as_ref(), self.pooler.as_ref());
        self.stack.connect(self.url.clone(), options).await.expect("connecting succeeds")
    }

    /// Returns whether the tasks of the runtime run on several threads.
    pub(super) fn has_threads(&self) -> bool {
        self.stack.has_threads()
    }

    /// Returns whether the connections go through a pooler.
    pub(super) fn is_pooled(&self) -> bool {
        self.pooler.is_some()
    }

    /// Opens a handle on the database at `url`.
    pub(super) async fn connect(&self, url: &str, options: ConnectOptions) -> Result<Queue, Error> {
        let options = fitting(options, self.database.as_ref(), self.pooler.as_ref());
        self.stack.connect(url.to_owned(), options).await
    }

    /// Begins a transaction on the caller's own connection.
    pub(super) async fn begin(&self) -> Box<dyn Transaction> {
        self.stack.begin(self.url.clone()).await
    }

    pub(super) async fn sleep(&self, duration: Duration) {
        self.stack.runtime().sleep(duration).await;
    }

    /// Returns the output of a future, or `None` if it does not complete within `timeout`.
    pub(super) async fn before<T>(&self, timeout: Duration, future: impl Future<Output = T>) -> Option<T> {
        match select(pin!(future), self.stack.runtime().sleep(timeout)).await {
            Either::Left((answer, _)) => Some(answer),
            Either::Right(_) => None,
        }
    }

    /// Returns the output of a future that completes within [`TIMEOUT`].
    pub(super) async fn within<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        let answer = self.before(TIMEOUT, future).await;
        answer.unwrap_or_else(|| panic!("not within {TIMEOUT:?}: {what}"))
    }

    /// Waits until `is_so` returns true, at most for [`TIMEOUT`].
    pub(super) async fn eventually(&self, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        let start = Instant::now();
        while !is_so().await {
            assert!(start.elapsed() < TIMEOUT, "not within {TIMEOUT:?}: {what}");
            self.sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns the next job of a stream.
    pub(super) async fn next<T>(
        &self,
        jobs: &mut (impl Stream<Item = Result<PendingJob<T>, Error>> + Unpin),
    ) -> PendingJob<T> {
        let job = self.within("the next job", jobs.next()).await;
        job.expect("the stream goes on").expect("the job is readable")
    }

    /// Returns the payload and the ack of the next job of a stream.
    pub(super) async fn take<T>(
        &self,
        jobs: &mut (impl Stream<Item = Result<PendingJob<T>, Error>> + Unpin),
    ) -> (T, JobAck) {
        self.next(jobs).await.into_parts()
    }

    /// Enqueues a number on `tasks`.
    pub(super) async fn put(&self, payload: u64) -> Uuid {
        self.put_with(payload, EnqueueOptions::default()).await
    }

    /// Enqueues a number on `tasks`, with options.
    pub(super) async fn put_with(&self, payload: u64, options: EnqueueOptions) -> Uuid {
        self.queue.enqueue("tasks", payload, options).await.expect("the job is enqueued")
    }

    /// Enqueues the numbers from zero up on `tasks`.
    pub(super) async fn put_many(&self, count: u64) -> Vec<Uuid> {
        let jobs = (0..count).map(|n| (n, EnqueueOptions::default()));
        let enqueued = self.queue.enqueue_many("tasks", jobs).await.expect("the jobs are enqueued");
        enqueued.into_iter().map(|job| job.id()).collect()
    }

    /// Returns a job as the queue shows it.
    pub(super) async fn job(&self, id: Uuid) -> JobMetadata {
        self.queue.job(id).await.expect("the job exists")
    }

    /// Returns the state of a job.
    pub(super) async fn state(&self, id: Uuid) -> State {
        self.job(id).await.state
    }

    /// Returns the URL of the database, or of its pooler if there is one.
    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    /// Returns all jobs as the queue shows them, at most 10,000. Works after the handle under test is closed.
    pub(super) async fn jobs(&self) -> Vec<JobMetadata> {
        let queue = self.another(ConnectOptions::default()).await;
        queue.list_jobs(JobFilter::default().limit(10_000)).await.expect("listing succeeds")
    }

    /// Returns how many jobs finished at the first attempt.
    pub(super) async fn finished_at_once(&self) -> u64 {
        let jobs = self.jobs().await;
        jobs.iter().filter(|job| job.state == State::Finished && job.attempt == 1).count() as u64
    }

    /// Returns the one number that a query returns. Only for cases that need a server.
    pub(super) fn number(&self, sql: &str) -> i64 {
        let database = self.database.as_ref().expect("the case needs a server");
        let rows = database.execute(sql).expect("the statement is valid");
        let cell = rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten();
        cell.and_then(|cell| cell.parse().ok()).unwrap_or_else(|| panic!("no number: {sql}"))
    }
}

/// Returns options for the pooler, if there is one: the listener bypasses it.
fn fitting(options: ConnectOptions, database: Option<&TestDatabase>, pooler: Option<&Pooler>) -> ConnectOptions {
    match (database, pooler) {
        (Some(database), Some(_)) => options.pooler(true).listener_url(database.url()),
        _ => options,
    }
}
