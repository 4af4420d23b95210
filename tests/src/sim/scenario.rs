//! What happens from the beginning to the end of a world.

use super::auditor::Tally;
use super::bug::Bug;
use super::client::{produce, produce_and_operate, set_right};
use super::pool::STATEMENT_TIMEOUT;
use super::schedules::neglect;
use super::stack::{Process, Stack};
use super::worker::{QUEUES, work};
use super::world::{Entry, MS, SECOND, World};
use crate::Seed;
use futures_util::FutureExt;
use pm_core::StatementId;
use pm_queue::{ConnectOptions, Queue, Timestamp, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Worker processes, then clients.
const WORKERS: usize = 3;
const CLIENTS: usize = 2;
const HOUR_US: i64 = 3_600_000_000;
/// A year, by which clocks are wrong.
const YEAR_MS: i64 = 365 * 86_400_000;

/// What became of a world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What was wrong, if anything was.
    pub violation: Option<String>,
    /// Over everything that happened; the same for the same seed.
    pub hash: u64,
    /// How much happened.
    pub tally: Tally,
    /// How long it took, in the world's time.
    pub lasted: Duration,
}

/// Lives through the world of a seed.
pub fn run(seed: u64) -> Report {
    run_with(seed, None)
}

/// Lives through the world of a seed, with a bug planted in it.
pub fn run_with(seed: u64, bug: Option<Bug>) -> Report {
    live(Seed::new(seed), bug)
}

/// Lives through the world that bytes choose: the first eight are its seed, and each choice is drawn from the others
/// before it is drawn from the seed.
///
/// # Panics
///
/// When something was wrong; the message says what.
pub fn live_bytes(bytes: &[u8]) -> Report {
    let report = live(Seed::from_bytes(bytes), None);
    if let Some(violation) = &report.violation {
        panic!("{violation}");
    }
    report
}

fn live(seed: Seed, bug: Option<Bug>) -> Report {
    let world = World::new(seed, bug);
    let mut scenario = Scenario { slots: Vec::new(), last_process: 0, world: world.clone() };
    scenario.play();
    for slot in scenario.slots.drain(..) {
        world.executor.crash(slot.process.number);
    }
    world.executor.clear();
    let (violation, hash) = world.auditor().verdict();
    let tally = world.auditor().tally;
    Report { violation, hash, tally, lasted: Duration::from_micros(world.now_us()) }
}

/// A place where a process runs, or will again.
struct Slot {
    process: Arc<Process>,
    queue: Queue,
    /// When the next one starts; none while this one runs.
    starts_at: Option<u64>,
}

struct Scenario {
    world: Arc<World>,
    slots: Vec<Slot>,
    last_process: usize,
}

impl Scenario {
    fn play(&mut self) {
        self.make_queues();
        let is_latin1 = self.world.below(4) == 0;
        self.world.database.change(|tables| tables.is_latin1 = is_latin1);
        (0..self.world.below(4)).for_each(|_| neglect(&self.world));
        for slot in 0..WORKERS + CLIENTS {
            let (process, queue) = self.start(slot);
            self.slots.push(Slot { process, queue, starts_at: None });
        }
        let chaos_ends = 5 * SECOND + self.world.below(30 * SECOND);
        while self.world.now_us() < chaos_ends && !self.world.auditor().is_violated() {
            let next = self.world.now_us() + self.world.below(2 * SECOND);
            self.world.run_until(next, |_| false);
            self.go_wrong();
            self.start_again(false);
        }
        self.make_peace();
        self.expect_endings("every job ends once faults have stopped", 300 * SECOND);
        self.put_in(15);
        self.expect_endings("every job ends when nothing goes wrong", 60 * SECOND);
        // Long enough for idle workers to look rarely.
        self.world.run_until(self.world.now_us() + 70 * SECOND + self.world.below(20 * SECOND), |_| false);
        self.put_in(1);
        self.expect_endings("an idle worker is woken", 6 * SECOND);
        self.expect_ticks();
        self.close();
    }

    fn make_queues(&self) {
        for name in QUEUES {
            let statement = self.world.catalog.statement(StatementId::CreateQueue);
            self.world.database.answer(statement, &[Value::Text(name), Value::Bool(false)]).expect("it is new");
        }
        self.world.hurry();
    }

