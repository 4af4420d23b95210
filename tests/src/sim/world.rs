//! The database server, the network, and the agenda of future events.

use super::auditor::Auditor;
use super::bug::Bug;
use super::executor::{Executor, Time};
use super::faults::{Fate, Faults};
use super::link::Link;
use super::owned::Owned;
use super::pool::passes_locked_jobs;
use crate::Seed;
use futures_channel::oneshot;
use pm_core::{Backoff, Catalog, SchemaName, StatementId};
use pm_driver_memory::{Clock, Database};
use pm_queue::driver::{Failure, Rows, Value};
use pm_queue::{Timestamp, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// 15 s before 2026-01-01 00:00 UTC: the database's time when a world begins. Ticks come at whole minutes.
pub(super) const START_US: i64 = 1_767_225_585_000_000;
/// How long an enqueue waits for a key that another transaction has locked.
const WAIT_FOR_KEYS: u64 = 50 * MS;
/// More steps than this at one instant are a busy loop.
const MOST_STEPS_AT_ONCE: u64 = 200_000;

pub(super) const MS: u64 = 1_000;
pub(super) const SECOND: u64 = 1_000_000;

/// The state of a world.
pub(super) struct World {
    pub(super) time: Time,
    pub(super) executor: Executor,
    pub(super) seed: Mutex<Seed>,
    pub(super) database: Database,
    pub(super) catalog: Catalog,
    pub(super) faults: Mutex<Faults>,
    pub(super) auditor: Mutex<Auditor>,
    pub(super) bug: Option<Bug>,
    pub(super) lease_ms: i64,
    pub(super) link: Link,
    /// Whether each connection carries one statement at a time.
    pub(super) is_pooled: bool,
    /// Lost claims that were released once, for that planted bug.
    pub(super) released: Mutex<BTreeSet<i64>>,
    /// Whether there are schedules.
    pub(super) has_schedules: bool,
    /// The number of the next payload; each is enqueued once.
    pub(super) intents: AtomicU64,
    peaceful: AtomicBool,
    /// The generator of locks, separate so that the other choices do not depend on them.
    locks: Mutex<Seed>,
    /// The generator of the locks that operators' statements wait for, separate for the same reason.
    operators_locks: Mutex<Seed>,
    agenda: Mutex<Agenda>,
}

/// Future events.
#[derive(Default)]
struct Agenda {
    entries: BTreeMap<(u64, u64), Entry>,
    last: u64,
    flights: BTreeMap<u64, Flight>,
    last_flight: u64,
}

pub(super) enum Entry {
    Timer(oneshot::Sender<()>),
    /// The server runs a statement.
    Execute(u64),
    /// The reply arrives.
    Answer(u64, Result<Rows, Failure>),
    /// A suspended process resumes.
    GoOn(usize),
    /// A transaction ends whose lock enqueues wait for.
    Unlock(Lock),
}

/// What an open transaction has locked: the row of a queue, or a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lock {
    pub(super) queue: String,
    pub(super) key: Option<String>,
}

/// A statement in flight.
struct Flight {
    process: usize,
    statement: StatementId,
    params: Vec<Owned>,
    sent_at: u64,
    fate: Fate,
    asker: Option<oneshot::Sender<Result<Rows, Failure>>>,
}

struct ServerClock(Time);

impl Clock for ServerClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_us(START_US + self.0.now_us() as i64)
    }
}

impl World {
    pub(super) fn new(mut seed: Seed, bug: Option<Bug>) -> Arc<World> {
        let time = Time::default();
        let lease_ms = 1_000 + seed.below(4_000) as i64;
        let link = Link::drawn(lease_ms, &mut seed);
        Arc::new(World {
            database: Database::with_clock(ServerClock(time.clone())),
            time,
            executor: Executor::default(),
            catalog: Catalog::new(&SchemaName::default()),
            faults: Mutex::new(Faults::drawn(&mut seed)),
            auditor: Mutex::new(Auditor::on(link)),
            bug,
            lease_ms,
            link,
            is_pooled: lease_ms % 2 == 0,
            released: Mutex::default(),
            has_schedules: seed.below(2) == 0,
            seed: Mutex::new(seed),
            intents: AtomicU64::new(1),
            peaceful: AtomicBool::new(false),
            locks: Mutex::new(Seed::new(lease_ms as u64)),
            operators_locks: Mutex::new(Seed::new(lease_ms as u64 + 1)),
            agenda: Mutex::default(),
        })
    }

    pub(super) fn now_us(&self) -> u64 {
        self.time.now_us()
    }

    /// Returns the database's time.
    pub(super) fn now(&self) -> Timestamp {
        Clock::now(&ServerClock(self.time.clone()))
    }

