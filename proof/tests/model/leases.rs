//! A model of leases: two workers, two jobs, an operator, the reaper, time, and a network that loses replies.
//!
//! The next state of a job is that of [`State::after`], so that the model and the table cannot drift apart. Lease
//! numbers that occur nowhere in a scenario are reused, which makes the model finite without changing its behaviour.

use pm_core::{Event, State};
use stateright::{Model, Property};

/// The length of a lease, in ticks of the clock.
const LEASE: u8 = 2;
/// How much earlier its holder stops trusting it. The database's clock may run ahead by as much, so that the lease may
/// expire that much earlier.
const MARGIN: u8 = 1;
/// How many soft failures are retried.
const MAX_RETRIES: u8 = 1;

/// A mistake that the design guards against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mistake {
    /// A settlement counts even if another worker has the job.
    NoFence,
    /// A settlement counts in any state of the job.
    BlindSettle,
    /// The reaper ends leases that have not expired.
    EarlyReap,
    /// A holder trusts its lease until the last tick.
    NoMargin,
    /// A holder measures its trust from the reply to the claim instead of its sending.
    TrustFromReply,
    /// A restart does not keep the record of how the previous lease ended.
    ForgetfulRestart,
}

/// The model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leases {
    /// The maximum number of settlements in flight.
    pub(crate) max_settlements: usize,
    /// The mistake that is made, if any.
    pub(crate) mistake: Option<Mistake>,
}

type Number = u8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Job {
    pub(crate) state: State,
    /// The lease that may settle it.
    lease: Option<Number>,
    /// Ticks until its lease may expire.
    left: u8,
    failures: u8,
    /// How often it ended since the last restart.
    endings: u8,
}

