//! The in-memory database, and the driver that runs statements on it.

use crate::engine::{self, tables::Tables};
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::StreamExt;
use pm_queue::Timestamp;
use pm_queue::driver::{BoxFuture, Driver, Executor, Failure, Listener, Rows, Statement, Value};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The clock of a database.
pub trait Clock: Send + Sync + 'static {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
}

/// A database in memory. Clones share their data, as several processes share a database.
///
/// Statements run one at a time, and each scans all jobs: it is made for thousands of jobs, not for millions.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    clock: Box<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tables: Tables,
    listeners: Vec<(String, UnboundedSender<String>)>,
}

impl State {
    fn notify_listeners(&mut self, notifications: BTreeSet<(String, String)>) {
        self.listeners.retain(|(_, listener)| !listener.is_closed());
        for (channel, payload) in notifications {
            for (_, listener) in self.listeners.iter().filter(|(other, _)| *other == channel) {
                // A listener that was dropped in the meantime needs no notification.
                drop(listener.unbounded_send(payload.clone()));
            }
        }
    }
}

/// The system's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        Timestamp::from_unix_us(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
    }
}

impl Default for Database {
    fn default() -> Self {
        Database::new()
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("jobs", &self.lock().tables.job.len()).finish_non_exhaustive()
    }
}

impl Database {
    /// Returns an empty database with the system's clock.
    pub fn new() -> Self {
        Database::with_clock(SystemClock)
    }

    /// Returns an empty database with this clock.
    pub fn with_clock(clock: impl Clock) -> Self {
        Database(Arc::new(Inner { clock: Box::new(clock), state: Mutex::default() }))
    }

    /// Returns a copy of the tables, for tests that need more than the API shows. The cost is linear in their size.
    pub fn tables(&self) -> Tables {
        self.lock().tables.clone()
    }

    /// Calls `look` with the tables. Statements wait until it returns.
    pub fn look<T>(&self, look: impl FnOnce(&Tables) -> T) -> T {
        look(&self.lock().tables)
    }

    /// Calls `change` with the tables, for tests that need states the API cannot create. Statements wait until it
    /// returns.
    pub fn change<T>(&self, change: impl FnOnce(&mut Tables) -> T) -> T {
        change(&mut self.lock().tables)
    }

    /// Runs one statement and returns its reply.
    ///
    /// # Errors
    ///
    /// The failures that Postgres would report, such as a name or a key that is taken.
    pub fn answer(&self, statement: &Statement, params: &[Value<'_>]) -> Result<Rows, Failure> {
        let now = self.0.clock.now();
        let mut state = self.lock();
        // A set: Postgres sends equal notifications of one statement only once.
        let mut notifications = BTreeSet::new();
        let rows = engine::run(&mut state.tables, statement, params, now, &mut notifications)?;
        state.notify_listeners(notifications);
        Ok(rows)
    }

    /// Calls `work` with the tables and the time. Statements wait until it returns.
    pub(crate) fn with_tables<T>(&self, work: impl FnOnce(&mut Tables, Timestamp) -> T) -> T {
        let now = self.0.clock.now();
        work(&mut self.lock().tables, now)
    }

    /// Changes the tables and then sends the notifications (channel and payload), unless the change fails.
    pub(crate) fn commit(
        &self,
        change: impl FnOnce(&mut Tables) -> Result<(), Failure>,
        notifications: BTreeSet<(String, String)>,
    ) -> Result<(), Failure> {
        let mut state = self.lock();
        change(&mut state.tables)?;
        state.notify_listeners(notifications);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Executor for Database {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        Box::pin(async move { self.answer(statement, params) })
    }
}

impl Driver for Database {
    /// Does nothing, as there is no schema to migrate.
    fn run_script<'a>(&'a self, _script: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn listen<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Option<Box<dyn Listener>>, Failure>> {
        let (sender, receiver) = unbounded();
        self.lock().listeners.push((channel.to_owned(), sender));
        Box::pin(async move { Ok(Some(Box::new(Channel(receiver)) as Box<dyn Listener>)) })
    }
}

/// A listener on one channel.
struct Channel(UnboundedReceiver<String>);

impl Listener for Channel {
    fn next(&mut self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(async { self.0.next().await.ok_or_else(|| Failure::no_reply("the database is gone")) })
    }
}