    pub(super) fn chance(&self) -> MutexGuard<'_, Seed> {
        self.seed.lock().expect("the lock is not poisoned")
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        self.chance().below(bound.max(1))
    }

    pub(super) fn auditor(&self) -> MutexGuard<'_, Auditor> {
        self.auditor.lock().expect("the lock is not poisoned")
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().expect("the lock is not poisoned")
    }

    /// Returns whether the faults have ended.
    pub(super) fn is_peaceful(&self) -> bool {
        self.peaceful.load(Ordering::Relaxed)
    }

    pub(super) fn set_peaceful(&self) {
        self.peaceful.store(true, Ordering::Relaxed);
    }

    fn agenda(&self) -> MutexGuard<'_, Agenda> {
        self.agenda.lock().expect("the lock is not poisoned")
    }

    pub(super) fn at(&self, us: u64, entry: Entry) {
        let mut agenda = self.agenda();
        agenda.last += 1;
        let key = (us.max(self.now_us()), agenda.last);
        agenda.entries.insert(key, entry);
    }

    /// Runs until `is_over`, a violation, or the given time; returns whether one of the first two came.
    pub(super) fn run_until(&self, until_us: u64, mut is_over: impl FnMut(&World) -> bool) -> bool {
        let mut steps = 0u64;
        loop {
            if self.auditor().is_violated() || is_over(self) {
                return true;
            }
            if self.executor.poll_one(&self.seed) {
                steps += 1;
                if steps > MOST_STEPS_AT_ONCE {
                    self.auditor().violate("bounded: a busy loop without time passing".to_owned());
                }
                continue;
            }
            self.auditor().at_rest(self);
            let mut agenda = self.agenda();
            let Some(entry) = agenda.entries.first_entry().filter(|entry| entry.key().0 <= until_us) else {
                drop(agenda);
                self.time.set(self.now_us().max(until_us));
                return false;
            };
            let ((at, _), entry) = entry.remove_entry();
            drop(agenda);
            if at > self.now_us() {
                steps = 0;
                self.time.set(at);
            }
            self.happen(entry);
        }
    }

    fn happen(&self, entry: Entry) {
        match entry {
            // The waiting task may be gone.
            Entry::Timer(timer) => timer.send(()).unwrap_or_default(),
            Entry::Execute(flight) => self.execute(flight),
            Entry::Answer(flight, answer) => self.answer(flight, answer),
            Entry::GoOn(process) => self.executor.go_on(process),
            Entry::Unlock(lock) => self.set_lock(&lock, false),
        }
    }

    /// Gives every queue short leases and quick retries: a world lasts minutes.
    pub(super) fn shorten_settings(&self) {
        self.database.change(|tables| {
            for queue in tables.queue.values_mut() {
                let table = [0, 500, 2_000].map(Duration::from_millis).to_vec();
                let jitter_percent = queue.settings.backoff.jitter_percent();
                queue.settings.backoff = Backoff::new(table, 3, jitter_percent).expect("they are in range");
                queue.settings.lease = Duration::from_millis(self.lease_ms.unsigned_abs());
            }
        });
    }

    /// Sometimes lets a transaction lock a queue's row or a key, for seconds or until the faults end.
    pub(super) fn lock_something(&self) {
        let (lock, lasts) = {
            let mut seed = self.locks.lock().expect("the lock is not poisoned");
            if seed.below(4) > 0 {
                return;
            }
            let key = seed.pick(&[None, Some("x"), Some("y")]).map(str::to_owned);
            let lasts = if seed.below(3) == 0 { 60 * SECOND } else { SECOND + seed.below(8 * SECOND) };
            (Lock { queue: seed.pick(&["a", "b"]).to_owned(), key }, lasts)
        };
        self.set_lock(&lock, true);
        self.at(self.now_us() + lasts, Entry::Unlock(lock));
    }

    /// Sometimes lets a transaction lock what operators' statements change, for up to 24 s.
    pub(super) fn lock_for_operators(&self) {
        let mut seed = self.operators_locks.lock().expect("the lock is not poisoned");
        if seed.below(13) == 0 {
            self.faults().locked_until = self.now_us() + seed.below(24 * SECOND);
        }
    }

    /// Ends all transactions that have locks.
    pub(super) fn unlock_all(&self) {
        let open = self.auditor().open_locks();
        open.iter().for_each(|lock| self.set_lock(lock, false));
    }

    fn set_lock(&self, lock: &Lock, locked: bool) {
        self.auditor().locked(lock, locked, self.now_us());
        self.database.change(|tables| {
            let named = |queue: &&pm_driver_memory::QueueRow| queue.name.as_deref() == Some(lock.queue.as_str());
            let Some(id) = tables.queue.values().find(named).map(|queue| queue.id) else { return };
            let _changed = match (&lock.key, locked) {
                (None, true) => tables.locked_queues.insert(id),
                (None, false) => tables.locked_queues.remove(&id),
                (Some(key), true) => tables.locked_keys.insert((id, key.clone())),
                (Some(key), false) => tables.locked_keys.remove(&(id, key.clone())),
            };
        });
    }

    /// Sends a statement, with a random fate.
    pub(super) fn send(
        &self,
        process: usize,
        statement: StatementId,
        params: &[Value<'_>],
    ) -> oneshot::Receiver<Result<Rows, Failure>> {
        let (asker, answer) = oneshot::channel();
        let now = self.now_us();
        let fate = self.faults().fate(process, Some(statement), now, &mut self.chance());
        let params = params.iter().map(Owned::of).collect();
        let flight = Flight { process, statement, params, sent_at: now, fate, asker: Some(asker) };
        let number = {
            let mut agenda = self.agenda();
            agenda.last_flight += 1;
            let number = agenda.last_flight;
            agenda.flights.insert(number, flight);
            number
        };
        self.auditor().note(&format!("send {process} {statement:?} {now} {fate:?}"));
        match fate {
            Fate::Unsent => self.at(now + MS, Entry::Answer(number, Err(Failure::not_sent("no connection")))),
            Fate::LostBefore { fails_us } => {
                self.at(now + fails_us, Entry::Answer(number, Err(Failure::no_reply("cut before"))));
            }
            Fate::Runs { runs_us, .. } => self.at(now + runs_us, Entry::Execute(number)),
            Fate::Straggles { fails_us, runs_us } => {
                self.at(now + fails_us, Entry::Answer(number, Err(Failure::no_reply("cut, and works on"))));
                self.at(now + runs_us, Entry::Execute(number));
            }
        }
        answer
    }

    fn execute(&self, number: u64) {
        let Some(mut flight) = self.agenda().flights.remove(&number) else { return };
        let params: Vec<Value<'_>> = flight.params.iter().map(Owned::borrow).collect();
        let answer = self.work_on(flight.process, flight.statement, &params, flight.sent_at, flight.fate);
        drop(params);
        let Fate::Runs { answers_us, is_lost, .. } = flight.fate else { return };
        let has_waited = answer.as_ref().is_err_and(|failure| failure.sqlstate() == Some("55P03"));
        let waited_us = if has_waited { WAIT_FOR_KEYS } else { 0 };
        let answers_us = answers_us + waited_us + self.link.takes_us(flight.statement, &answer);
        let answer = if is_lost { Err(Failure::no_reply("cut after")) } else { answer };
        flight.params.clear();
        self.agenda().flights.insert(number, flight);
        self.at(self.now_us() + answers_us, Entry::Answer(number, answer));
    }

    /// Locks every other job while the open transaction holds locks.
    fn lock_jobs(&self) {
        let is_locked = self.faults().locked_until > self.now_us();
        let is_among_them = |id: &&Uuid| is_locked && id.as_u128().is_multiple_of(2);
        self.database.change(|tables| tables.locked_jobs = tables.job.keys().filter(is_among_them).copied().collect());
    }

    /// Runs a statement and lets the auditor judge it.
    fn work_on(
        &self,
        process: usize,
        statement: StatementId,
        params: &[Value<'_>],
        sent_at: u64,
        fate: Fate,
    ) -> Result<Rows, Failure> {
        if passes_locked_jobs(statement) {
            self.lock_jobs();
        }
        let before = self.database.tables();
        let answer = match self.bug {
            Some(bug) => bug.work_on(self, statement, params, sent_at, fate),
            None => self.database.answer(self.catalog.statement(statement), params),
        };
        if statement == StatementId::CreateQueue {
            self.shorten_settings();
        }
        let now = self.now();
        let mut auditor = self.auditor();
        auditor.note_claim(process, statement, params);
        auditor.note(&format!("run {process} {statement:?} {} {}", self.now_us(), answer.is_ok()));
        self.database.look(|after| auditor.judge(statement, params, &before, after, now));
        answer
    }

    fn answer(&self, number: u64, answer: Result<Rows, Failure>) {
        let asker = {
            let mut agenda = self.agenda();
            // The server has yet to run a straggler.
            match agenda.flights.get_mut(&number) {
                Some(flight) if matches!(flight.fate, Fate::Straggles { .. }) => flight.asker.take(),
                Some(_) => agenda.flights.remove(&number).and_then(|flight| flight.asker),
                None => None,
            }
        };
        if let Some(asker) = asker {
            // The caller may be gone.
            drop(asker.send(answer));
        }
    }

    /// Cuts statements in flight: of one process, or of all when the server restarts. The server may still run later
    /// what it has not begun, unless it restarts.
    pub(super) fn cut(&self, of: Option<usize>) {
        let mut cut = Vec::new();
        {
            let mut agenda = self.agenda();
            let begun: Vec<u64> = agenda.entries.values().filter_map(Entry::answered).collect();
            for (number, flight) in &mut agenda.flights {
                if of.is_some_and(|of| of != flight.process) {
                    continue;
                }
                cut.extend(flight.asker.take());
                let later = if of.is_some() && !begun.contains(number) { 0 } else { MS };
                flight.fate = Fate::Straggles { fails_us: 0, runs_us: later };
            }
            if of.is_none() {
                agenda.flights.clear();
            }
        }
        for asker in cut {
            // The caller may be gone.
            drop(asker.send(Err(match of {
                Some(_) => Failure::no_reply("the connection is cut"),
                None => Failure::reported("57P01", None, "terminating connection"),
            })));
        }
    }
}

impl Entry {
    /// Returns the statement whose answer this is.
    fn answered(&self) -> Option<u64> {
        if let Entry::Answer(flight, _) = self { Some(*flight) } else { None }
    }
}
