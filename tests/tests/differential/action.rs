//! The actions of a list, and how they are generated.

use pm_core::State;
use proptest::prelude::*;
use proptest::sample::select;

/// One action. Jobs, leases and queues are given by index among those that exist then.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Time passes, in minutes.
    Pass(u64),
    Enqueue(Vec<Item>),
    /// The follow-up of an enqueue: which jobs have the keys?
    KeyHolder(Vec<Item>),
    Replace(Vec<Item>),
    Claim {
        queues: Vec<usize>,
        limit: usize,
    },
    Fetch(usize),
    /// Settles leases, each of another job; a delay only for a single one.
    Settle {
        leases: Vec<usize>,
        verdict: u8,
        delay: bool,
    },
    Outcome {
        lease: usize,
        verdict: u8,
    },
    Extend(usize),
    Reap,
    Promote(usize),
    ReleaseClaim(usize),
    CreateQueue {
        queue: usize,
        paused: bool,
    },
    Pause(usize),
    Resume(usize),
    SetQueue {
        queue: usize,
        retries: u32,
        lease_long: bool,
        jitter: bool,
    },
    Rename {
        from: usize,
        to: usize,
    },
    BeginDeletion(usize),
    PruneJobs {
        page: usize,
    },
    DeleteEmptyQueues,
    Restart {
        jobs: Vec<usize>,
        force: bool,
        condition: Condition,
    },
    End {
        jobs: Vec<usize>,
        fails: bool,
        condition: Condition,
    },
    Cancel {
        jobs: Vec<usize>,
        force: bool,
        condition: Condition,
    },
    CancelRequests(usize),
    SetProgress(Vec<usize>),
    Delete {
        jobs: Vec<usize>,
        condition: Condition,
    },
    Move {
        jobs: Vec<usize>,
        queue: usize,
        condition: Condition,
    },
    SetPriority {
        jobs: Vec<usize>,
        priority: i32,
        condition: Condition,
    },
    Copy {
        job: usize,
        queue: usize,
        key: Option<usize>,
        paused: bool,
    },
    /// All operations that only read.
    Look {
        job: usize,
        queue: usize,
        limit: usize,
    },
    /// The poll of an idle worker.
    Poll {
        queue: usize,
        idles: bool,
    },
    NotifyIdle,
    /// An action on schedules.
    Schedule(ScheduleAction),
}

/// An action on schedules, given by number. With `stale`, it uses what was read before.
#[derive(Debug, Clone)]
pub(crate) enum ScheduleAction {
    Set {
        schedule: usize,
        queue: usize,
        every: usize,
        missed: u16,
        skips_overlap: bool,
        look: usize,
        stale: bool,
    },
    Pause(usize),
    Resume {
        schedule: usize,
        stale: bool,
    },
    Delete(usize),
    List,
    Due {
        limit: usize,
        skip: usize,
    },
    /// The key of a tick may be taken on this queue before the tick is fired.
    Fire {
        stale: bool,
        taken: Option<usize>,
    },
}

/// The precondition of an operator's action.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) state: Option<State>,
    pub(crate) queue: Option<usize>,
    pub(crate) lease: Option<usize>,
}

/// A job to be enqueued.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) queue: usize,
    pub(crate) priority: i32,
    pub(crate) paused: bool,
    /// Only alone in its statement: the order in which jobs with the same due time become ready is undefined.
    pub(crate) delayed: bool,
    pub(crate) key: Option<usize>,
    pub(crate) hold: u8,
    pub(crate) retries: Option<u32>,
    /// Whether it is an item that was sent before.
    pub(crate) resent: bool,
}

/// Returns lists of actions.
pub(crate) fn lists() -> impl Strategy<Value = Vec<Action>> {
    proptest::collection::vec(actions(), 1..40)
}

const QUEUES: usize = 4;
/// The key of this number is that of a tick, if one was found due.
pub(crate) const TICK_KEY: usize = 2;
/// The number of schedule names. No two schedules ever have a tick at the same time.
pub(crate) const SCHEDULES: usize = 3;

fn items() -> impl Strategy<Value = Vec<Item>> {
    let item = (
        0..QUEUES,
        select(vec![0, 0, 5]),
        proptest::bool::weighted(0.15),
        proptest::bool::weighted(0.3),
        proptest::option::weighted(0.4, 0..=TICK_KEY),
        0..4u8,
        proptest::option::weighted(0.3, 0..3u32),
        proptest::bool::weighted(0.15),
    );
    let item = item.prop_map(|(queue, priority, paused, delayed, key, hold, retries, resent)| Item {
        queue,
        priority,
        paused,
        delayed,
        key,
        hold,
        retries,
        resent,
    });
    proptest::collection::vec(item, 1..4)
}

