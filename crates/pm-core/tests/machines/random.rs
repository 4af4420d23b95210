//! Random interleavings of time, replies, faults, and actions of operators and users against the memory driver's
//! database.
//!
//! The rig checks at every step: no busy loop, one request of each kind in flight, one outcome per request id, no lease
//! trusted or handed out after its end, bounded claims, sorted locks. These tests check what must hold in the end.

use super::database::{FINISHED, IN_PROGRESS, exact_backoff, timestamp};
use super::rig::{Logged, Rig, Seeded, Sent, kind_of, ms};
use pm_core::machine::{Entropy, Request, RequestId, Trouble, WorkerOptions};
use pm_core::op::Notification;
use pm_core::{Failure, Instant, Lease, QueueName, Reason, StatementId, TakenJob, Verdict};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeSet;

const QUEUES: [(i32, &str); 3] = [(1, "a"), (2, "b"), (3, "not followed")];
const STATEMENT_TIMEOUT_MS: u64 = 700;

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    /// Waits for the worker's timeout, as a driver does.
    Sleep,
    /// Runs a request in flight; its reply has not arrived.
    Run(Index),
    Answer(Index),
    /// A request fails without running.
    Fail(Index, u8),
    /// A request runs, and its reply is lost.
    LoseReply(Index),
    /// The driver stops waiting for a request, which runs later.
    Straggle(Index, u64),
    AddJob {
        queue: usize,
        priority: i32,
        due_in: Option<u64>,
    },
    /// Another worker claims a job and crashes.
    ClaimByAnother(usize),
    ReapByAnother,
    SetPaused(usize, bool),
    SetLease(usize, u64),
    ForceRestart(Index),
    Rename(usize),
    DeleteQueue(usize),
    WakeUp {
        queue: usize,
        priority: i32,
    },
    /// Another process sends a notification.
    Notification(Notification),
    Listen(bool),
    Change,
    Next,
    Settle(Index, u8),
    /// Settles a lease a second time.
    SettleAgain,
    Extend(Index),
    ShutDown,
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    let job = (0..3usize, 0..3i32, prop::option::weighted(0.2, 0..3_000u64));
    prop_oneof![
        8 => (0..60u64).prop_map(Step::Wait),
        1 => (0..4_000u64).prop_map(Step::Wait),
        8 => Just(Step::Sleep),
        4 => index().prop_map(Step::Run),
        20 => index().prop_map(Step::Answer),
        3 => (index(), 0..5u8).prop_map(|(index, how)| Step::Fail(index, how)),
        2 => index().prop_map(Step::LoseReply),
        2 => (index(), 0..STATEMENT_TIMEOUT_MS).prop_map(|(index, later)| Step::Straggle(index, later)),
        8 => job.prop_map(|(queue, priority, due_in)| Step::AddJob { queue, priority, due_in }),
        1 => (0..3usize).prop_map(Step::ClaimByAnother),
        1 => Just(Step::ReapByAnother),
        2 => (0..2usize, any::<bool>()).prop_map(|(queue, paused)| Step::SetPaused(queue, paused)),
        1 => (0..2usize, 300..2_000u64).prop_map(|(queue, lease)| Step::SetLease(queue, lease)),
        1 => index().prop_map(Step::ForceRestart),
        4 => (0..3usize, 0..3i32).prop_map(|(queue, priority)| Step::WakeUp { queue, priority }),
        2 => (0..4i32, prop::option::of(0..3i32))
            .prop_map(|(queue_id, priority)| Step::Notification(Notification { queue_id, priority })),
        1 => any::<bool>().prop_map(Step::Listen),
        1 => Just(Step::Change),
        14 => Just(Step::Next),
        8 => (index(), 0..4u8).prop_map(|(which, verdict)| Step::Settle(which, verdict)),
        1 => Just(Step::SettleAgain),
        2 => index().prop_map(Step::Extend),
    ]
}

/// Returns steps, among which a queue may be deleted or renamed, or the worker shut down.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rare = prop_oneof![
        3 => Just(Vec::new()),
        2 => Just(vec![Step::ShutDown]),
        1 => (0..2usize).prop_map(|queue| vec![Step::Rename(queue)]),
        1 => (0..2usize).prop_map(|queue| vec![Step::DeleteQueue(queue)]),
        1 => Just(vec![Step::DeleteQueue(0), Step::Rename(1)]),
    ];
    (prop::collection::vec(step(), 0..150), rare, prop::collection::vec(step(), 0..100))
        .prop_map(|(before, rare, after)| [before, rare, after].concat())
}

