//! The batcher in random interleavings of pushes, replies, failures, follow-ups and time: every item has exactly one
//! outcome.

use pm_core::machine::{Batch, BatchLimits, Batched, Batcher, Entropy, RequestId, RetryDeadlines};
use pm_core::{Class, Failure, Instant};
use proptest::prelude::*;
use proptest::sample::Index;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const LIMITS: BatchLimits = BatchLimits { items: 5, bytes: 100, alone_bytes: 50 };
const UNSENT: Duration = Duration::from_secs(5);
const SENT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    request_id: RequestId,
    weight: usize,
    lock: u8,
}

impl Batched for Item {
    type Lock = u8;

    fn locks(&self) -> [Option<u8>; 2] {
        [Some(self.lock), None]
    }

    fn weight(&self) -> usize {
        self.weight
    }

    fn order(&self, other: &Self) -> Ordering {
        self.lock.cmp(&other.lock)
    }
}

/// No randomness: pauses of equal length end at the same time.
struct NoEntropy;

impl Entropy for NoEntropy {
    fn next_u64(&mut self) -> u64 {
        0
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push {
        weight: usize,
        lock: u8,
    },
    Wait(u64),
    Poll,
    /// A batch in flight gets a reply. The items of mask `open` need a follow-up, as after a settlement that missed.
    /// If the batch skips locked rows, those of mask `locked` were locked.
    Answer {
        which: Index,
        open: u8,
        locked: u8,
    },
    Fail(Index, Cause),
    /// The follow-up gets a reply: the items of the mask are sent again, the others are done.
    AnswerFollowUp {
        again: u8,
    },
    FailFollowUp(Cause),
}

#[derive(Debug, Clone, Copy)]
enum Cause {
    Unsent,
    NoReply,
    Deadlock,
    Locked,
    Bad,
}

impl Cause {
    fn failure(self) -> Failure {
        match self {
            Cause::Unsent => Failure::not_sent("refused"),
            Cause::NoReply => Failure::no_reply("cut"),
            Cause::Deadlock => Failure::reported("40P01", None, "deadlock"),
            Cause::Locked => Failure::reported("55P03", None, "locked"),
            Cause::Bad => Failure::reported("22021", None, "bad"),
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    use Cause::{Bad, Deadlock, Locked, NoReply, Unsent};
    let cause = || prop::sample::select(vec![Unsent, NoReply, Deadlock, Locked, Bad]);
    prop_oneof![
        6 => (1usize..80, 0..9u8).prop_map(|(weight, lock)| Step::Push { weight, lock }),
        // Multiples of 50 ms, so that the ends of pauses and deadlines are met exactly.
        4 => (0..100u64).prop_map(|n| Step::Wait(50 * n)),
        8 => Just(Step::Poll),
        3 => any::<(Index, u8, u8)>().prop_map(|(which, open, locked)| Step::Answer { which, open, locked }),
        4 => (any::<Index>(), cause()).prop_map(|(which, cause)| Step::Fail(which, cause)),
        3 => any::<u8>().prop_map(|again| Step::AnswerFollowUp { again }),
        2 => cause().prop_map(Step::FailFollowUp),
    ]
}

/// How the batcher was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    OneByOne,
    PassingLocks,
    Pipelined,
}

/// A batcher, the batches that it returned, and the expected state of each item.
struct Scenario {
    batcher: Batcher<Item>,
    kind: Kind,
    now: Instant,
    pushed: BTreeMap<RequestId, Instant>,
    may_have_run: BTreeSet<RequestId>,
    /// Those that were put back or set aside before.
    blocked: BTreeSet<RequestId>,
    finished: BTreeSet<RequestId>,
    flights: Vec<Batch<Item>>,
    /// Those that were sent before.
    sent: BTreeSet<RequestId>,
    follow_up: Option<Batch<Item>>,
}

impl Scenario {
    fn new(kind: Kind) -> Self {
        Scenario {
            kind,
            batcher: match kind {
                Kind::OneByOne => Batcher::new(LIMITS),
                Kind::PassingLocks => Batcher::passing_locks(LIMITS),
                Kind::Pipelined => Batcher::new(LIMITS).pipelined(),
            },
            now: Instant::default(),
            pushed: BTreeMap::new(),
            may_have_run: BTreeSet::new(),
            blocked: BTreeSet::new(),
            finished: BTreeSet::new(),
            flights: Vec::new(),
            sent: BTreeSet::new(),
            follow_up: None,
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Push { weight, lock } => self.push(weight, lock),
            Step::Wait(ms) => self.now = self.now + Duration::from_millis(ms),
            Step::Poll => self.poll(),
            Step::Answer { which, open, locked } => {
                // As in the worker, at most one follow-up is in flight.
                if self.follow_up.is_none()
                    && let Some(batch) = self.land(which)
                {
                    self.answer(batch, open, locked);
                }
            }
            Step::Fail(which, cause) => {
                if let Some(batch) = self.land(which) {
                    self.fail(batch, cause, false);
                }
            }
            Step::AnswerFollowUp { again } => {
                if let Some(batch) = self.follow_up.take() {
                    let indexes = indexes(again, &batch);
                    let (again, done) = batch.partition(&indexes);
                    let expected: Vec<_> = again.items.iter().map(|item| item.request_id).collect();
                    let is_given_up = |request_id: &RequestId| match self.blocked.contains(request_id) {
                        true => self.is_past_deadline(*request_id),
                        false => self.now >= self.pushed[request_id] + SENT,
                    };
                    let request_ids: BTreeSet<_> = expected.iter().copied().collect();
                    let expected: Vec<_> = expected.into_iter().filter(is_given_up).collect();
                    self.blocked.extend(request_ids);
                    let given_up = self.batcher.put_back(again, self.now, &mut NoEntropy);
                    assert_eq!(
                        given_up.items.iter().map(|item| item.request_id).collect::<Vec<_>>(),
                        expected,
                        "put back"
                    );
                    self.finish(given_up);
                    self.finish(done);
                }
            }
            Step::FailFollowUp(cause) => {
                if let Some(batch) = self.follow_up.take() {
                    self.fail(batch, cause, true);
                }
            }
        }
    }

