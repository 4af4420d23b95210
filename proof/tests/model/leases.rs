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
pub(crate) struct Scene {
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
    Refresh(usize),
    RefreshUnanswered(usize),
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
                | RefreshUnanswered(_)
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

impl Scene {
    fn new() -> Self {
        let job = Job { state: State::Pending, lease: None, left: 0, failures: 0, endings: 0 };
        Scene {
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

    /// Makes one scene of all that differ only in the names of jobs, workers and leases or in what nobody asks for.
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
    fn run_claim(self, scene: &mut Scene, job: usize, lease: Number) -> Option<Claim> {
        scene.happen(job, Event::Claim).then(|| {
            let row = &mut scene.jobs[job];
            (row.lease, row.left) = (Some(lease), LEASE - MARGIN);
            Claim::Took { job }
        })
    }

    /// Runs a word in the database; returns whether it is told that it counts.
    fn run_word(self, scene: &mut Scene, word: Word) -> bool {
        let is_holder = scene.jobs[word.job].lease == Some(word.lease);
        let counts = if self.makes(Mistake::BlindSettle) {
            let next = State::InProgress.after(word.event);
            next.is_some_and(|next| {
                scene.become_of(word.job, word.event, next);
                true
            })
        } else {
            (is_holder || self.makes(Mistake::NoFence)) && scene.happen(word.job, word.event)
        };
        let past = &mut scene.pasts[usize::from(word.lease)];
        if counts {
            scene.late_word_counted |= !is_holder;
            (past.heard, past.counted) = (Some(word.event), Some(word.event));
        }
        counts || past.heard == Some(word.event)
    }

    fn refresh(self, scene: &mut Scene, worker: usize, is_answered: bool) {
        let Worker::Working { lease, job, trust, .. } = &mut scene.workers[worker] else { return };
        let row = &mut scene.jobs[*job];
        let holds = row.lease == Some(*lease);
        if holds {
            row.left = LEASE - MARGIN;
        }
        match (is_answered, holds) {
            (false, _) => {}
            (true, true) => *trust = self.trust(0),
            (true, false) => scene.workers[worker] = Worker::Idle,
        }
    }

    fn take_away(self, scene: &mut Scene, job: usize, event: Event) -> bool {
        let holder = scene.jobs[job].lease;
        if self.makes(Mistake::ForgetfulRestart) && event == Event::ForceRestart {
            let repeated = scene.workers.iter().filter_map(Worker::word);
            for word in scene.words.iter().copied().chain(repeated).filter(|word| word.job == job) {
                scene.pasts[usize::from(word.lease)].heard = None;
            }
        }
        let happened = scene.happen(job, event);
        if let Some(lease) = holder.filter(|_| happened) {
            scene.pasts[usize::from(lease)].broken = true;
        }
        happened
    }

    fn deliver(self, scene: &mut Scene, word: Word, is_answered: bool) {
        drop_word(scene, word);
        let told = self.run_word(scene, word);
        let waits = |worker: &&mut Worker| **worker == Worker::Settling { word };
        if let Some(worker) = scene.workers.iter_mut().find(waits).filter(|_| is_answered) {
            scene.told_wrong |= told != (scene.pasts[usize::from(word.lease)].counted == Some(word.event));
            *worker = Worker::Idle;
        }
    }

    /// What a worker does; `None` when it cannot.
    fn work(self, scene: &mut Scene, action: Action) -> Option<()> {
        match action {
            Action::SendClaim(worker) => {
                let lease = scene.pasts.len() as Number;
                scene.pasts.push(Past::default());
                scene.workers[worker] = Worker::Claiming { lease, age: 0, claim: Claim::UnderWay };
            }
            Action::RunClaim(worker, job) => match scene.workers[worker] {
                Worker::Claiming { lease, age, .. } => {
                    let claim = self.run_claim(scene, job, lease)?;
                    scene.workers[worker] = Worker::Claiming { lease, age, claim };
                }
                Worker::GivingBack { lease, .. } => {
                    self.run_claim(scene, job, lease)?;
                    scene.workers[worker] = Worker::GivingBack { lease, has_run: true };
                }
                _ => return None,
            },
            Action::AnswerClaim(worker) => {
                let Worker::Claiming { lease, age, claim } = scene.workers[worker] else { return None };
                scene.workers[worker] = match claim {
                    Claim::Took { job } => Worker::Working { lease, job, trust: self.trust(age) },
                    Claim::UnderWay => return None,
                };
            }
            Action::LoseReply(worker) => {
                let Worker::Claiming { lease, claim, .. } = scene.workers[worker] else { return None };
                scene.workers[worker] = Worker::GivingBack { lease, has_run: claim != Claim::UnderWay };
            }
            Action::RunEmptyClaim(worker) | Action::Crash(worker) => scene.workers[worker] = Worker::Idle,
            Action::ReleaseClaim(worker) => {
                let Worker::GivingBack { lease, has_run } = scene.workers[worker] else { return None };
                if let Some(job) = scene.jobs.iter().position(|job| job.lease == Some(lease)) {
                    scene.happen(job, Event::Release);
                }
                if has_run {
                    scene.workers[worker] = Worker::Idle;
                }
            }
            Action::Refresh(worker) => self.refresh(scene, worker, true),
            Action::RefreshUnanswered(worker) => self.refresh(scene, worker, false),
            Action::Say(worker, event) => {
                let Worker::Working { lease, job, .. } = scene.workers[worker] else { return None };
                let word = Word { lease, job, event };
                scene.workers[worker] = Worker::Settling { word };
                scene.words.push(word);
            }
            Action::Repeat(worker) => {
                let Worker::Settling { word } = scene.workers[worker] else { return None };
                scene.words.push(word);
            }
            Action::Doubt(worker) => {
                let Worker::Settling { word } = scene.workers[worker] else { return None };
                let event = soft_fail(&scene.jobs[word.job]);
                scene.workers[worker] = Worker::Settling { word: Word { event, ..word } };
            }
            _ => return None,
        }
        Some(())
    }
}

fn soft_fail(job: &Job) -> Event {
    if job.failures == MAX_RETRIES { Event::LastSoftFail } else { Event::SoftFail }
}

fn drop_word(scene: &mut Scene, word: Word) {
    let place = scene.words.iter().position(|other| *other == word);
    if let Some(place) = place {
        scene.words.remove(place);
    }
}

fn tick(scene: &mut Scene) {
    for job in &mut scene.jobs {
        job.left = job.left.saturating_sub(1);
    }
    for worker in &mut scene.workers {
        match worker {
            Worker::Claiming { age, .. } => *age = (*age + 1).min(LEASE - MARGIN),
            Worker::Working { trust, .. } => *trust = trust.saturating_sub(1),
            Worker::Idle | Worker::GivingBack { .. } | Worker::Settling { .. } => {}
        }
    }
}

impl Model for Leases {
    type State = Scene;
    type Action = Action;

    fn init_states(&self) -> Vec<Scene> {
        vec![Scene::new()]
    }

    fn actions(&self, scene: &Scene, actions: &mut Vec<Action>) {
        for (n, worker) in scene.workers.iter().enumerate() {
            let room = scene.words.len() < self.most_words;
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
                    actions.extend([Action::Refresh(n), Action::RefreshUnanswered(n), Action::Crash(n)]);
                    // It was told how often the job has failed when it claimed it.
                    let events = [Event::Commit, soft_fail(&scene.jobs[job])];
                    actions.extend(events.map(|event| Action::Say(n, event)).into_iter().filter(|_| room));
                }
                Worker::Settling { word } => {
                    actions.push(Action::Crash(n));
                    actions.extend((word.event == Event::Commit).then_some(Action::Doubt(n)));
                    actions.extend(room.then_some(Action::Repeat(n)));
                }
            }
        }
        let mut words = scene.words.clone();
        words.dedup();
        for word in words {
            actions.extend([Action::Deliver(word), Action::DeliverUnanswered(word), Action::DropWord(word)]);
        }
        for job in 0..scene.jobs.len() {
            actions.extend([Action::Reap(job), Action::Restart(job), Action::Done(job)]);
        }
        actions.push(Action::Tick);
    }

