//! A world from beginning to end.

use super::auditor::Tally;
use super::bug::Bug;
use super::client::{produce, produce_and_operate, restore_queues};
use super::pool::STATEMENT_TIMEOUT;
use super::schedules::neglect;
use super::stack::{Process, Stack};
use super::worker::{QUEUES, work};
use super::world::{Entry, MS, SECOND, World};
use crate::Seed;
use futures_util::FutureExt;
use pm_core::StatementId;
use pm_queue::driver::Value;
use pm_queue::{ConnectOptions, Queue, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Worker processes, then clients.
const WORKERS: usize = 3;
const CLIENTS: usize = 2;
const HOUR_US: i64 = 3_600_000_000;
/// A year; clocks are wrong by whole years.
const YEAR_MS: i64 = 365 * 86_400_000;

/// The result of a world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The first violation, if there was one.
    pub violation: Option<String>,
    /// A hash of everything that happened; the same for the same seed.
    pub hash: u64,
    /// How much happened.
    pub tally: Tally,
    /// How long it took, in virtual time.
    pub lasted: Duration,
}

/// Runs the world of a seed.
pub fn run(seed: u64) -> Report {
    run_with(seed, None)
}

/// Runs the world of a seed, with a planted bug.
pub fn run_with(seed: u64, bug: Option<Bug>) -> Report {
    run_world(Seed::new(seed), bug)
}

/// Runs the world that bytes choose: the first eight are its seed, and each choice is drawn from the bytes after them
/// until they are used up.
///
/// # Panics
///
/// On a violation, with its description.
pub fn live_bytes(bytes: &[u8]) -> Report {
    let report = run_world(Seed::from_bytes(bytes), None);
    if let Some(violation) = &report.violation {
        panic!("{violation}");
    }
    report
}

fn run_world(seed: Seed, bug: Option<Bug>) -> Report {
    let world = World::new(seed, bug);
    let mut scenario = Scenario { slots: Vec::new(), last_process: 0, world: world.clone() };
    scenario.run();
    for slot in scenario.slots.drain(..) {
        world.executor.crash(slot.process.number);
    }
    world.executor.clear();
    let (violation, hash) = world.auditor().verdict();
    let tally = world.auditor().tally;
    Report { violation, hash, tally, lasted: Duration::from_micros(world.now_us()) }
}

/// A slot in which one process runs after another.
struct Slot {
    process: Arc<Process>,
    queue: Queue,
    /// When the next process starts; none while this one runs.
    starts_at: Option<u64>,
}

struct Scenario {
    world: Arc<World>,
    slots: Vec<Slot>,
    last_process: usize,
}

impl Scenario {
    fn run(&mut self) {
        self.create_queues();
        let is_latin1 = self.world.below(4) == 0;
        self.world.database.change(|tables| tables.is_latin1 = is_latin1);
        (0..self.world.below(4)).for_each(|_| neglect(&self.world));
        for slot in 0..WORKERS + CLIENTS {
            let (process, queue) = self.start(slot);
            self.slots.push(Slot { process, queue, starts_at: None });
        }
        let faults_end = 5 * SECOND + self.world.below(30 * SECOND);
        while self.world.now_us() < faults_end && !self.world.auditor().is_violated() {
            let next = self.world.now_us() + self.world.below(2 * SECOND);
            self.world.run_until(next, |_| false);
            self.inject_fault();
            self.start_again(false);
        }
        self.end_faults();
        self.expect_endings("every job ends once faults have stopped", 300 * SECOND);
        self.enqueue(15);
        self.expect_endings("every job ends when there are no faults", 60 * SECOND);
        // Long enough that idle workers poll rarely.
        self.world.run_until(self.world.now_us() + 70 * SECOND + self.world.below(20 * SECOND), |_| false);
        self.enqueue(1);
        // Three retries with delays of 2 s fit in; idle workers poll less often.
        self.expect_endings("an idle worker is notified", 12 * SECOND);
        self.expect_ticks();
        self.close();
    }

    fn create_queues(&self) {
        for name in QUEUES {
            let statement = self.world.catalog.statement(StatementId::CreateQueue);
            self.world.database.answer(statement, &[Value::Text(name), Value::Bool(false)]).expect("it is new");
        }
        self.world.shorten_settings();
    }

    /// Starts a process.
    fn start(&mut self, slot: usize) -> (Arc<Process>, Queue) {
        self.last_process += 1;
        let process = Process::new(&self.world, self.last_process);
        let stack = Arc::new(Stack(process.clone()));
        let options = ConnectOptions::default().check_schema(false).statement_timeout(STATEMENT_TIMEOUT);
        let opened = Queue::open_with(stack.clone(), stack.clone(), stack, &options).now_or_never();
        let queue = opened.and_then(Result::ok).expect("the schema is not checked");
        if slot < WORKERS {
            self.world.executor.spawn(process.number, Box::pin(work(process.clone(), queue.clone())));
        } else if !self.world.is_peaceful() {
            self.world.executor.spawn(process.number, Box::pin(produce_and_operate(process.clone(), queue.clone())));
        }
        (process, queue)
    }

    /// Starts processes whose start time has come, or all that do not run.
    fn start_again(&mut self, all: bool) {
        for slot in 0..self.slots.len() {
            let retires = self.slots[slot].process.retires.load(Ordering::Relaxed);
            if retires || self.slots[slot].starts_at.is_some_and(|at| all || at <= self.world.now_us()) {
                let (process, queue) = self.start(slot);
                self.slots[slot] = Slot { process, queue, starts_at: None };
            }
        }
    }