    fn land(&mut self, which: Index) -> Option<Batch<Item>> {
        (!self.flights.is_empty()).then(|| self.flights.remove(which.index(self.flights.len())))
    }

    fn answer(&mut self, batch: Batch<Item>, open: u8, locked: u8) {
        self.batcher.handle_done(&batch);
        let open = indexes(open, &batch);
        let locked = if batch.passes { indexes(locked, &batch) } else { Vec::new() };
        let (done, [open, locked]) = batch.divide([&open, &locked]);
        self.follow_up = (!open.items.is_empty()).then_some(open);
        self.finish(done);
        let request_ids = locked.items.iter().map(|item| item.request_id);
        self.blocked.extend(request_ids.clone());
        let expected: Vec<_> = request_ids.filter(|request_id| self.is_past_deadline(*request_id)).collect();
        let given_up = self.batcher.set_aside(locked, self.now, &mut NoEntropy);
        assert_eq!(given_up.items.iter().map(|item| item.request_id).collect::<Vec<_>>(), expected, "set aside");
        self.finish(given_up);
    }

    fn is_past_deadline(&self, request_id: RequestId) -> bool {
        let deadlines = if self.may_have_run.contains(&request_id) { SENT } else { UNSENT };
        self.now >= self.pushed[&request_id] + deadlines
    }

    fn push(&mut self, weight: usize, lock: u8) {
        let request_id = RequestId(self.pushed.len() as u64);
        let deadlines = RetryDeadlines { unsent: self.now + UNSENT, sent: self.now + SENT };
        self.batcher.push(request_id, Item { request_id, weight, lock }, deadlines);
        self.pushed.insert(request_id, self.now);
    }

    fn give_up(&mut self) {
        while let Some((given_up, _)) = self.batcher.poll_given_up(self.now) {
            assert!(
                given_up.items.iter().all(|item| self.is_past_deadline(item.request_id)),
                "given up early: {given_up:?}"
            );
            self.finish(given_up);
        }
    }

    fn poll(&mut self) {
        self.give_up();
        assert!(self.batcher.expires_at().is_none_or(|at| at > self.now), "expired items were just returned");
        let has_some = self.flights.is_empty() && !self.batcher.is_empty();
        let batch = self.batcher.poll_batch(self.now);
        self.give_up();
        let has_some = has_some && !self.batcher.is_empty();
        // An item that was to be sent at once may wait behind others for its lock.
        let is_due = self.batcher.retry_at().is_none_or(|at| at <= self.now);
        assert!(batch.is_some() || !(is_due && has_some), "an item is due and not sent");
        let Some(batch) = batch else { return };
        self.check_bound(&batch);
        let (count, bytes) = (batch.items.len(), batch.items.iter().map(Item::weight).sum::<usize>());
        assert!((1..=LIMITS.items).contains(&count) && (count == 1 || bytes <= LIMITS.bytes), "{batch:?}");
        assert!(count == 1 || batch.items.iter().all(|item| item.weight <= LIMITS.alone_bytes), "{batch:?}");
        assert!(batch.items.is_sorted_by_key(|item| item.lock), "{batch:?}");
        self.sent.extend(batch.items.iter().map(|item| item.request_id));
        self.flights.push(batch);
    }

