//! What the tests share: a private database with a queue on it, and helpers.

pub mod cases;
mod direct;
mod literal;
mod proxy;
pub mod sim;
mod skewed_runtime;

pub use direct::{Direct, catalog, run_in};
pub use literal::{literal, type_name};
pub use proxy::{Loss, Proxy};
pub use skewed_runtime::SkewedRuntime;

use futures_util::{Stream, StreamExt};
use pm_driver_tokio_postgres::{
    ConnectOptions, EnqueueOptions, Error, JobMetadata, PendingJob, Queue, SettingsChange, State, StreamOptions, Uuid,
};
use pm_sandbox::TestDatabase;
use std::time::Duration;

/// Counts the sessions of this database that wait for a lock. Other tests use other databases of the same server.
pub const LOCK_WAITS: &str =
    "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";

/// How long a test waits for what should happen at once.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// A database private to one test, with a queue on it.
#[derive(Debug)]
pub struct Fixture {
    /// The handle under test.
    pub queue: Queue,
    /// Dropped last: this drops the database.
    pub database: TestDatabase,
}

impl Fixture {
    /// Returns a fresh, migrated database with a queue named `tasks`.
    pub async fn new() -> Fixture {
        let fixture = Fixture::without_queue().await;
        assert!(fixture.queue.create_queue("tasks", false).await.expect("a queue can be created"));
        fixture
    }

    /// Returns a fresh, migrated database.
    pub async fn without_queue() -> Fixture {
        let database = TestDatabase::create().expect("a private Postgres starts");
        let queue = pm_driver_tokio_postgres::connect(&database.url()).await.expect("connecting succeeds");
        Fixture { queue, database }
    }

    /// Returns a fresh, migrated database with a queue named `tasks` that has these settings, and no jitter unless they
    /// set it, so that delays are exact.
    pub async fn with(settings: SettingsChange) -> Fixture {
        let fixture = Fixture::new().await;
        let exact = SettingsChange::new().jitter_percent(0);
        fixture.queue.set_queue_settings("tasks", exact).await.expect("the settings are valid");
        fixture.queue.set_queue_settings("tasks", settings).await.expect("the settings are valid");
        fixture
    }

    /// Returns another handle on the same database, as another process would have it.
    pub async fn another(&self, options: ConnectOptions) -> Queue {
        pm_driver_tokio_postgres::connect_with(&self.database.url(), options).await.expect("connecting succeeds")
    }

    /// Enqueues a number on `tasks`.
    pub async fn put(&self, payload: u64) -> Uuid {
        self.put_with(payload, EnqueueOptions::default()).await
    }

    /// Enqueues a number on `tasks`, with options.
    pub async fn put_with(&self, payload: u64, options: EnqueueOptions) -> Uuid {
        self.queue.enqueue("tasks", payload, options).await.expect("the job is enqueued")
    }

