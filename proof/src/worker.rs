//! Fuzzes the worker machine with any inputs in any order.

use crate::reply::CATALOG;
use crate::rows::rows;
use arbitrary::{Result, Unstructured};
use pm_core::machine::{Entropy, Machine, Request, RequestId, Worker, WorkerEvent, WorkerOptions, WorkerRequest};
use pm_core::op::Notification;
use pm_core::{Backoff, Failure, Instant, Lease, QueueName, Reason, StatementId, TakenJob, Value, Verdict};
use std::collections::BTreeSet;
use std::time::Duration;

/// The maximum number of jobs in one statement.
const MAX_BATCH: usize = 500;

/// Reads bytes as a sequence of actions of time, the database, other processes and users on a worker.
///
/// # Panics
///
/// If the worker panics or loops, has two requests of a kind in flight, exceeds the limits of a batch, locks jobs in
/// another order than that of their ids, or reports no or two outcomes of a request.
pub fn worker(bytes: &[u8]) {
    let mut bytes = Unstructured::new(bytes);
    if let Ok(mut scenario) = Scenario::new(&mut bytes) {
        while !bytes.is_empty() && scenario.step(&mut bytes).is_ok() {
            scenario.pump();
        }
        scenario.end();
    }
}

/// Distinct numbers: the bytes provide the randomness.
struct Counting(u64);

impl Entropy for Counting {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0
    }
}