    /// Two batches are in flight only if both are full and were not sent before.
    fn check_bound(&self, batch: &Batch<Item>) {
        assert!(self.flights.len() <= usize::from(self.kind == Kind::Pipelined), "{} and another", self.flights.len());
        if let Some(other) = self.flights.first() {
            assert!(batch.items.iter().all(|item| !self.sent.contains(&item.request_id)), "{batch:?} is sent again");
            let weight = |batch: &Batch<Item>| batch.items.iter().map(Item::weight).sum::<usize>();
            let next = batch.items.iter().min_by_key(|item| item.request_id).expect("it is not empty");
            let is_full = other.items.len() == LIMITS.items
                || weight(other) + next.weight() > LIMITS.bytes
                || next.weight() > LIMITS.alone_bytes;
            assert!(is_full, "{other:?} is not full");
            assert!(self.batcher.failures() == 0 && self.batcher.retry_at().is_none());
        }
    }

    fn fail(&mut self, batch: Batch<Item>, cause: Cause, is_follow_up: bool) {
        let failure = cause.failure();
        let request_ids: Vec<_> = batch.items.iter().map(|item| item.request_id).collect();
        let passes_next = failure.class() == Class::Blocked && self.kind == Kind::PassingLocks && !batch.passes;
        let halved = request_ids.len() > 1 && (failure.class() == Class::Permanent || passes_next);
        if failure.class() == Class::Unknown {
            self.may_have_run.extend(&request_ids);
        }
        if passes_next && request_ids.len() == 1 {
            self.blocked.extend(&request_ids);
        }
        let given_up = match is_follow_up {
            true => self.batcher.handle_follow_up_failure(batch, &failure, self.now, &mut NoEntropy),
            false => self.batcher.handle_failure(batch, &failure, self.now, &mut NoEntropy),
        };
        let expected = request_ids.into_iter().filter(|request_id| {
            !halved && (failure.class() == Class::Permanent || self.is_past_deadline(*request_id))
        });
        let expected: Vec<_> = expected.collect();
        assert_eq!(given_up.items.iter().map(|item| item.request_id).collect::<Vec<_>>(), expected, "{cause:?}");
        self.finish(given_up);
    }

    fn finish(&mut self, batch: Batch<Item>) {
        for (request_id, item) in batch.into_entries() {
            assert_eq!(request_id, item.request_id, "an item has another's request id");
            assert!(self.finished.insert(request_id), "{request_id:?} has two outcomes");
        }
    }

    fn check(&self) {
        let open = self.follow_up.as_ref().map_or(0, |batch| batch.items.len());
        assert_eq!(self.finished.len() + self.batcher.len() + open, self.pushed.len(), "an item is lost or doubled");
        let has_timer = self.batcher.retry_at().is_some();
        assert!(!has_timer || self.flights.is_empty(), "a timer runs while a batch is in flight");
    }

    /// Answers all batches until nothing is left.
    fn drain(&mut self) {
        for _ in 0..=2 * self.pushed.len() {
            self.apply(Step::AnswerFollowUp { again: 0 });
            while let Some(batch) = self.flights.pop() {
                self.answer(batch, 0, 0);
            }
            self.check();
            self.now = self.batcher.retry_at().unwrap_or(self.now).max(self.now);
            self.poll();
        }
    }
}

/// Returns the indexes of the items of a batch of up to five that a mask selects.
fn indexes(mask: u8, batch: &Batch<Item>) -> Vec<usize> {
    (0..batch.items.len()).filter(|index| mask & (1 << index) != 0).collect()
}

/// An item that is put back because another transaction has locked its row must not be sent in a busy loop.
#[test]
fn an_item_that_is_put_back_twice_waits_before_it_is_sent_again() {
    let mut batcher = Batcher::new(LIMITS);
    let now = Instant::default();
    let deadlines = RetryDeadlines { unsent: now + UNSENT, sent: now + SENT };
    batcher.push(RequestId(1), Item { request_id: RequestId(1), weight: 1, lock: 1 }, deadlines);
    for is_at_once in [true, false] {
        let batch = batcher.poll_batch(now).expect("it is sent");
        batcher.handle_done(&batch);
        assert!(batcher.put_back(batch, now, &mut NoEntropy).items.is_empty());
        assert_eq!(batcher.retry_at().is_none_or(|at| at <= now), is_at_once);
    }
    assert!(batcher.poll_batch(now).is_none());
    assert!(batcher.poll_batch(batcher.retry_at().expect("after a pause")).is_some());
}

proptest! {
    #[test]
    fn no_item_is_lost_or_doubled_in_any_interleaving(
        kind in prop::sample::select(vec![Kind::OneByOne, Kind::PassingLocks, Kind::Pipelined]),
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut scenario = Scenario::new(kind);
        for step in steps {
            scenario.apply(step);
            scenario.check();
        }
        scenario.drain();
        prop_assert!(scenario.batcher.is_empty(), "{:?}", scenario.batcher);
        prop_assert_eq!(scenario.finished.len(), scenario.pushed.len());
    }
}