    fn next_state(&self, before: &Scene, action: Action) -> Option<Scene> {
        let mut scene = before.clone();
        match action {
            Action::Tick => tick(&mut scene),
            Action::Reap(job) => {
                let Job { left, failures, lease, .. } = scene.jobs[job];
                let is_expired = left == 0 || self.makes(Mistake::EarlyReap);
                let event = if failures < MAX_RETRIES { Event::Reap } else { Event::LastReap };
                if !is_expired || !scene.happen(job, event) {
                    return None;
                }
                let at_work =
                    |worker: &Worker| matches!(worker, Worker::Working { lease: held, .. } if Some(*held) == lease);
                scene.reaped_at_work |= scene.workers.iter().any(at_work);
            }
            Action::Restart(job) => self.take_away(&mut scene, job, Event::ForceRestart).then_some(())?,
            Action::Done(job) => self.take_away(&mut scene, job, Event::Done).then_some(())?,
            Action::Deliver(word) => self.deliver(&mut scene, word, true),
            Action::DeliverUnanswered(word) => self.deliver(&mut scene, word, false),
            Action::DropWord(word) => drop_word(&mut scene, word),
            action => self.work(&mut scene, action)?,
        }
        scene.simplify();
        (scene != *before).then_some(scene)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(TWO_TRUSTED, |_, scene: &Scene| {
                (0..2).all(|job| !(scene.is_trusted(0, job) && scene.is_trusted(1, job)))
            }),
            Property::always(ONE_ENDING, |_, scene: &Scene| {
                scene.jobs.iter().all(|job| job.endings == u8::from(job.state.is_ended()))
            }),
            Property::always(LATE_WORD, |_, scene: &Scene| !scene.late_word_counted),
            Property::always(TRUE_ANSWER, |_, scene: &Scene| !scene.told_wrong),
            Property::sometimes(EXPIRY, |_, scene: &Scene| scene.reaped_at_work),
            Property::sometimes(ALL_DONE, |_, scene: &Scene| scene.jobs.iter().all(|job| job.state.is_ended())),
        ]
    }
}

pub(crate) const TWO_TRUSTED: &str = "never two trusted leases";
pub(crate) const ONE_ENDING: &str = "one ending between restarts";
pub(crate) const LATE_WORD: &str = "a late word changes nothing";
pub(crate) const TRUE_ANSWER: &str = "an answer says what became of the word";
const EXPIRY: &str = "a lease expires while its holder works";
const ALL_DONE: &str = "all jobs end";