    /// Starts a process.
    fn start(&mut self, slot: usize) -> (Arc<Process>, Queue) {
        self.last_process += 1;
        let process = Process::new(&self.world, self.last_process);
        let stack = Arc::new(Stack(process.clone()));
        let options = ConnectOptions::default().check_schema(false).statement_timeout(STATEMENT_TIMEOUT);
        let opened = Queue::open_with(stack.clone(), stack.clone(), stack, &options).now_or_never();
        let queue = opened.and_then(Result::ok).expect("there is no schema to look at");
        if slot < WORKERS {
            self.world.executor.spawn(process.number, Box::pin(work(process.clone(), queue.clone())));
        } else if !self.world.is_peaceful() {
            self.world.executor.spawn(process.number, Box::pin(produce_and_operate(process.clone(), queue.clone())));
        }
        (process, queue)
    }

    /// Starts processes whose time has come, or all that do not run.
    fn start_again(&mut self, all: bool) {
        for slot in 0..self.slots.len() {
            let retires = self.slots[slot].process.retires.load(Ordering::Relaxed);
            if retires || self.slots[slot].starts_at.is_some_and(|at| all || at <= self.world.now_us()) {
                let (process, queue) = self.start(slot);
                self.slots[slot] = Slot { process, queue, starts_at: None };
            }
        }
    }

    fn go_wrong(&mut self) {
        self.world.lock_something();
        self.world.lock_for_operators();
        let now = self.world.now_us();
        let slot = self.world.below(self.slots.len() as u64) as usize;
        let (number, soon) = (self.slots[slot].process.number, self.world.below(4 * SECOND));
        self.wear_frontiers();
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

    /// Lets some lines fall behind: thousands of jobs go through another, and those retired are so since an hour ago.
    fn wear_frontiers(&self) {
        let positions = [0, 1_000, 3_000][self.world.below(3) as usize];
        let passes = self.world.below(2) == 0;
        self.world.database.change(|tables| {
            tables.last_seq += positions;
            for frontier in tables.claim_frontier.values_mut().filter(|_| passes) {
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

    /// Ends all faults, and sets right what operators left.
    fn make_peace(&mut self) {
        self.world.faults().stop();
        self.world.unlock_all();
        self.world.set_peaceful();
        for slot in &self.slots {
            self.world.executor.go_on(slot.process.number);
        }
        self.start_again(true);
        let client = self.slots.last().expect("there are clients");
        let right = set_right(client.process.clone(), client.queue.clone());
        self.world.executor.spawn(client.process.number, Box::pin(right));
        // All streams may have been told not to reap.
        let reaper = client.queue.clone();
        self.world.executor.spawn(client.process.number, Box::pin(async move { reaper.run_reaper().await }));
        // What was under way when faults ended has its effects until then.
        let settled_us = self.world.now_us() + self.world.link.patience_us(20 * SECOND);
        self.world.auditor().peace_since = Some(settled_us);
        self.world.run_until(settled_us + SECOND, |_| false);
    }

    /// Puts jobs in from a process without workers.
    fn put_in(&self, jobs: u64) {
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

    fn expect_endings(&self, promise: &str, patience_us: u64) {
        let patience_us = self.world.link.patience_us(patience_us);
        let mut looked_at = u64::MAX;
        let all_ended = |world: &World| {
            let statements = world.auditor().tally.statements;
            if std::mem::replace(&mut looked_at, statements) == statements {
                return false;
            }
            world.database.look(|tables| tables.job.values().all(|job| job.state >= 2))
        };
        if !self.world.run_until(self.world.now_us() + patience_us, all_ended) {
            let left = self.world.database.look(|tables| {
                let open: Vec<_> =
                    tables.job.values().filter(|job| job.state < 2).map(|job| format!("{job:?}")).collect();
                format!("{} of {} open: {}", open.len(), tables.job.len(), open.first().cloned().unwrap_or_default())
            });
            self.world.auditor().violate(format!("{promise}, but within {patience_us} us: {left}"));
        }
    }

    /// Looks whether schedules go on firing, also if nobody has sent a statement about them.
    fn expect_ticks(&self) {
        let now = self.world.now();
        let mut auditor = self.world.auditor();
        self.world.database.look(|tables| auditor.expect_ticks(tables, now));
    }

    /// Closes all queues; that must come to an end.
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
        if !self.world.run_until(self.world.now_us() + self.world.link.patience_us(60 * SECOND), all) {
            self.world.auditor().violate("close returns when nothing is left to settle, but it does not".to_owned());
        }
    }
}
