//! Drives a worker against the memory driver's database in virtual time, and checks invariants at every step.

use super::database::Database;
use pm_core::machine::{
    Entropy, Machine, Request, RequestId, Trouble, Worker, WorkerEvent, WorkerOptions, WorkerRequest,
};
use pm_core::{Failure, Instant, Lease, Plan, QueueName, Rows, StatementId, TakenJob, Value, Verdict, trusted_for};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use uuid::Uuid;

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn at(ms: u64) -> Instant {
    Instant::from_start(Duration::from_millis(ms))
}

/// Random bits from a seed (splitmix64).
#[derive(Debug)]
pub(super) struct Seeded(pub(super) u64);

impl Entropy for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) request: WorkerRequest,
    pub(super) at: Instant,
    /// Its reply, if it has run already.
    pub(super) ran: Option<Rows>,
}

/// A fault of a request.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// It fails without running.
    Fails(Failure),
    /// It runs, and its reply is lost.
    LosesReply,
}

/// A request that was sent, for assertions.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Logged {
    pub(super) at: Instant,
    pub(super) statement: StatementId,
    /// Its scalar `int8` parameters: for a claim, the limit and the lease.
    pub(super) numbers: Vec<i64>,
    /// The jobs that it names.
    pub(super) jobs: Vec<Uuid>,
}

#[derive(Debug)]
pub(super) struct Rig {
    pub(super) worker: Worker,
    pub(super) database: Database,
    pub(super) now: Instant,
    pub(super) in_flight: Vec<Sent>,
    pub(super) log: Vec<Logged>,
    pub(super) settled: BTreeMap<RequestId, Result<(), Trouble>>,
    pub(super) extended: BTreeMap<RequestId, Result<Duration, Trouble>>,
    pub(super) lost: Vec<Lease>,
    pub(super) cancelled: Vec<Lease>,
    pub(super) failed: Vec<Trouble>,
    /// How long a request takes in [`Rig::run_for`]. It runs at the end of this time.
    pub(super) latency: Duration,
    /// Whether requests run when they are sent, and only their replies take the latency.
    pub(super) replies_are_late: bool,
    /// Kinds of requests that get no reply for now.
    pub(super) unanswered: BTreeSet<StatementId>,
    /// Whether replies are random, so that their leases and counts mean nothing.
    pub(super) answers_oddly: bool,
    faults: BTreeMap<StatementId, VecDeque<Fault>>,
    claims: BTreeMap<i64, Instant>,
    prefetch: usize,
    statement_timeout: Duration,
    pub(super) entropy: Seeded,
}

/// Returns options of a worker that follows queue `a` and polls every 0.1 to 1 s.
pub(super) fn options() -> WorkerOptions {
    WorkerOptions {
        queues: vec![QueueName::new("a").expect("a valid name")],
        worker: "w".to_owned(),
        prefetch: 10,
        heartbeat: None,
        poll_least: ms(100),
        poll_most: ms(1_000),
        reaps: true,
        channel: "pm_pm".to_owned(),
        statement_timeout: ms(3_000),
    }
}

impl Rig {
    /// Returns a worker on a database with queue `a`, whose id is 1.
    pub(super) fn new(options: WorkerOptions) -> Self {
        let now = at(1_000);
        Rig {
            prefetch: options.prefetch,
            statement_timeout: options.statement_timeout,
            worker: Worker::new(options, now),
            database: Database::new(),
            now,
            in_flight: Vec::new(),
            log: Vec::new(),
            settled: BTreeMap::new(),
            extended: BTreeMap::new(),
            lost: Vec::new(),
            cancelled: Vec::new(),
            failed: Vec::new(),
            latency: ms(2),
            replies_are_late: false,
            unanswered: BTreeSet::new(),
            answers_oddly: false,
            faults: BTreeMap::new(),
            claims: BTreeMap::new(),
            entropy: Seeded(7),
        }
    }

    /// Adds jobs to queue 1 at priority 0.
    pub(super) fn add_jobs(&mut self, count: usize) -> Vec<Uuid> {
        (0..count).map(|_| self.database.add_job(1, 0, None)).collect()
    }