    fn inject_fault(&mut self) {
        self.world.lock_something();
        self.world.lock_for_operators();
        let now = self.world.now_us();
        let slot = self.world.below(self.slots.len() as u64) as usize;
        let (number, soon) = (self.slots[slot].process.number, self.world.below(4 * SECOND));
        self.age_frontiers();
        match self.world.below(12) {
            0 | 1 => self.crash(slot, now + soon),
            2 => {
                self.world.faults().cut_off_until.insert(number, now + soon);
                self.world.cut(Some(number));
            }
            3 => {
                self.world.faults().down_until = now + soon / 2;
                self.world.cut(None);
                self.slots.iter().for_each(|slot| slot.process.cut_listener());
            }
            4 | 5 => self.slots[slot].process.cut_listener(),
            6 | 7 => {
                let years = self.world.below(61) as i64 - 30;
                self.slots[slot].process.wrong_ms.store(years * YEAR_MS, Ordering::Relaxed);
            }
            8 => {
                self.world.executor.stall(number);
                self.world.at(now + 2 * soon, Entry::GoOn(number));
            }
            9 => self.crash(slot, now),
            10 | 11 => neglect(&self.world),
            _ => {}
        }
    }

    /// Ages claim frontiers: advances the position sequence by thousands, and retired frontiers by two hours.
    fn age_frontiers(&self) {
        let positions = [0, 1_000, 3_000][self.world.below(3) as usize];
        let ages_retired = self.world.below(2) == 0;
        self.world.database.change(|tables| {
            tables.last_seq += positions;
            for frontier in tables.claim_frontier.values_mut().filter(|_| ages_retired) {
                let earlier = |at: Timestamp| Timestamp::from_unix_us(at.unix_us() - 2 * HOUR_US);
                frontier.retired_at = frontier.retired_at.map(earlier);
            }
        });
    }

    fn crash(&mut self, slot: usize, starts_at: u64) {
        if self.slots[slot].starts_at.is_some() {
            return;
        }
        let number = self.slots[slot].process.number;
        self.world.executor.crash(number);
        let mut auditor = self.world.auditor();
        auditor.forget(number);
        auditor.tally.crashes += 1;
        drop(auditor);
        self.slots[slot].starts_at = Some(starts_at);
    }

    /// Ends all faults and restores the queues.
    fn end_faults(&mut self) {
        self.world.faults().stop();
        self.world.unlock_all();
        self.world.set_peaceful();
        for slot in &self.slots {
            self.world.executor.go_on(slot.process.number);
        }
        self.start_again(true);
        let client = self.slots.last().expect("there are clients");
        let restoring = restore_queues(client.process.clone(), client.queue.clone());
        self.world.executor.spawn(client.process.number, Box::pin(restoring));
        // It may be that no stream reaps.
        let reaper = client.queue.clone();
        self.world.executor.spawn(client.process.number, Box::pin(async move { reaper.run_reaper().await }));
        // Until then, statements that were in flight when the faults ended may still take effect.
        let settled_us = self.world.now_us() + self.world.link.timeout_us(20 * SECOND);
        self.world.auditor().peace_since = Some(settled_us);
        self.world.run_until(settled_us + SECOND, |_| false);
    }

    /// Enqueues jobs from a process without workers.
    fn enqueue(&self, jobs: u64) {
        let client = self.slots.last().expect("there are clients");
        for _ in 0..jobs {
            let (process, queue) = (client.process.clone(), client.queue.clone());
            self.world.executor.spawn(
                client.process.number,
                Box::pin(async move {
                    process.sleep_us(process.world.below(SECOND)).await;
                    produce(&process, &queue).await;
                }),
            );
        }
        self.world.run_until(self.world.now_us() + SECOND + 100 * MS, |_| false);
    }

    fn expect_endings(&self, promise: &str, timeout_us: u64) {
        let timeout_us = self.world.link.timeout_us(timeout_us);
        let mut last_statements = u64::MAX;
        let all_ended = |world: &World| {
            let statements = world.auditor().tally.statements;
            if std::mem::replace(&mut last_statements, statements) == statements {
                return false;
            }
            world.database.look(|tables| tables.job.values().all(|job| job.state >= 2))
        };
        if !self.world.run_until(self.world.now_us() + timeout_us, all_ended) {
            let left = self.world.database.look(|tables| {
                let open: Vec<_> =
                    tables.job.values().filter(|job| job.state < 2).map(|job| format!("{job:?}")).collect();
                format!("{} of {} open: {}", open.len(), tables.job.len(), open.first().cloned().unwrap_or_default())
            });
            self.world.auditor().violate(format!("{promise}, but after {timeout_us} us: {left}"));
        }
    }

    /// Checks that schedules go on firing, even if no statement about them was sent.
    fn expect_ticks(&self) {
        let now = self.world.now();
        let mut auditor = self.world.auditor();
        self.world.database.look(|tables| auditor.expect_ticks(tables, now));
    }

    /// Closes all queues, which must return.
    fn close(&self) {
        let closed = Arc::new(AtomicUsize::new(0));
        for slot in &self.slots {
            let (queue, closed) = (slot.queue.clone(), closed.clone());
            let closing = async move {
                queue.close().await;
                closed.fetch_add(1, Ordering::Relaxed);
            };
            self.world.executor.spawn(slot.process.number, Box::pin(closing));
        }
        let all = |_: &World| closed.load(Ordering::Relaxed) == self.slots.len();
        if !self.world.run_until(self.world.now_us() + self.world.link.timeout_us(60 * SECOND), all) {
            self.world.auditor().violate("close returns when nothing is left to settle, but it does not".to_owned());
        }
    }
}