/// The state of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Claim {
    InFlight,
    Claimed { job: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Worker {
    Idle,
    Claiming {
        lease: Number,
        age: u8,
        claim: Claim,
    },
    /// The reply to the claim was lost: the job that it has claimed, or will claim, is released.
    Releasing {
        lease: Number,
        has_run: bool,
    },
    Working {
        lease: Number,
        job: usize,
        trust: u8,
    },
    /// The worker repeats a settlement until it gets a reply.
    Settling {
        settlement: Settlement,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Settlement {
    lease: Number,
    job: usize,
    event: Event,
}

/// What has happened to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct History {
    /// The settlement that the database has recorded.
    recorded: Option<Event>,
    /// The settlement that counted, which only the model knows.
    counted: Option<Event>,
    /// Whether an operator broke the lease.
    broken: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scenario {
    pub(crate) jobs: [Job; 2],
    pub(crate) workers: [Worker; 2],
    /// The settlements in flight, which may arrive in any order, late, or never.
    settlements: Vec<Settlement>,
    histories: Vec<History>,
    late_settlement_counted: bool,
    wrong_answer: bool,
    reaped_while_working: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    SendClaim(usize),
    RunClaim(usize, usize),
    /// The claim finds no job; whether its reply is lost makes no difference.
    RunEmptyClaim(usize),
    AnswerClaim(usize),
    LoseReply(usize),
    ReleaseClaim(usize),
    Extend(usize),
    ExtendUnanswered(usize),
    Settle(usize, Event),
    Repeat(usize),
    /// The worker settled the job in a transaction, does not know whether that has committed, and soft-fails the job.
    Doubt(usize),
    Deliver(Settlement),
    DeliverUnanswered(Settlement),
    DropSettlement(Settlement),
    Crash(usize),
    Tick,
    Reap(usize),
    Restart(usize),
    Done(usize),
}

impl Action {
    /// Returns whether the action needs neither a fault nor an operator.
    pub(crate) fn is_ordinary(self) -> bool {
        use Action::*;
        !matches!(
            self,
            LoseReply(_)
                | ExtendUnanswered(_)
                | Doubt(_)
                | DeliverUnanswered(_)
                | DropSettlement(_)
                | Crash(_)
                | Restart(_)
                | Done(_)
        )
    }
}

impl Job {
    fn key(&self) -> (State, u8, u8) {
        (self.state, self.left, self.failures)
    }
}

impl Worker {
    fn settlement(&self) -> Option<Settlement> {
        if let Worker::Settling { settlement } = self { Some(*settlement) } else { None }
    }
}

impl Scenario {
    fn new() -> Self {
        let job = Job { state: State::Pending, lease: None, left: 0, failures: 0, endings: 0 };
        Scenario {
            jobs: [job; 2],
            workers: [Worker::Idle; 2],
            settlements: Vec::new(),
            histories: Vec::new(),
            late_settlement_counted: false,
            wrong_answer: false,
            reaped_while_working: false,
        }
    }

    /// Applies an event to a job; returns whether the state table allows it.
    fn apply(&mut self, job: usize, event: Event) -> bool {
        let row = &mut self.jobs[job];
        let Some(next) = row.state.after(event) else { return false };
        self.change_state(job, event, next);
        true
    }

    fn change_state(&mut self, job: usize, event: Event, next: State) {
        let row = &mut self.jobs[job];
        match event {
            Event::SoftFail | Event::LastSoftFail | Event::Reap | Event::LastReap => row.failures += 1,
            Event::ForceRestart => (row.failures, row.endings) = (0, 0),
            _ => {}
        }
        row.endings += u8::from(next.is_ended());
        row.state = next;
        if next != State::InProgress {
            (row.lease, row.left) = (None, 0);
        }
        if next.is_ended() {
            row.failures = 0;
        }
    }

    fn lease_numbers(&mut self) -> impl Iterator<Item = &mut Number> {
        let jobs = self.jobs.iter_mut().filter_map(|job| job.lease.as_mut());
        let workers = self.workers.iter_mut().filter_map(|worker| match worker {
            Worker::Idle => None,
            Worker::Claiming { lease, .. } | Worker::Releasing { lease, .. } | Worker::Working { lease, .. } => {
                Some(lease)
            }
            Worker::Settling { settlement } => Some(&mut settlement.lease),
        });
        jobs.chain(workers).chain(self.settlements.iter_mut().map(|settlement| &mut settlement.lease))
    }

    /// Normalizes the scenario: those that differ only in the order of jobs and workers, in lease numbers, or in data
    /// that is not used any more become equal.
    fn simplify(&mut self) {
        if self.jobs[0].key() > self.jobs[1].key() {
            self.jobs.swap(0, 1);
            self.job_indexes().for_each(|job| *job = 1 - *job);
        }
        self.renumber();
        self.workers.sort();
        self.settlements.sort();
        self.renumber();
        let used: Vec<_> =
            self.settlements.iter().copied().chain(self.workers.iter().filter_map(Worker::settlement)).collect();
        for (number, history) in self.histories.iter_mut().enumerate() {
            match used.iter().any(|settlement| usize::from(settlement.lease) == number) {
                true => history.broken = false,
                false => *history = History { broken: history.broken, ..History::default() },
            }
        }
    }

    /// Numbers leases in the order of their occurrence, and drops the histories of those that do not occur.
    fn renumber(&mut self) {
        let mut order: Vec<Number> = Vec::new();
        for number in self.lease_numbers() {
            let index = order.iter().position(|other| other == number).unwrap_or_else(|| {
                order.push(*number);
                order.len() - 1
            });
            *number = index as Number;
        }
        self.histories = order.iter().map(|number| self.histories[usize::from(*number)]).collect();
    }

    fn job_indexes(&mut self) -> impl Iterator<Item = &mut usize> {
        let workers = self.workers.iter_mut().filter_map(|worker| match worker {
            Worker::Claiming { claim: Claim::Claimed { job }, .. } | Worker::Working { job, .. } => Some(job),
            Worker::Settling { settlement } => Some(&mut settlement.job),
            Worker::Idle | Worker::Claiming { .. } | Worker::Releasing { .. } => None,
        });
        workers.chain(self.settlements.iter_mut().map(|settlement| &mut settlement.job))
    }

    fn is_trusted(&self, worker: usize, job: usize) -> bool {
        let Worker::Working { lease, job: leased, trust, .. } = self.workers[worker] else { return false };
        leased == job && trust > 0 && !self.histories[usize::from(lease)].broken
    }
}

impl Leases {
    fn makes(self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    fn trust(self, since_sent: u8) -> u8 {
        let margin = if self.makes(Mistake::NoMargin) { 0 } else { MARGIN };
        let since = if self.makes(Mistake::TrustFromReply) { 0 } else { since_sent };
        (LEASE - margin).saturating_sub(since)
    }

    /// Runs a claim in the database.
    fn run_claim(self, scenario: &mut Scenario, job: usize, lease: Number) -> Option<Claim> {
        scenario.apply(job, Event::Claim).then(|| {
            let row = &mut scenario.jobs[job];
            (row.lease, row.left) = (Some(lease), LEASE - MARGIN);
            Claim::Claimed { job }
        })
    }

    /// Runs a settlement in the database; returns whether its reply reports that it counts.
    fn run_settlement(self, scenario: &mut Scenario, settlement: Settlement) -> bool {
        let is_holder = scenario.jobs[settlement.job].lease == Some(settlement.lease);
        let counts = if self.makes(Mistake::BlindSettle) {
            let next = State::InProgress.after(settlement.event);
            next.is_some_and(|next| {
                scenario.change_state(settlement.job, settlement.event, next);
                true
            })
        } else {
            (is_holder || self.makes(Mistake::NoFence)) && scenario.apply(settlement.job, settlement.event)
        };
        let history = &mut scenario.histories[usize::from(settlement.lease)];
        if counts {
            scenario.late_settlement_counted |= !is_holder;
            (history.recorded, history.counted) = (Some(settlement.event), Some(settlement.event));
        }
        counts || history.recorded == Some(settlement.event)
    }

    fn extend(self, scenario: &mut Scenario, worker: usize, is_answered: bool) {
        let Worker::Working { lease, job, trust, .. } = &mut scenario.workers[worker] else { return };
        let row = &mut scenario.jobs[*job];
        let holds = row.lease == Some(*lease);
        if holds {
            row.left = LEASE - MARGIN;
        }
        match (is_answered, holds) {
            (false, _) => {}
            (true, true) => *trust = self.trust(0),
            (true, false) => scenario.workers[worker] = Worker::Idle,
        }
    }

    fn break_lease(self, scenario: &mut Scenario, job: usize, event: Event) -> bool {
        let holder = scenario.jobs[job].lease;
        if self.makes(Mistake::ForgetfulRestart) && event == Event::ForceRestart {
            let repeated = scenario.workers.iter().filter_map(Worker::settlement);
            for settlement in
                scenario.settlements.iter().copied().chain(repeated).filter(|settlement| settlement.job == job)
            {
                scenario.histories[usize::from(settlement.lease)].recorded = None;
            }
        }
        let is_applied = scenario.apply(job, event);
        if let Some(lease) = holder.filter(|_| is_applied) {
            scenario.histories[usize::from(lease)].broken = true;
        }
        is_applied
    }

    fn deliver(self, scenario: &mut Scenario, settlement: Settlement, is_answered: bool) {
        drop_settlement(scenario, settlement);
        let answer = self.run_settlement(scenario, settlement);
        let waits = |worker: &&mut Worker| **worker == Worker::Settling { settlement };
        if let Some(worker) = scenario.workers.iter_mut().find(waits).filter(|_| is_answered) {
            scenario.wrong_answer |=
                answer != (scenario.histories[usize::from(settlement.lease)].counted == Some(settlement.event));
            *worker = Worker::Idle;
        }
    }

    /// Applies an action of a worker; `None` if it is impossible.
    fn work(self, scenario: &mut Scenario, action: Action) -> Option<()> {
        match action {
            Action::SendClaim(worker) => {
                let lease = scenario.histories.len() as Number;
                scenario.histories.push(History::default());
                scenario.workers[worker] = Worker::Claiming { lease, age: 0, claim: Claim::InFlight };
            }
            Action::RunClaim(worker, job) => match scenario.workers[worker] {
                Worker::Claiming { lease, age, .. } => {
                    let claim = self.run_claim(scenario, job, lease)?;
                    scenario.workers[worker] = Worker::Claiming { lease, age, claim };
                }
                Worker::Releasing { lease, .. } => {
                    self.run_claim(scenario, job, lease)?;
                    scenario.workers[worker] = Worker::Releasing { lease, has_run: true };
                }
                _ => return None,
            },
            Action::AnswerClaim(worker) => {
                let Worker::Claiming { lease, age, claim } = scenario.workers[worker] else { return None };
                scenario.workers[worker] = match claim {
                    Claim::Claimed { job } => Worker::Working { lease, job, trust: self.trust(age) },
                    Claim::InFlight => return None,
                };
            }
            Action::LoseReply(worker) => {
                let Worker::Claiming { lease, claim, .. } = scenario.workers[worker] else { return None };
                scenario.workers[worker] = Worker::Releasing { lease, has_run: claim != Claim::InFlight };
            }
            Action::RunEmptyClaim(worker) | Action::Crash(worker) => scenario.workers[worker] = Worker::Idle,
            Action::ReleaseClaim(worker) => {
                let Worker::Releasing { lease, has_run } = scenario.workers[worker] else { return None };
                if let Some(job) = scenario.jobs.iter().position(|job| job.lease == Some(lease)) {
                    scenario.apply(job, Event::Release);
                }
                if has_run {
                    scenario.workers[worker] = Worker::Idle;
                }
            }
            Action::Extend(worker) => self.extend(scenario, worker, true),
            Action::ExtendUnanswered(worker) => self.extend(scenario, worker, false),
            Action::Settle(worker, event) => {
                let Worker::Working { lease, job, .. } = scenario.workers[worker] else { return None };
                let settlement = Settlement { lease, job, event };
                scenario.workers[worker] = Worker::Settling { settlement };
                scenario.settlements.push(settlement);
            }
            Action::Repeat(worker) => {
                let Worker::Settling { settlement } = scenario.workers[worker] else { return None };
                scenario.settlements.push(settlement);
            }
            Action::Doubt(worker) => {
                let Worker::Settling { settlement } = scenario.workers[worker] else { return None };
                let event = soft_fail(&scenario.jobs[settlement.job]);
                scenario.workers[worker] = Worker::Settling { settlement: Settlement { event, ..settlement } };
            }
            _ => return None,
        }
        Some(())
    }
}

fn soft_fail(job: &Job) -> Event {
    if job.failures == MAX_RETRIES { Event::LastSoftFail } else { Event::SoftFail }
}

fn drop_settlement(scenario: &mut Scenario, settlement: Settlement) {
    let index = scenario.settlements.iter().position(|other| *other == settlement);
    if let Some(index) = index {
        scenario.settlements.remove(index);
    }
}

fn tick(scenario: &mut Scenario) {
    for job in &mut scenario.jobs {
        job.left = job.left.saturating_sub(1);
    }
    for worker in &mut scenario.workers {
        match worker {
            Worker::Claiming { age, .. } => *age = (*age + 1).min(LEASE - MARGIN),
            Worker::Working { trust, .. } => *trust = trust.saturating_sub(1),
            Worker::Idle | Worker::Releasing { .. } | Worker::Settling { .. } => {}
        }
    }
}

impl Model for Leases {
    type State = Scenario;
    type Action = Action;

    fn init_states(&self) -> Vec<Scenario> {
        vec![Scenario::new()]
    }

    fn actions(&self, scenario: &Scenario, actions: &mut Vec<Action>) {
        for (n, worker) in scenario.workers.iter().enumerate() {
            let room = scenario.settlements.len() < self.max_settlements;
            match *worker {
                Worker::Idle => actions.push(Action::SendClaim(n)),
                Worker::Claiming { claim: Claim::InFlight, .. } | Worker::Releasing { has_run: false, .. } => {
                    actions.extend([Action::RunClaim(n, 0), Action::RunClaim(n, 1), Action::RunEmptyClaim(n)]);
                    let is_lost = matches!(worker, Worker::Releasing { .. });
                    actions.push(if is_lost { Action::ReleaseClaim(n) } else { Action::LoseReply(n) });
                }
                Worker::Claiming { .. } => actions.extend([Action::AnswerClaim(n), Action::LoseReply(n)]),
                Worker::Releasing { .. } => actions.extend([Action::ReleaseClaim(n), Action::Crash(n)]),
                Worker::Working { job, .. } => {
                    actions.extend([Action::Extend(n), Action::ExtendUnanswered(n), Action::Crash(n)]);
                    // The claim returned how often the job has failed.
                    let events = [Event::Commit, soft_fail(&scenario.jobs[job])];
                    actions.extend(events.map(|event| Action::Settle(n, event)).into_iter().filter(|_| room));
                }
                Worker::Settling { settlement } => {
                    actions.push(Action::Crash(n));
                    actions.extend((settlement.event == Event::Commit).then_some(Action::Doubt(n)));
                    actions.extend(room.then_some(Action::Repeat(n)));
                }
            }
        }
        let mut settlements = scenario.settlements.clone();
        settlements.dedup();
        for settlement in settlements {
            actions.extend([
                Action::Deliver(settlement),
                Action::DeliverUnanswered(settlement),
                Action::DropSettlement(settlement),
            ]);
        }
        for job in 0..scenario.jobs.len() {
            actions.extend([Action::Reap(job), Action::Restart(job), Action::Done(job)]);
        }
        actions.push(Action::Tick);
    }

    fn next_state(&self, before: &Scenario, action: Action) -> Option<Scenario> {
        let mut scenario = before.clone();
        match action {
            Action::Tick => tick(&mut scenario),
            Action::Reap(job) => {
                let Job { left, failures, lease, .. } = scenario.jobs[job];
                let is_expired = left == 0 || self.makes(Mistake::EarlyReap);
                let event = if failures < MAX_RETRIES { Event::Reap } else { Event::LastReap };
                if !is_expired || !scenario.apply(job, event) {
                    return None;
                }
                let is_working =
                    |worker: &Worker| matches!(worker, Worker::Working { lease: other, .. } if Some(*other) == lease);
                scenario.reaped_while_working |= scenario.workers.iter().any(is_working);
            }
            Action::Restart(job) => self.break_lease(&mut scenario, job, Event::ForceRestart).then_some(())?,
            Action::Done(job) => self.break_lease(&mut scenario, job, Event::Done).then_some(())?,
            Action::Deliver(settlement) => self.deliver(&mut scenario, settlement, true),
            Action::DeliverUnanswered(settlement) => self.deliver(&mut scenario, settlement, false),
            Action::DropSettlement(settlement) => drop_settlement(&mut scenario, settlement),
            action => self.work(&mut scenario, action)?,
        }
        scenario.simplify();
        (scenario != *before).then_some(scenario)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(TWO_TRUSTED, |_, scenario: &Scenario| {
                (0..2).all(|job| !(scenario.is_trusted(0, job) && scenario.is_trusted(1, job)))
            }),
            Property::always(ONE_ENDING, |_, scenario: &Scenario| {
                scenario.jobs.iter().all(|job| job.endings == u8::from(job.state.is_ended()))
            }),
            Property::always(LATE_SETTLEMENT, |_, scenario: &Scenario| !scenario.late_settlement_counted),
            Property::always(TRUE_ANSWER, |_, scenario: &Scenario| !scenario.wrong_answer),
            Property::sometimes(EXPIRY, |_, scenario: &Scenario| scenario.reaped_while_working),
            Property::sometimes(ALL_DONE, |_, scenario: &Scenario| {
                scenario.jobs.iter().all(|job| job.state.is_ended())
            }),
        ]
    }
}

pub(crate) const TWO_TRUSTED: &str = "never two trusted leases";
pub(crate) const ONE_ENDING: &str = "one ending between restarts";
pub(crate) const LATE_SETTLEMENT: &str = "a late settlement changes nothing";
pub(crate) const TRUE_ANSWER: &str = "an answer reports what became of the settlement";
const EXPIRY: &str = "a lease expires while its holder works";
const ALL_DONE: &str = "all jobs end";