    /// Enqueues a number on `tasks`, with options; returns the outcome.
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue`].
    pub async fn put_with_outcome(&self, payload: u64, options: EnqueueOptions) -> Result<Uuid, Error> {
        self.queue.enqueue("tasks", payload, options).await
    }

    /// Enqueues the numbers from zero up on `tasks`.
    pub async fn put_many(&self, count: u64) -> Vec<Uuid> {
        let jobs = (0..count).map(|n| (n, EnqueueOptions::default()));
        let enqueued = self.queue.enqueue_many("tasks", jobs).await.expect("the jobs are enqueued");
        enqueued.into_iter().map(|job| job.id()).collect()
    }

    /// Returns a job as the queue shows it.
    pub async fn job(&self, id: Uuid) -> JobMetadata {
        self.queue.job(id).await.expect("the job exists")
    }

    /// Returns the state of a job.
    pub async fn state(&self, id: Uuid) -> State {
        self.job(id).await.state
    }

    /// Returns the reason of a job.
    pub async fn reason(&self, id: Uuid) -> String {
        self.job(id).await.reason.unwrap_or_default()
    }

    /// Returns the first column of a query's result, as text.
    pub fn column(&self, sql: &str) -> Vec<String> {
        let rows = self.database.execute(sql).expect("the statement is valid");
        rows.into_iter().map(|row| row.into_iter().next().flatten().unwrap_or_default()).collect()
    }

    /// Returns the one number that a query returns.
    pub fn number(&self, sql: &str) -> i64 {
        let column = self.column(sql);
        column.first().and_then(|cell| cell.parse().ok()).unwrap_or_else(|| panic!("no number: {column:?}"))
    }

    /// Returns how many jobs are in `state`, exactly.
    pub fn jobs_in(&self, state: State) -> i64 {
        let code = State::ALL.iter().position(|other| *other == state);
        let stored = ["0", "0", "1", "2", "3"][code.expect("ALL contains every state")];
        self.number(&format!("select count(*) from pm.job where state = {stored}"))
    }
}

/// Returns options of a stream without heartbeat and without reaper.
pub fn unattended() -> StreamOptions {
    StreamOptions::default().heartbeat(None).reaper(false)
}

/// Returns the next job of a stream.
///
/// # Panics
///
/// When no job comes within [`TIMEOUT`], or the stream ends or yields an error.
pub async fn next<T>(jobs: &mut (impl Stream<Item = Result<PendingJob<T>, Error>> + Unpin)) -> PendingJob<T> {
    within("the next job", jobs.next()).await.expect("the stream goes on").expect("the job is readable")
}

/// Returns the next `count` jobs of a stream, as [`next`] does.
pub async fn take<T>(
    jobs: &mut (impl Stream<Item = Result<PendingJob<T>, Error>> + Unpin),
    count: usize,
) -> Vec<PendingJob<T>> {
    let mut taken = Vec::with_capacity(count);
    for _ in 0..count {
        taken.push(next(jobs).await);
    }
    taken
}

/// Returns the output of a future that completes within [`TIMEOUT`].
///
/// # Panics
///
/// When it does not.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let answer = tokio::time::timeout(TIMEOUT, future).await;
    answer.unwrap_or_else(|_| panic!("not within {TIMEOUT:?}: {what}"))
}

/// Waits until `is_so` returns true, at most for `timeout`.
///
/// # Panics
///
/// When it is still false by then.
pub async fn eventually(what: &str, timeout: Duration, mut is_so: impl AsyncFnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < timeout, "not within {timeout:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A random number generator that prints its seed; `PM_SEED` sets the seed.
#[derive(Debug, Clone)]
pub struct Seed {
    state: u64,
    /// Draws chosen by the caller, a fuzzer; used up first.
    chosen: std::vec::IntoIter<u8>,
}

impl Seed {
    /// Returns the generator with this seed.
    pub fn new(seed: u64) -> Seed {
        Seed { state: seed, chosen: Vec::new().into_iter() }
    }

    /// Returns a generator whose seed is the first eight bytes (little-endian) and whose first draws are the bytes
    /// after them, as few as each draw needs.
    ///
    /// So the eight bytes of a seed draw what the seed does, and changing a later byte changes one draw.
    pub fn from_bytes(bytes: &[u8]) -> Seed {
        let (seed, chosen) = bytes.split_at(bytes.len().min(8));
        let seed = seed.iter().rev().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        Seed { state: seed, chosen: Vec::from(chosen).into_iter() }
    }

    /// Returns the generator with the seed `PM_SEED`, or one from the clock; prints the seed.
    ///
    /// # Panics
    ///
    /// When `PM_SEED` is not a number.
    pub fn from_environment() -> Seed {
        let clock = || std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64);
        let seed = std::env::var("PM_SEED").map_or_else(|_| clock(), |seed| seed.parse().expect("PM_SEED is a number"));
        println!("PM_SEED={seed}");
        Seed::new(seed)
    }

    /// Returns the next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.chosen(u64::MAX).unwrap_or_else(|| self.mixed())
    }

    /// Returns a number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.chosen(bound - 1).unwrap_or_else(|| self.mixed()) % bound
    }

    /// Returns one of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Returns an independent generator. Its seed is never taken from the chosen bytes, which could repeat.
    pub fn split(&mut self) -> Seed {
        Seed::new(self.mixed())
    }

    /// Returns a number from as many chosen bytes as numbers up to `most` need; `None` when no bytes are left.
    fn chosen(&mut self, most: u64) -> Option<u64> {
        let length = (u64::BITS - most.leading_zeros()).div_ceil(8) as usize;
        let chosen = self.chosen.by_ref().take(length);
        chosen.fold(None, |drawn, byte| Some(drawn.unwrap_or(0) << 8 | u64::from(byte)))
    }

    /// Returns the next 64 bits of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
    fn mixed(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