struct Scenario {
    worker: Worker,
    entropy: Counting,
    now: Instant,
    prefetch: usize,
    in_flight: Vec<WorkerRequest>,
    taken_jobs: Vec<TakenJob>,
    /// Requests of users without an outcome.
    waiting: BTreeSet<RequestId>,
    /// Requests with an outcome, including the releases that the worker itself makes.
    finished: BTreeSet<RequestId>,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Scenario {
    fn new(bytes: &mut Unstructured<'_>) -> Result<Self> {
        let names = ["a", "b"].map(|name| QueueName::new(name).expect("a valid name"));
        let prefetch = usize::from(bytes.int_in_range(0..=12u8)?);
        let options = WorkerOptions {
            queues: names[..bytes.int_in_range(0..=2)?].to_vec(),
            worker: "w".to_owned(),
            prefetch,
            heartbeat: bytes.arbitrary::<bool>()?.then_some(ms(9_000)),
            poll_least: ms(20),
            poll_most: ms(1_000),
            reaps: bytes.arbitrary()?,
            channel: "pm_pm".to_owned(),
            statement_timeout: ms(700),
        };
        let now = Instant::from_start(ms(1_000));
        let mut scenario = Scenario {
            worker: Worker::new(options, now),
            entropy: Counting(1),
            now,
            prefetch,
            in_flight: Vec::new(),
            taken_jobs: Vec::new(),
            waiting: BTreeSet::new(),
            finished: BTreeSet::new(),
        };
        scenario.pump();
        Ok(scenario)
    }

    fn step(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let now = self.now;
        match bytes.int_in_range(0..=15u8)? {
            0..=3 => self.answer(bytes)?,
            4 => self.fail(bytes)?,
            5 => self.now = now + ms(bytes.arbitrary::<u16>()?.into()),
            6 => self.now = self.worker.poll_timeout().map_or(now, |(at, _)| at.max(now)),
            7..=8 => self.taken_jobs.extend(self.worker.next_job(now)),
            9 => self.settle(bytes)?,
            10 => {
                if let Some(taken) = self.taken_jobs.last() {
                    self.waiting.insert(self.worker.extend(taken.job.lease));
                }
            }
            11 => self.worker.handle_wake_up(bytes.choose(&["a", "b", "c"])?, bytes.int_in_range(-1..=3)?, now),
            12 => {
                let priority = bytes.arbitrary::<bool>()?.then_some(bytes.int_in_range(-1..=3)?);
                self.worker.handle_notification(Notification { queue_id: bytes.int_in_range(0..=3)?, priority }, now);
            }
            13 => self.worker.set_listening(bytes.arbitrary::<bool>()?.then_some(ms(4_000)), now),
            14 => self.worker.handle_change(now),
            _ => self.rarely(bytes)?,
        }
        Ok(())
    }

    fn rarely(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        match bytes.int_in_range(0..=7u8)? {
            0 => self.worker.shut_down(self.now),
            1 => self.worker.handle_lost_claim(bytes.int_in_range(0..=3)?, self.now),
            2 => {
                if let Some(taken) = self.taken_jobs.pop() {
                    self.worker.forget(&taken.job.lease);
                }
            }
            3..=4 => {
                if let Some(taken) = self.taken_jobs.last() {
                    let length = ms(bytes.arbitrary::<u16>()?.into());
                    self.worker.adopt(&taken.job, self.now - ms(5), length, &Backoff::default(), self.now);
                }
            }
            5 => {
                if let Some(taken) = self.taken_jobs.last() {
                    self.worker.rest(taken.job.lease);
                }
            }
            6 => {
                if let Some(lease) = self.taken_jobs.last().map(|taken| taken.job.lease) {
                    match bytes.arbitrary()? {
                        true => self.waiting.extend(self.worker.resume_and_extend(lease, self.now)),
                        false => self.worker.resume(lease),
                    }
                }
            }
            // Settles a lease that never existed.
            _ => {
                let lease = Lease { job: uuid::Uuid::from_u128(bytes.int_in_range(0..=3)?), number: 7 };
                self.waiting.insert(self.worker.settle(lease, Verdict::Commit, self.now, 0));
            }
        }
        Ok(())
    }

    fn settle(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        if self.taken_jobs.is_empty() {
            return Ok(());
        }
        let taken = self.taken_jobs.swap_remove(bytes.choose_index(self.taken_jobs.len())?);
        let verdict = match bytes.int_in_range(0..=3u8)? {
            0 => Verdict::Release,
            1 => Verdict::SoftFail(Reason::new("no")),
            2 => Verdict::HardFail(Reason::new("never")),
            _ => Verdict::Commit,
        };
        self.waiting.insert(self.worker.settle(taken.job.lease, verdict, self.now, bytes.arbitrary()?));
        Ok(())
    }

    fn answer(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        if self.in_flight.is_empty() {
            return Ok(());
        }
        let request = self.in_flight.remove(bytes.choose_index(self.in_flight.len())?);
        let columns = CATALOG.statement(request.plan().statement).columns;
        let reply = rows(bytes, columns)?;
        self.worker.handle_reply(request, Ok(reply), self.now, &mut self.entropy);
        Ok(())
    }

    fn fail(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        if self.in_flight.is_empty() {
            return Ok(());
        }
        let request = self.in_flight.remove(bytes.choose_index(self.in_flight.len())?);
        let failure = match bytes.int_in_range(0..=5u8)? {
            0 => Failure::not_sent("refused"),
            1 => Failure::no_reply("cut"),
            2 => Failure::reported("40P01", None, "deadlock"),
            3 => Failure::reported("55P03", None, "locked"),
            4 => Failure::reported("42P01", None, "no such table"),
            _ => Failure::reported("22021", None, "never"),
        };
        self.worker.handle_reply(request, Err(failure), self.now, &mut self.entropy);
        Ok(())
    }

    /// Does the steps of a driver after each input.
    fn pump(&mut self) {
        self.worker.handle_timeout(self.now);
        while let Some(request) = self.worker.poll_request(self.now, &mut self.entropy) {
            self.check(&request);
            self.in_flight.push(request);
        }
        while let Some(event) = self.worker.poll_event() {
            let request_id = match &event {
                WorkerEvent::Settled { request_id, .. } | WorkerEvent::Extended { request_id, .. } => *request_id,
                WorkerEvent::LeaseLost(_)
                | WorkerEvent::CancelRequested(_)
                | WorkerEvent::Failed(_)
                | WorkerEvent::Claimed { .. }
                | WorkerEvent::Reaped(_) => continue,
            };
            assert!(self.finished.insert(request_id), "two outcomes: {event:?}");
            self.waiting.remove(&request_id);
        }
        let next = self.worker.poll_timeout();
        assert!(next.is_none_or(|(at, _)| at > self.now), "a busy loop at {:?}: {next:?}", self.now);
    }

    fn check(&self, request: &WorkerRequest) {
        let plan = request.plan();
        let is_same = |other: &WorkerRequest| other.plan().statement == plan.statement;
        assert!(!self.in_flight.iter().any(is_same), "two {:?} in flight", plan.statement);
        if let (StatementId::Claim, Some(Value::Int8(limit))) = (plan.statement, plan.params.get(3)) {
            assert!((1..=self.prefetch.max(1) as i64).contains(limit), "a claim of {limit} jobs");
        }
        if let Some(Value::UuidArray(jobs)) = plan.params.first() {
            assert!(jobs.len() <= MAX_BATCH && jobs.is_sorted(), "{jobs:?}");
        }
    }

    /// Shuts the worker down and fails all its requests permanently: then every request of a user must have an outcome.
    fn end(&mut self) {
        self.worker.shut_down(self.now);
        for _ in 0..4 * (self.waiting.len() + 20) {
            self.pump();
            match self.in_flight.pop() {
                Some(request) => {
                    let failure = Failure::reported("22021", None, "never");
                    self.worker.handle_reply(request, Err(failure), self.now, &mut self.entropy);
                }
                None => match self.worker.poll_timeout() {
                    Some((at, _)) => self.now = at,
                    None => break,
                },
            }
        }
        assert!(self.waiting.is_empty(), "without outcome: {:?} {:#?}", self.waiting, self.worker);
    }
}
