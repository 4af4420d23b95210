//! A database in memory, and how statements reach it.

use crate::engine::{self, tables::Tables};
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::StreamExt;
use pm_queue::{BoxFuture, Driver, Executor, Failure, Listener, Rows, Statement, Timestamp, Value};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a database takes its time from.
pub trait Clock: Send + Sync + 'static {
    /// Returns the time.
    fn now(&self) -> Timestamp;
}

/// A database in memory; clones are the same database, as several processes see it.
///
/// Statements run one at a time, and each walks all jobs: it is made for thousands of jobs, not for millions.
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
    fn say(&mut self, said: BTreeSet<(String, String)>) {
        self.listeners.retain(|(_, listener)| !listener.is_closed());
        for (channel, payload) in said {
            for (_, listener) in self.listeners.iter().filter(|(other, _)| *other == channel) {
                // One that has gone since misses nothing.
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
    /// Returns an empty database on the system's clock.
    pub fn new() -> Self {
        Database::with_clock(SystemClock)
    }

    /// Returns an empty database on a clock of the caller's.
    pub fn with_clock(clock: impl Clock) -> Self {
        Database(Arc::new(Inner { clock: Box::new(clock), state: Mutex::default() }))
    }

    /// Returns a copy of the tables, for tests that look closer than the API does. It costs as much as there is in them.
    pub fn tables(&self) -> Tables {
        self.lock().tables.clone()
    }

    /// Shows the tables to `look`; nothing else runs meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&Tables) -> T) -> T {
        look(&self.lock().tables)
    }

    /// Changes the tables, for tests that need what the API does not make; nothing else runs meanwhile.
    pub fn change<T>(&self, change: impl FnOnce(&mut Tables) -> T) -> T {
        change(&mut self.lock().tables)
    }

    /// Runs one statement at once.
    ///
    /// # Errors
    ///
    /// What Postgres would report: a name or a key that is taken.
    pub fn answer(&self, statement: &Statement, params: &[Value<'_>]) -> Result<Rows, Failure> {
        let now = self.0.clock.now();
        let mut state = self.lock();
        // A set: Postgres says the same only once for one statement.
        let mut said = BTreeSet::new();
        let rows = engine::run(&mut state.tables, statement, params, now, &mut said)?;
        state.say(said);
        Ok(rows)
    }

    /// Does something with the tables and the time; nothing else runs meanwhile.
    pub(crate) fn aside<T>(&self, work: impl FnOnce(&mut Tables, Timestamp) -> T) -> T {
        let now = self.0.clock.now();
        work(&mut self.lock().tables, now)
    }

    /// Changes the tables, and then says this to listeners, by channel, unless the change failed.
    pub(crate) fn commit(
        &self,
        change: impl FnOnce(&mut Tables) -> Result<(), Failure>,
        said: BTreeSet<(String, String)>,
    ) -> Result<(), Failure> {
        let mut state = self.lock();
        change(&mut state.tables)?;
        state.say(said);
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
    /// Does nothing: there is no schema to migrate.
    fn run_script<'a>(&'a self, _script: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn listen<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Option<Box<dyn Listener>>, Failure>> {
        let (sender, receiver) = unbounded();
        self.lock().listeners.push((channel.to_owned(), sender));
        Box::pin(async move { Ok(Some(Box::new(Channel(receiver)) as Box<dyn Listener>)) })
    }
}

/// Hears one channel.
struct Channel(UnboundedReceiver<String>);

impl Listener for Channel {
    fn next(&mut self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(async { self.0.next().await.ok_or_else(|| Failure::no_reply("the database is gone")) })
    }
}
