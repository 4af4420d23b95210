//! Two workers, two jobs, an operator, time and a network that loses replies: everything they can do to leases.
//!
//! What a job becomes is asked of [`State::after`], so that this model and the table cannot drift apart.
//! Lease numbers that nobody remembers any more are used again, which makes the model finite and changes nothing.

use pm_core::{Event, State};
use stateright::{Model, Property};

/// How long a lease is, in ticks of the clock.
const LEASE: u8 = 2;
/// How much earlier its holder stops trusting it. The database's clock may run ahead by so much in the meantime, so that
/// a lease may be found expired that much earlier.
const MARGIN: u8 = 1;
/// How many soft failures are retried.
const MAX_RETRIES: u8 = 1;

/// A mistake that the design guards against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mistake {
    /// A word counts for whoever has the job.
    NoFence,
    /// A word counts in whatever state the job is.
    BlindSettle,
    /// The reaper takes leases that have not expired.
    EarlyReap,
    /// A holder trusts its lease to the last tick.
    NoMargin,
    /// A holder trusts its lease from when the claim was answered, not from when it was sent.
    TrustFromReply,
    /// A restart forgets what became of the lease before.
    ForgetfulRestart,
}

/// The model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leases {
    /// How many words are under way at most.
    pub(crate) most_words: usize,
    /// Which mistake is made, if any.
    pub(crate) mistake: Option<Mistake>,
}

type Number = u8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Job {
    pub(crate) state: State,
    /// Who may speak for it.
    lease: Option<Number>,
    /// Ticks until its lease may be found expired.
    left: u8,
    failures: u8,
    /// How often it ended since the last restart.
    endings: u8,
}