    /// Sets the fault of the next requests of a kind.
    pub(super) fn fault(&mut self, statement: StatementId, fault: Fault, times: usize) {
        self.faults.entry(statement).or_default().extend(std::iter::repeat_n(fault, times));
    }

    /// Does steps 2, 4, 5 and 6 of a driver's loop.
    pub(super) fn pump(&mut self) {
        self.worker.handle_timeout(self.now);
        while let Some(request) = self.worker.poll_request(self.now, &mut self.entropy) {
            self.record(&request);
            let sent = Sent { request, at: self.now, ran: None };
            let kind = kind_of(&sent);
            assert!(self.in_flight.iter().all(|other| kind_of(other) != kind), "two {kind:?} in flight");
            self.in_flight.push(sent);
            if self.replies_are_late {
                self.run(self.in_flight.len() - 1).expect("it runs at once");
            }
        }
        while let Some(event) = self.worker.poll_event() {
            self.take_event(event);
        }
        let next = self.worker.poll_timeout();
        assert!(next.is_none_or(|(at, _)| at > self.now), "a busy loop at {:?}: {next:?}", self.now);
        for (lease, (end, _)) in self.database.lease_ends.iter().filter(|_| !self.answers_oddly) {
            assert!(!self.worker.is_trusted(lease, self.now) || self.now < *end, "{lease} is trusted after its end");
        }
    }

    fn record(&mut self, request: &WorkerRequest) {
        let plan = request.plan();
        let jobs = jobs_of(&plan);
        let Plan { statement, params } = plan;
        let number = |param: &Value<'_>| if let Value::Int8(number) = param { Some(*number) } else { None };
        let numbers: Vec<_> = params.iter().filter_map(number).collect();
        if statement == StatementId::Claim {
            assert!((1..=self.prefetch.max(1) as i64).contains(&numbers[0]), "a claim of {} jobs", numbers[0]);
            self.claims.insert(numbers[1], self.now);
        }
        assert!(jobs.is_sorted(), "jobs must be locked in the order of their ids");
        assert!(jobs.len() <= 500, "{} jobs in one statement", jobs.len());
        self.log.push(Logged { at: self.now, statement: kind(statement), numbers, jobs });
    }

