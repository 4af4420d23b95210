//! The environment of a process: driver, runtime, clock and randomness, all simulated.

use super::pool::{Pool, Taken, wait_for_lock};
use super::world::{Entry, World};
use crate::Seed;
use futures_channel::oneshot;
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use pm_core::Instant;
use pm_queue::driver::{BoxFuture, Driver, Executor, Failure, Listener, Room, Rows, Statement, Value};
use pm_queue::runtime::{Randomness, Runtime};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A process, as seen by its queue's driver and runtime.
pub(super) struct Process {
    pub(super) world: Arc<World>,
    pub(super) number: usize,
    /// How far its monotonic clock is ahead of the world's.
    started_at: Duration,
    /// How wrong its wall clock is, in milliseconds.
    pub(super) wrong_ms: AtomicI64,
    /// Whether it closes its queue: another process replaces it.
    pub(super) retires: AtomicBool,
    random: Mutex<Seed>,
    pub(super) pool: Pool,
    /// Cuts the listener when dropped.
    listener: Mutex<Option<oneshot::Sender<()>>>,
}

impl Process {
    pub(super) fn new(world: &Arc<World>, number: usize) -> Arc<Self> {
        let (started_at, random) = (Duration::from_micros(world.below(1 << 40)), Mutex::new(world.chance().split()));
        Arc::new(Process {
            world: world.clone(),
            number,
            started_at,
            wrong_ms: AtomicI64::new(0),
            retires: AtomicBool::new(false),
            random,
            pool: Pool::of(world.is_pooled.then_some(8 + number % 8)),
            listener: Mutex::default(),
        })
    }

    pub(super) fn cut_listener(&self) {
        self.listener.lock().expect("the lock is not poisoned").take();
    }
}

/// What the queue of a process is opened with.
#[derive(Clone)]
pub(super) struct Stack(pub(super) Arc<Process>);

impl Runtime for Stack {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.world.executor.spawn(self.0.number, task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (timer, fired) = oneshot::channel();
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        // Never early: whole microseconds, rounded up.
        self.0.world.at(self.0.world.now_us().saturating_add(us).saturating_add(1), Entry::Timer(timer));
        Box::pin(fired.map(|_| ()))
    }

    fn now(&self) -> Instant {
        Instant::from_start(self.0.started_at + Duration::from_micros(self.0.world.now_us()))
    }

    fn unix_ms(&self) -> u64 {
        let right = super::world::START_US / 1_000 + (self.0.world.now_us() / 1_000) as i64;
        right.saturating_add(self.0.wrong_ms.load(Ordering::Relaxed)).max(0) as u64
    }
}

impl Randomness for Stack {
    fn next_u64(&self) -> u64 {
        self.0.random.lock().expect("the lock is not poisoned").next_u64()
    }
}

impl Executor for Stack {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        Box::pin(async move {
            let _taken = Taken::out_of(&self.0, statement.id.class());
            let _counted = super::auditor::InFlight::count(&self.0, statement.id, params);
            wait_for_lock(&self.0, statement.id).await?;
            let answer = super::bug::send(&self.0.world, self.0.number, statement.id, params).await;
            answer.unwrap_or_else(|| Err(Failure::no_reply("the server has lost it")))
        })
    }
}

impl Driver for Stack {
    fn room(&self) -> Room {
        self.0.pool.room(self.0.world.bug)
    }

    fn run_script<'a>(&'a self, _script: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn listen<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Option<Box<dyn Listener>>, Failure>> {
        Box::pin(async move {
            let world = &self.0.world;
            let fate = world.faults().fate(self.0.number, None, world.now_us(), &mut world.chance());
            if matches!(fate, super::faults::Fate::Unsent) {
                return Err(Failure::not_sent("no connection"));
            }
            let inner = world.database.listen(channel).await?.expect("the memory driver listens");
            let (cutter, cut) = oneshot::channel();
            *self.0.listener.lock().expect("the lock is not poisoned") = Some(cutter);
            let faulty = FaultyListener { process: self.0.clone(), inner, cut, again: None };
            Ok(Some(Box::new(faulty) as Box<dyn Listener>))
        })
    }
}

/// A listener whose notifications may be lost, late or doubled.
struct FaultyListener {
    process: Arc<Process>,
    inner: Box<dyn Listener>,
    cut: oneshot::Receiver<()>,
    again: Option<String>,
}

impl Listener for FaultyListener {
    fn next(&mut self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(async {
            if let Some(again) = self.again.take() {
                return Ok(again);
            }
            loop {
                let received = match select(self.inner.next(), &mut self.cut).await {
                    Either::Left((received, _)) => received?,
                    Either::Right(_) => return Err(Failure::no_reply("the listener's connection is cut")),
                };
                let world = &self.process.world;
                let (lost, doubled, late) = {
                    let (faults, mut seed) = (world.faults(), world.chance());
                    let mut happens = |rate| seed.below(1_000) < rate;
                    (
                        happens(faults.notification_lost),
                        happens(faults.notification_doubled),
                        happens(faults.notification_late),
                    )
                };
                if lost {
                    continue;
                }
                if late {
                    let us = world.below(2_000_000);
                    Stack(self.process.clone()).sleep(Duration::from_micros(us)).await;
                }
                self.again = doubled.then(|| received.clone());
                return Ok(received);
            }
        })
    }
}