/// What a claim has come to in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Claim {
    UnderWay,
    Took { job: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Worker {
    Idle,
    Claiming {
        lease: Number,
        age: u8,
        claim: Claim,
    },
    /// The claim's reply was lost: what it took, or will take, is given back.
    GivingBack {
        lease: Number,
        has_run: bool,
    },
    Working {
        lease: Number,
        job: usize,
        trust: u8,
    },
    /// A word was said and is repeated until it is answered.
    Settling {
        word: Word,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Word {
    lease: Number,
    job: usize,
    event: Event,
}

/// What is known of a lease besides who holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Past {
    /// What the database remembers to have heard.
    heard: Option<Event>,
    /// Which of its words counted, which only the auditor knows.
    counted: Option<Event>,
    /// Whether an operator took the job away.
    broken: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scenario {
    pub(crate) jobs: [Job; 2],
    pub(crate) workers: [Worker; 2],
    /// Words under way, which may arrive in any order, late, or not at all.
    words: Vec<Word>,
    pasts: Vec<Past>,
    late_word_counted: bool,
    told_wrong: bool,
    reaped_at_work: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    SendClaim(usize),
    RunClaim(usize, usize),
    /// The claim finds nothing, and nobody minds whether it is told.
    RunEmptyClaim(usize),
    AnswerClaim(usize),
    LoseReply(usize),
    ReleaseClaim(usize),
    Extend(usize),
    ExtendUnanswered(usize),
    Say(usize, Event),
    Repeat(usize),
    /// It settled the job in a transaction of its own, does not know whether that has committed, and soft-fails the job.
    Doubt(usize),
    Deliver(Word),
    DeliverUnanswered(Word),
    DropWord(Word),
    Crash(usize),
    Tick,
    Reap(usize),
    Restart(usize),
    Done(usize),
}

impl Action {
    /// Whether it is what workers, reapers and time do by themselves while nothing breaks and nobody intervenes.
    pub(crate) fn is_ordinary(self) -> bool {
        use Action::*;
        !matches!(
            self,
            LoseReply(_)
                | ExtendUnanswered(_)
                | Doubt(_)
                | DeliverUnanswered(_)
                | DropWord(_)
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
    fn word(&self) -> Option<Word> {
        if let Worker::Settling { word } = self { Some(*word) } else { None }
    }
}

impl Scenario {
    fn new() -> Self {
        let job = Job { state: State::Pending, lease: None, left: 0, failures: 0, endings: 0 };
        Scenario {
            jobs: [job; 2],
            workers: [Worker::Idle; 2],
            words: Vec::new(),
            pasts: Vec::new(),
            late_word_counted: false,
            told_wrong: false,
            reaped_at_work: false,
        }
    }

    /// Lets an event happen to a job, if the table has it.
    fn happen(&mut self, job: usize, event: Event) -> bool {
        let row = &mut self.jobs[job];
        let Some(next) = row.state.after(event) else { return false };
        self.become_of(job, event, next);
        true
    }

    fn become_of(&mut self, job: usize, event: Event, next: State) {
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
            Worker::Claiming { lease, .. } | Worker::GivingBack { lease, .. } | Worker::Working { lease, .. } => {
                Some(lease)
            }
            Worker::Settling { word } => Some(&mut word.lease),
        });
        jobs.chain(workers).chain(self.words.iter_mut().map(|word| &mut word.lease))
    }

    /// Makes one scenario of all that differ only in the names of jobs, workers and leases or in what nobody asks for.
    fn simplify(&mut self) {
        if self.jobs[0].key() > self.jobs[1].key() {
            self.jobs.swap(0, 1);
            self.held_jobs().for_each(|job| *job = 1 - *job);
        }
        self.renumber();
        self.workers.sort();
        self.words.sort();
        self.renumber();
        let said: Vec<_> = self.words.iter().copied().chain(self.workers.iter().filter_map(Worker::word)).collect();
        for (number, past) in self.pasts.iter_mut().enumerate() {
            match said.iter().any(|word| usize::from(word.lease) == number) {
                true => past.broken = false,
                false => *past = Past { broken: past.broken, ..Past::default() },
            }
        }
    }

    /// Numbers leases in the order in which they are met, and forgets those that nobody remembers.
    fn renumber(&mut self) {
        let mut order: Vec<Number> = Vec::new();
        for number in self.lease_numbers() {
            let place = order.iter().position(|other| other == number).unwrap_or_else(|| {
                order.push(*number);
                order.len() - 1
            });
            *number = place as Number;
        }
        self.pasts = order.iter().map(|number| self.pasts[usize::from(*number)]).collect();
    }

    fn held_jobs(&mut self) -> impl Iterator<Item = &mut usize> {
        let workers = self.workers.iter_mut().filter_map(|worker| match worker {
            Worker::Claiming { claim: Claim::Took { job }, .. } | Worker::Working { job, .. } => Some(job),
            Worker::Settling { word } => Some(&mut word.job),
            Worker::Idle | Worker::Claiming { .. } | Worker::GivingBack { .. } => None,
        });
        workers.chain(self.words.iter_mut().map(|word| &mut word.job))
    }

    fn is_trusted(&self, worker: usize, job: usize) -> bool {
        let Worker::Working { lease, job: held, trust, .. } = self.workers[worker] else { return false };
        held == job && trust > 0 && !self.pasts[usize::from(lease)].broken
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
        scenario.happen(job, Event::Claim).then(|| {
            let row = &mut scenario.jobs[job];
            (row.lease, row.left) = (Some(lease), LEASE - MARGIN);
            Claim::Took { job }
        })
    }

    /// Runs a word in the database; returns whether it is told that it counts.
    fn run_word(self, scenario: &mut Scenario, word: Word) -> bool {
        let is_holder = scenario.jobs[word.job].lease == Some(word.lease);
        let counts = if self.makes(Mistake::BlindSettle) {
            let next = State::InProgress.after(word.event);
            next.is_some_and(|next| {
                scenario.become_of(word.job, word.event, next);
                true
            })
        } else {
            (is_holder || self.makes(Mistake::NoFence)) && scenario.happen(word.job, word.event)
        };
        let past = &mut scenario.pasts[usize::from(word.lease)];
        if counts {
            scenario.late_word_counted |= !is_holder;
            (past.heard, past.counted) = (Some(word.event), Some(word.event));
        }
        counts || past.heard == Some(word.event)
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

    fn take_away(self, scenario: &mut Scenario, job: usize, event: Event) -> bool {
        let holder = scenario.jobs[job].lease;
        if self.makes(Mistake::ForgetfulRestart) && event == Event::ForceRestart {
            let repeated = scenario.workers.iter().filter_map(Worker::word);
            for word in scenario.words.iter().copied().chain(repeated).filter(|word| word.job == job) {
                scenario.pasts[usize::from(word.lease)].heard = None;
            }
        }
        let happened = scenario.happen(job, event);
        if let Some(lease) = holder.filter(|_| happened) {
            scenario.pasts[usize::from(lease)].broken = true;
        }
        happened
    }

    fn deliver(self, scenario: &mut Scenario, word: Word, is_answered: bool) {
        drop_word(scenario, word);
        let told = self.run_word(scenario, word);
        let waits = |worker: &&mut Worker| **worker == Worker::Settling { word };
        if let Some(worker) = scenario.workers.iter_mut().find(waits).filter(|_| is_answered) {
            scenario.told_wrong |= told != (scenario.pasts[usize::from(word.lease)].counted == Some(word.event));
            *worker = Worker::Idle;
        }
    }

    /// What a worker does; `None` when it cannot.
    fn work(self, scenario: &mut Scenario, action: Action) -> Option<()> {
        match action {
            Action::SendClaim(worker) => {
                let lease = scenario.pasts.len() as Number;
                scenario.pasts.push(Past::default());
                scenario.workers[worker] = Worker::Claiming { lease, age: 0, claim: Claim::UnderWay };
            }
            Action::RunClaim(worker, job) => match scenario.workers[worker] {
                Worker::Claiming { lease, age, .. } => {
                    let claim = self.run_claim(scenario, job, lease)?;
                    scenario.workers[worker] = Worker::Claiming { lease, age, claim };
                }
                Worker::GivingBack { lease, .. } => {
                    self.run_claim(scenario, job, lease)?;
                    scenario.workers[worker] = Worker::GivingBack { lease, has_run: true };
                }
                _ => return None,
            },
            Action::AnswerClaim(worker) => {
                let Worker::Claiming { lease, age, claim } = scenario.workers[worker] else { return None };
                scenario.workers[worker] = match claim {
                    Claim::Took { job } => Worker::Working { lease, job, trust: self.trust(age) },
                    Claim::UnderWay => return None,
                };
            }
            Action::LoseReply(worker) => {
                let Worker::Claiming { lease, claim, .. } = scenario.workers[worker] else { return None };
                scenario.workers[worker] = Worker::GivingBack { lease, has_run: claim != Claim::UnderWay };
            }
            Action::RunEmptyClaim(worker) | Action::Crash(worker) => scenario.workers[worker] = Worker::Idle,
            Action::ReleaseClaim(worker) => {
                let Worker::GivingBack { lease, has_run } = scenario.workers[worker] else { return None };
                if let Some(job) = scenario.jobs.iter().position(|job| job.lease == Some(lease)) {
                    scenario.happen(job, Event::Release);
                }
                if has_run {
                    scenario.workers[worker] = Worker::Idle;
                }
            }
            Action::Extend(worker) => self.extend(scenario, worker, true),
            Action::ExtendUnanswered(worker) => self.extend(scenario, worker, false),
            Action::Say(worker, event) => {
                let Worker::Working { lease, job, .. } = scenario.workers[worker] else { return None };
                let word = Word { lease, job, event };
                scenario.workers[worker] = Worker::Settling { word };
                scenario.words.push(word);
            }
            Action::Repeat(worker) => {
                let Worker::Settling { word } = scenario.workers[worker] else { return None };
                scenario.words.push(word);
            }
            Action::Doubt(worker) => {
                let Worker::Settling { word } = scenario.workers[worker] else { return None };
                let event = soft_fail(&scenario.jobs[word.job]);
                scenario.workers[worker] = Worker::Settling { word: Word { event, ..word } };
            }
            _ => return None,
        }
        Some(())
    }
}

fn soft_fail(job: &Job) -> Event {
    if job.failures == MAX_RETRIES { Event::LastSoftFail } else { Event::SoftFail }
}

fn drop_word(scenario: &mut Scenario, word: Word) {
    let place = scenario.words.iter().position(|other| *other == word);
    if let Some(place) = place {
        scenario.words.remove(place);
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
            Worker::Idle | Worker::GivingBack { .. } | Worker::Settling { .. } => {}
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
            let room = scenario.words.len() < self.most_words;
            match *worker {
                Worker::Idle => actions.push(Action::SendClaim(n)),
                Worker::Claiming { claim: Claim::UnderWay, .. } | Worker::GivingBack { has_run: false, .. } => {
                    actions.extend([Action::RunClaim(n, 0), Action::RunClaim(n, 1), Action::RunEmptyClaim(n)]);
                    let is_lost = matches!(worker, Worker::GivingBack { .. });
                    actions.push(if is_lost { Action::ReleaseClaim(n) } else { Action::LoseReply(n) });
                }
                Worker::Claiming { .. } => actions.extend([Action::AnswerClaim(n), Action::LoseReply(n)]),
                Worker::GivingBack { .. } => actions.extend([Action::ReleaseClaim(n), Action::Crash(n)]),
                Worker::Working { job, .. } => {
                    actions.extend([Action::Extend(n), Action::ExtendUnanswered(n), Action::Crash(n)]);
                    // It was told how often the job has failed when it claimed it.
                    let events = [Event::Commit, soft_fail(&scenario.jobs[job])];
                    actions.extend(events.map(|event| Action::Say(n, event)).into_iter().filter(|_| room));
                }
                Worker::Settling { word } => {
                    actions.push(Action::Crash(n));
                    actions.extend((word.event == Event::Commit).then_some(Action::Doubt(n)));
                    actions.extend(room.then_some(Action::Repeat(n)));
                }
            }
        }
        let mut words = scenario.words.clone();
        words.dedup();
        for word in words {
            actions.extend([Action::Deliver(word), Action::DeliverUnanswered(word), Action::DropWord(word)]);
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
                if !is_expired || !scenario.happen(job, event) {
                    return None;
                }
                let at_work =
                    |worker: &Worker| matches!(worker, Worker::Working { lease: held, .. } if Some(*held) == lease);
                scenario.reaped_at_work |= scenario.workers.iter().any(at_work);
            }
            Action::Restart(job) => self.take_away(&mut scenario, job, Event::ForceRestart).then_some(())?,
            Action::Done(job) => self.take_away(&mut scenario, job, Event::Done).then_some(())?,
            Action::Deliver(word) => self.deliver(&mut scenario, word, true),
            Action::DeliverUnanswered(word) => self.deliver(&mut scenario, word, false),
            Action::DropWord(word) => drop_word(&mut scenario, word),
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
            Property::always(LATE_WORD, |_, scenario: &Scenario| !scenario.late_word_counted),
            Property::always(TRUE_ANSWER, |_, scenario: &Scenario| !scenario.told_wrong),
            Property::sometimes(EXPIRY, |_, scenario: &Scenario| scenario.reaped_at_work),
            Property::sometimes(ALL_DONE, |_, scenario: &Scenario| {
                scenario.jobs.iter().all(|job| job.state.is_ended())
            }),
        ]
    }
}

pub(crate) const TWO_TRUSTED: &str = "never two trusted leases";
pub(crate) const ONE_ENDING: &str = "one ending between restarts";
pub(crate) const LATE_WORD: &str = "a late word changes nothing";
pub(crate) const TRUE_ANSWER: &str = "an answer says what became of the word";
const EXPIRY: &str = "a lease expires while its holder works";
const ALL_DONE: &str = "all jobs end";