/// A rig and the state of its user.
struct Scenario {
    rig: Rig,
    taken_jobs: Vec<TakenJob>,
    last: Option<TakenJob>,
    settles: Vec<(RequestId, Lease)>,
    extensions: Vec<RequestId>,
    /// Requests for which the driver stopped waiting, and when they run.
    stragglers: Vec<(Instant, Sent)>,
    /// Settles and releases that failed permanently: these leases have to expire.
    refused: Vec<Logged>,
}

impl Scenario {
    fn new(seed: u64, heartbeat: bool, prefetch: usize) -> Self {
        let mut rig = Rig::new(WorkerOptions {
            queues: ["a", "b"].map(|name| QueueName::new(name).expect("a valid name")).into(),
            worker: "w".to_owned(),
            prefetch,
            heartbeat: heartbeat.then_some(ms(3_000)),
            poll_least: ms(20),
            poll_most: ms(1_000),
            reaps: true,
            channel: "pm_pm".to_owned(),
            statement_timeout: ms(STATEMENT_TIMEOUT_MS),
        });
        rig.entropy = Seeded(seed);
        for (id, name) in QUEUES {
            // The rig has added the first.
            assert_eq!(if id == 1 { 1 } else { rig.database.add_queue(name) }, id);
            rig.database.change_queue(id, |queue| {
                (queue.settings.lease, queue.settings.backoff) = (ms(1_000), exact_backoff(4, [0, 60, 500]));
            });
        }
        let (settles, extensions) = (Vec::new(), Vec::new());
        Scenario {
            rig,
            taken_jobs: Vec::new(),
            last: None,
            settles,
            extensions,
            stragglers: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Runs the stragglers up to `end`.
    fn run_stragglers(&mut self, end: Instant) {
        self.stragglers.sort_by_key(|(at, _)| *at);
        while self.stragglers.first().is_some_and(|(at, _)| *at <= end) {
            let (_, sent) = self.stragglers.remove(0);
            let _reply_is_lost = self.rig.database.run(&sent.request.plan(), self.rig.now);
        }
    }

    fn wait_until(&mut self, end: Instant) {
        self.run_stragglers(end);
        self.rig.now = end;
    }

    fn apply(&mut self, step: Step) {
        let rig = &mut self.rig;
        let now = rig.now;
        match step {
            Step::Wait(for_ms) => self.wait_until(now + ms(for_ms)),
            Step::Sleep => {
                let timeout = rig.timer().unwrap_or(now);
                self.wait_until(timeout.max(now));
            }
            Step::Run(_) | Step::Answer(_) | Step::Fail(..) | Step::LoseReply(_) | Step::Straggle(..) => {
                if !rig.in_flight.is_empty() {
                    self.apply_to_request(step);
                }
            }
            Step::AddJob { queue, priority, due_in } => {
                if rig.database.queues().contains_key(&QUEUES[queue].0) {
                    rig.database.add_job(QUEUES[queue].0, priority, due_in.map(|due_in| now + ms(due_in)));
                }
            }
            Step::ClaimByAnother(queue) => rig.database.claim_by_another(QUEUES[queue].0, now),
            Step::ReapByAnother => rig.database.reap(now),
            Step::SetPaused(queue, paused) => {
                rig.database.change_queue(QUEUES[queue].0, |queue| queue.paused = paused);
            }
            Step::SetLease(queue, lease) => rig.database.set_lease(QUEUES[queue].0, ms(lease)),
            Step::ForceRestart(which) => {
                let jobs = rig.database.jobs();
                if !jobs.is_empty() {
                    rig.database.force_restart(which.get(&jobs).id);
                }
            }
            Step::Rename(queue) => {
                rig.database.change_queue(QUEUES[queue].0, |queue| queue.name = Some("renamed".to_owned()));
            }
            Step::DeleteQueue(queue) => rig.database.delete_queue(QUEUES[queue].0),
            Step::WakeUp { queue, priority } => rig.worker.handle_wake_up(QUEUES[queue].1, priority, now),
            Step::Notification(notification) => rig.worker.handle_notification(notification, now),
            Step::Listen(listens) => rig.worker.set_listening(listens.then(|| ms(4_000)), now),
            Step::Change => rig.worker.handle_change(now),
            Step::Next | Step::Settle(..) | Step::SettleAgain | Step::Extend(_) => self.apply_to_user(step),
            Step::ShutDown => rig.worker.shut_down(now),
        }
    }

    fn apply_to_request(&mut self, step: Step) {
        let rig = &mut self.rig;
        let count = rig.in_flight.len();
        match step {
            Step::Run(which) => drop(rig.run(which.index(count))),
            Step::Fail(which, how) if rig.in_flight[which.index(count)].ran.is_none() => {
                let failure = match how {
                    0 => Failure::not_sent("refused"),
                    1 => Failure::reported("40P01", None, "deadlock"),
                    2 => Failure::reported("55P03", None, "locked"),
                    3 => Failure::reported("22021", None, "never"),
                    _ => Failure::no_reply("cut before it arrived"),
                };
                let sent = &rig.in_flight[which.index(count)];
                let is_this = |logged: &&Logged| logged.statement == kind_of(sent) && logged.at == sent.at;
                self.refused.extend(rig.log.iter().rfind(is_this).filter(|_| how == 3).cloned());
                rig.fail(which.index(count), failure);
            }
            Step::LoseReply(which) => rig.lose_reply(which.index(count)),
            Step::Straggle(which, later) if rig.in_flight[which.index(count)].ran.is_none() => {
                let sent = rig.give_up(which.index(count));
                let at = (sent.at + ms(later)).max(rig.now);
                if at < sent.at + ms(STATEMENT_TIMEOUT_MS) {
                    self.stragglers.push((at, sent));
                }
            }
            Step::Answer(which) | Step::Fail(which, _) | Step::Straggle(which, _) => rig.answer(which.index(count)),
            other => unreachable!("{other:?} does not concern a request"),
        }
    }

    fn apply_to_user(&mut self, step: Step) {
        let count = self.taken_jobs.len();
        match step {
            Step::Next => self.taken_jobs.extend(self.rig.next()),
            Step::Settle(which, verdict) if count > 0 => {
                let taken = self.taken_jobs.remove(which.index(count));
                let reason = || Reason::new("no");
                let verdicts =
                    [Verdict::Commit, Verdict::Release, Verdict::SoftFail(reason()), Verdict::HardFail(reason())];
                self.settle(taken, verdicts[usize::from(verdict)].clone());
            }
            Step::SettleAgain => {
                let last = self.last.take();
                last.into_iter().for_each(|taken| self.settle(taken, Verdict::Commit));
            }
            Step::Extend(which) if count > 0 => {
                self.extensions.push(self.rig.worker.extend(which.get(&self.taken_jobs).job.lease));
            }
            _ => {}
        }
    }

    fn settle(&mut self, taken: TakenJob, verdict: Verdict) {
        let random = self.rig.entropy.next_u64();
        let request_id = self.rig.worker.settle(taken.job.lease, verdict, self.rig.now, random);
        self.settles.push((request_id, taken.job.lease));
        self.last = Some(taken);
    }

    /// Takes all jobs that are there and commits them; returns how many it took.
    fn work(&mut self) -> usize {
        let before = self.taken_jobs.len();
        while let Some(taken) = self.rig.next() {
            self.taken_jobs.push(taken);
        }
        let taken = self.taken_jobs.len() - before;
        std::mem::take(&mut self.taken_jobs).into_iter().for_each(|taken| self.settle(taken, Verdict::Commit));
        taken
    }

    /// Advances the time without faults until `done`, for up to a minute, while the user commits all jobs if `works`.
    /// Returns whether it is done.
    fn run_until(&mut self, works: bool, done: impl Fn(&Rig) -> bool) -> bool {
        for _ in 0..3_000 {
            if works {
                self.work();
            }
            if done(&self.rig) {
                return true;
            }
            self.run_stragglers(self.rig.now + ms(20));
            self.rig.run_for(ms(20));
        }
        false
    }

    /// Returns whether every job of the queues that the worker still follows has ended.
    fn all_ended(rig: &Rig) -> bool {
        let queues = rig.database.queues().into_values();
        let followed: BTreeSet<_> =
            queues.filter(|queue| matches!(queue.name.as_deref(), Some("a" | "b"))).map(|queue| queue.id).collect();
        rig.database.jobs().iter().filter(|job| followed.contains(&job.queue_id)).all(|job| job.state >= FINISHED)
    }
}

proptest! {
    #[test]
    fn in_the_end_every_job_has_ended_every_request_has_an_outcome_and_no_lease_is_left(
        steps in steps(),
        seed: u64,
        heartbeat: bool,
        prefetch in 1usize..12,
    ) {
        let mut scenario = Scenario::new(seed, heartbeat, prefetch);
        scenario.rig.pump();
        for step in steps {
            scenario.apply(step);
            scenario.rig.pump();
        }
        // The faults stop, and every request in flight gets a reply.
        let faults_end = scenario.rig.now;
        scenario.rig.database.change(|tables| tables.queue.values_mut().for_each(|queue| queue.paused = false));
        while !scenario.rig.in_flight.is_empty() {
            scenario.rig.answer(0);
        }
        if !scenario.rig.worker.is_draining() {
            let ended = scenario.run_until(true, |rig| rig.worker.is_draining() || Scenario::all_ended(rig));
            prop_assert!(ended, "some jobs never end: {:#?}\n{:#?}", scenario.rig.database.jobs(), scenario.rig);
        }
        scenario.rig.worker.shut_down(scenario.rig.now);
        prop_assert!(scenario.run_until(true, |rig| rig.worker.is_drained()), "never drained: {:#?}", scenario.rig);
        let over = scenario.run_until(false, |rig| rig.timer().is_none() && rig.in_flight.is_empty());
        prop_assert!(over, "never idle: {:#?}", scenario.rig);
        for job in scenario.rig.database.jobs() {
            let Some(lease) = job.lease.filter(|lease| job.state == IN_PROGRESS && scenario.rig.claimed(*lease)) else {
                continue;
            };
            let names_it = |logged: &Logged| logged.jobs.contains(&job.id) || logged.numbers.contains(&lease);
            let was_refused = scenario.refused.iter().any(names_it);
            let has_expired = job.lease_expires_at <= Some(timestamp(faults_end));
            // Its handler got the error that the settlement could not be stored. The job is reaped when its lease has
            // ended, which an extension that ran late may have put off.
            let was_given_up = scenario.settles.iter().any(|(request_id, of)| {
                let outcome = scenario.rig.settled.get(request_id);
                (of.job, of.number) == (job.id, lease) && matches!(outcome, Some(Err(Trouble::Failed(_))))
            });
            prop_assert!(was_refused || has_expired || was_given_up, "a job is left leased: {job:?} {:#?}", scenario.rig.log);
        }
        scenario.rig.pump();
        prop_assert!(scenario.settles.iter().all(|(request_id, _)| scenario.rig.settled.contains_key(request_id)));
        prop_assert!(scenario.extensions.iter().all(|request_id| scenario.rig.extended.contains_key(request_id)));
    }

    #[test]
    fn no_more_jobs_than_the_prefetch_wait_for_handlers(
        takes in prop::collection::vec((0u64..300, 0usize..8), 1..60),
        prefetch in 0usize..12,
    ) {
        let mut scenario = Scenario::new(1, false, prefetch);
        scenario.rig.add_jobs(400);
        let mut taken_at = Vec::new();
        for (pause, count) in takes {
            let now = scenario.rig.now;
            scenario.rig.run_for(ms(pause));
            for _ in 0..count {
                taken_at.extend(scenario.rig.next().map(|_| scenario.rig.now));
            }
            let leased = scenario.rig.database.jobs().iter().filter(|job| job.state == IN_PROGRESS).count();
            scenario.rig.run_for(ms(20));
            prop_assert!(scenario.rig.now > now);
            // Reaped jobs are not leased, so this is an upper bound.
            prop_assert!(leased <= taken_at.len() + prefetch.max(1));
        }
    }
}

#[test]
fn the_steps_reach_every_kind_of_request() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let mut scenario = Scenario::new(seed, true, 4);
        let steps = steps().new_tree(&mut runner).expect("the strategy rejects nothing").current();
        for step in steps {
            scenario.apply(step);
            scenario.rig.pump();
        }
        seen.extend(scenario.rig.log.iter().map(|logged| logged.statement));
    }
    let all = [
        StatementId::Poll,
        StatementId::Claim,
        StatementId::Settle,
        StatementId::Outcome,
        StatementId::Extend,
        StatementId::Reap,
        StatementId::Promote,
        StatementId::ReleaseClaim,
        StatementId::NotifyIdle,
        StatementId::CancelRequests,
    ];
    assert_eq!(seen, BTreeSet::from(all));
}