    fn take_event(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::Settled { request_id, outcome } => {
                assert!(self.settled.insert(request_id, outcome).is_none(), "{request_id:?} has two outcomes");
            }
            WorkerEvent::Extended { request_id, outcome } => {
                assert!(self.extended.insert(request_id, outcome).is_none(), "{request_id:?} has two outcomes");
            }
            WorkerEvent::LeaseLost(lease) => self.lost.push(lease),
            WorkerEvent::CancelRequested(lease) => self.cancelled.push(lease),
            WorkerEvent::Failed(trouble) => self.failed.push(trouble),
            // Reported only on request.
            WorkerEvent::Claimed { .. } | WorkerEvent::Reaped(_) => {}
        }
    }

    /// Runs a request in flight in the database, unless it has timed out.
    pub(super) fn run(&mut self, index: usize) -> Result<(), Failure> {
        let sent = &mut self.in_flight[index];
        if sent.ran.is_none() {
            if self.now > sent.at + self.statement_timeout {
                return Err(Failure::reported("57014", None, "statement timeout"));
            }
            sent.ran = Some(self.database.run(&sent.request.plan(), self.now)?);
        }
        Ok(())
    }

    /// Runs a request in flight, if it has not run, and handles its reply.
    pub(super) fn answer(&mut self, index: usize) {
        let ran = self.run(index);
        let sent = self.in_flight.remove(index);
        let reply = ran.map(|()| sent.ran.expect("it has just run"));
        self.worker.handle_reply(sent.request, reply, self.now, &mut self.entropy);
    }

    /// Fails a request in flight.
    pub(super) fn fail(&mut self, index: usize, failure: Failure) {
        let sent = self.in_flight.remove(index);
        self.worker.handle_reply(sent.request, Err(failure), self.now, &mut self.entropy);
    }

    /// Runs a request in flight and loses its reply.
    pub(super) fn lose_reply(&mut self, index: usize) {
        let _may_have_timed_out = self.run(index);
        self.fail(index, Failure::no_reply("cut"));
    }

    /// Fails a request in flight as the driver does when it stops waiting; returns it, as it may still run.
    pub(super) fn give_up(&mut self, index: usize) -> Sent {
        let sent = self.in_flight.remove(index);
        let failure = Failure::no_reply("cut");
        self.worker.handle_reply(sent.request.clone(), Err(failure), self.now, &mut self.entropy);
        sent
    }

    fn answer_as_planned(&mut self, index: usize) {
        match self.faults.get_mut(&kind_of(&self.in_flight[index])).and_then(VecDeque::pop_front) {
            None => self.answer(index),
            Some(Fault::Fails(failure)) => self.fail(index, failure),
            Some(Fault::LosesReply) => self.lose_reply(index),
        }
    }

    /// Advances the time: requests get replies after the latency, and timers fire.
    pub(super) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        for _ in 0..100_000 {
            self.pump();
            let due = |sent: &Sent| sent.at + self.latency;
            let open = self.in_flight.iter().enumerate().filter(|(_, sent)| !self.unanswered.contains(&kind_of(sent)));
            let next_answer = open.map(|(index, sent)| (due(sent), index)).min();
            match next_answer {
                Some((at, index)) if at <= self.now => {
                    self.answer_as_planned(index);
                    continue;
                }
                _ if self.now == end => return,
                _ => {}
            }
            let soonest = next_answer.map(|(at, _)| at).into_iter().chain(self.timer()).min();
            self.now = soonest.unwrap_or(end).min(end);
        }
        panic!("100,000 steps within {duration:?}: {:?}", &self.log[self.log.len() - 20..]);
    }

    /// Returns the worker's next timeout.
    pub(super) fn timer(&self) -> Option<Instant> {
        self.worker.poll_timeout().map(|(at, _)| at)
    }

    /// Takes the next job, as an idle handler does.
    pub(super) fn next(&mut self) -> Option<TakenJob> {
        let taken = self.worker.next_job(self.now)?;
        let lease = taken.job.lease;
        let (_, length) = self.database.lease_ends[&lease];
        let trusted_until = self.claims[&lease.number] + trusted_for(length);
        assert!(self.now < trusted_until, "{lease} is handed out after its trust has ended");
        Some(taken)
    }

    /// Takes the next job; waits up to a second for it.
    pub(super) fn wait_next(&mut self) -> TakenJob {
        for _ in 0..100 {
            if let Some(taken) = self.next() {
                return taken;
            }
            self.run_for(ms(10));
        }
        panic!("no job came within a second: {:?}", self.log);
    }

    pub(super) fn settle(&mut self, taken: &TakenJob, verdict: Verdict) -> RequestId {
        self.worker.settle(taken.job.lease, verdict, self.now, 0)
    }

    /// Returns the times at which requests of a kind were sent.
    pub(super) fn times(&self, statement: StatementId) -> Vec<Instant> {
        self.sent(statement).map(|logged| logged.at).collect()
    }

    /// Returns the requests of a kind that were sent.
    pub(super) fn sent(&self, statement: StatementId) -> impl Iterator<Item = &Logged> {
        self.log.iter().filter(move |logged| logged.statement == statement)
    }

    /// Returns the index of the request of a kind in flight.
    pub(super) fn index_of(&self, statement: StatementId) -> Option<usize> {
        self.in_flight.iter().position(|sent| kind_of(sent) == statement)
    }

    /// Returns whether this worker claimed this lease.
    pub(super) fn claimed(&self, number: i64) -> bool {
        self.claims.contains_key(&number)
    }
}

/// Returns which statement a request sends, regardless of its form.
pub(super) fn kind_of(sent: &Sent) -> StatementId {
    kind(sent.request.plan().statement)
}

fn kind(statement: StatementId) -> StatementId {
    if statement == StatementId::SettleCommits { StatementId::Settle } else { statement }
}

fn jobs_of(plan: &Plan<'_>) -> Vec<Uuid> {
    match plan.params.first() {
        Some(Value::UuidArray(ids)) => ids.iter().flatten().copied().collect(),
        _ => Vec::new(),
    }
}