fn condition() -> impl Strategy<Value = Condition> {
    let (state, lease) = (select(State::ALL.to_vec()), 0..24usize);
    let condition = (
        proptest::option::weighted(0.4, state),
        proptest::option::weighted(0.3, 0..QUEUES),
        proptest::option::weighted(0.15, lease),
    );
    condition.prop_map(|(state, queue, lease)| Condition { state, queue, lease })
}

fn actions() -> impl Strategy<Value = Action> {
    let job = || 0..24usize;
    let jobs = || proptest::collection::vec(0..24usize, 1..5);
    let queue = || 0..QUEUES;
    prop_oneof![
        3 => (1..40u64).prop_map(Action::Pass),
        8 => items().prop_map(Action::Enqueue),
        2 => items().prop_map(Action::KeyHolder),
        2 => items().prop_map(Action::Replace),
        7 => (proptest::collection::vec(queue(), 1..4), 1..5usize).prop_map(|(queues, limit)| Action::Claim { queues, limit }),
        2 => job().prop_map(Action::Fetch),
        6 => (jobs(), 0..7u8, any::<bool>()).prop_map(|(leases, verdict, delay)| Action::Settle { leases, verdict, delay }),
        2 => (job(), 0..5u8).prop_map(|(lease, verdict)| Action::Outcome { lease, verdict }),
        2 => job().prop_map(Action::Extend),
        3 => Just(Action::Reap),
        3 => (1..6usize).prop_map(Action::Promote),
        1 => job().prop_map(Action::ReleaseClaim),
        2 => (queue(), any::<bool>()).prop_map(|(queue, paused)| Action::CreateQueue { queue, paused }),
        1 => queue().prop_map(Action::Pause),
        2 => queue().prop_map(Action::Resume),
        1 => (queue(), 0..3u32, any::<bool>(), any::<bool>())
            .prop_map(|(queue, retries, lease_long, jitter)| Action::SetQueue { queue, retries, lease_long, jitter }),
        1 => (queue(), queue()).prop_map(|(from, to)| Action::Rename { from, to }),
        1 => queue().prop_map(Action::BeginDeletion),
        1 => (1..9usize).prop_map(|page| Action::PruneJobs { page }),
        1 => Just(Action::DeleteEmptyQueues),
        2 => (jobs(), any::<bool>(), condition())
            .prop_map(|(jobs, force, condition)| Action::Restart { jobs, force, condition }),
        2 => (jobs(), any::<bool>(), condition())
            .prop_map(|(jobs, fails, condition)| Action::End { jobs, fails, condition }),
        3 => (jobs(), proptest::bool::weighted(0.3), condition())
            .prop_map(|(jobs, force, condition)| Action::Cancel { jobs, force, condition }),
        1 => job().prop_map(Action::CancelRequests),
        2 => jobs().prop_map(Action::SetProgress),
        1 => (jobs(), condition()).prop_map(|(jobs, condition)| Action::Delete { jobs, condition }),
        2 => (jobs(), queue(), condition())
            .prop_map(|(jobs, queue, condition)| Action::Move { jobs, queue, condition }),
        2 => (jobs(), -1..2i32, condition())
            .prop_map(|(jobs, priority, condition)| Action::SetPriority { jobs, priority, condition }),
        2 => (job(), queue(), proptest::option::weighted(0.3, 0..=TICK_KEY), proptest::bool::weighted(0.2))
            .prop_map(|(job, queue, key, paused)| Action::Copy { job, queue, key, paused }),
        2 => (job(), queue(), 1..9usize).prop_map(|(job, queue, limit)| Action::Look { job, queue, limit }),
        1 => (queue(), any::<bool>()).prop_map(|(queue, idles)| Action::Poll { queue, idles }),
        1 => Just(Action::NotifyIdle),
        10 => schedule_actions().prop_map(Action::Schedule),
    ]
}

fn schedule_actions() -> impl Strategy<Value = ScheduleAction> {
    let schedule = || 0..SCHEDULES;
    let stale = || proptest::bool::weighted(0.3);
    prop_oneof![
        3 => (schedule(), 0..QUEUES, 0..3usize, 0..5u16, any::<bool>(), 0..4usize, stale()).prop_map(
            |(schedule, queue, every, missed, skips_overlap, look, stale)| ScheduleAction::Set {
                schedule,
                queue,
                every,
                missed,
                skips_overlap,
                look,
                stale,
            },
        ),
        1 => schedule().prop_map(ScheduleAction::Pause),
        1 => (schedule(), stale()).prop_map(|(schedule, stale)| ScheduleAction::Resume { schedule, stale }),
        1 => schedule().prop_map(ScheduleAction::Delete),
        1 => Just(ScheduleAction::List),
        1 => (1..4usize, 0..3usize).prop_map(|(limit, skip)| ScheduleAction::Due { limit, skip }),
        5 => (stale(), proptest::option::weighted(0.3, 0..QUEUES))
            .prop_map(|(stale, taken)| ScheduleAction::Fire { stale, taken }),
    ]
}
