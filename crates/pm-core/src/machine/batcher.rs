//! Self-clocking batches: what arrives while one is in flight goes together next.

use super::{Entropy, retry_delay};
use crate::{Class, Failure, Instant};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Names something the user waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// An item that can travel with others.
pub trait Batched {
    /// Returns about how many bytes it takes in a statement.
    fn weight(&self) -> usize;

    /// Returns the order in which the items of a batch are sent: the order of locking. Equal items keep theirs.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        let _items_keep_the_order_they_came_in = other;
        std::cmp::Ordering::Equal
    }
}

/// How much travels together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// How many items at most.
    pub items: usize,
    /// How many bytes at most.
    pub bytes: usize,
    /// An item over so many bytes travels alone.
    pub alone_bytes: usize,
}

impl BatchLimits {
    /// Returns limits of so many items and 16 MiB, items over 1 MiB alone.
    pub const fn of_items(items: usize) -> Self {
        BatchLimits { items, bytes: 16 << 20, alone_bytes: 1 << 20 }
    }

    /// Returns how many of the first items travel together, given their weights in bytes: one at least, if there is one.
    pub fn together(&self, weights: impl IntoIterator<Item = usize>) -> usize {
        let (mut bytes, mut count) = (0, 0);
        for weight in weights.into_iter().take(self.items) {
            let fits = bytes + weight <= self.bytes && weight <= self.alone_bytes;
            if count > 0 && !fits {
                break;
            }
            bytes += weight;
            count += 1;
            if weight > self.alone_bytes {
                break;
            }
        }
        count
    }
}

/// Until when an item is sent again after failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// When it surely has not run.
    pub unsent: Instant,
    /// When it may have run.
    pub sent: Instant,
}

/// What a batcher keeps of an item besides the item.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Slip {
    ticket: Ticket,
    patience: Patience,
    may_have_run: bool,
    /// How often it met a locked row alone.
    blocked: u32,
}

impl Slip {
    /// Returns whether its item is sent again at `now`.
    fn is_patient(&self, now: Instant) -> bool {
        now < if self.may_have_run { self.patience.sent } else { self.patience.unsent }
    }
}

/// Items that travel in one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<I> {
    /// The items, in the order of locking.
    pub items: Vec<I>,
    /// Whether the statement is to pass by rows that someone has locked, and tell them, instead of waiting for them.
    pub passes: bool,
    slips: Vec<Slip>,
}

impl<I> Batch<I> {
    /// Returns the items with their tickets.
    pub fn into_entries(self) -> impl Iterator<Item = (Ticket, I)> {
        self.slips.into_iter().map(|slip| slip.ticket).zip(self.items)
    }

    /// Returns two batches: the items at the given places, and all others.
    pub fn partition(self, places: &[usize]) -> (Batch<I>, Batch<I>) {
        let [others, chosen, _] = self.divide(places, &[]);
        (chosen, others)
    }

    /// Returns three batches: all items but those at the given places, those at the first, and those at the second.
    pub fn divide(self, first: &[usize], second: &[usize]) -> [Batch<I>; 3] {
        let mut part = vec![0; self.items.len()];
        first.iter().for_each(|place| part[*place] = 1);
        second.iter().for_each(|place| part[*place] = 2);
        let mut parts = [const { Vec::new() }; 3];
        for (part, entry) in part.into_iter().zip(self.items.into_iter().zip(self.slips)) {
            parts[part].push(entry);
        }
        parts.map(|entries| Batch { passes: self.passes, ..entries.into_iter().collect() })
    }
}

impl<I> FromIterator<(I, Slip)> for Batch<I> {
    fn from_iter<T: IntoIterator<Item = (I, Slip)>>(entries: T) -> Self {
        let (items, slips) = entries.into_iter().unzip();
        Batch { items, passes: false, slips }
    }
}

/// Gathers items into batches, one batch in flight at a time, and sends them again after failures.
///
/// A lone item leaves at once; a crowd shares a statement. Memory is bounded by whoever pushes.
#[derive(Debug)]
pub struct Batcher<I> {
    limits: BatchLimits,
    /// Whether its batches can pass by locked rows.
    can_pass: bool,
    fresh: VecDeque<(I, Slip)>,
    /// Batches to be sent before the fresh ones: after a failure, or cut in half after one.
    again: VecDeque<Batch<I>>,
    /// Lone items that wait for a locked row, by when each is tried again; they hold up no other.
    aside: BTreeMap<(Instant, Ticket), Batch<I>>,
    was_aside: bool,
    /// How many items are in flight; none when zero.
    in_flight: usize,
    last_flight: usize,
    failures: u32,
    retry_at: Option<Instant>,
}

impl<I: Batched> Batcher<I> {
    /// Returns an empty batcher.
    pub fn new(limits: BatchLimits) -> Self {
        Batcher {
            limits,
            can_pass: false,
            fresh: VecDeque::new(),
            again: VecDeque::new(),
            aside: BTreeMap::new(),
            was_aside: false,
            in_flight: 0,
            last_flight: 0,
            failures: 0,
            retry_at: None,
        }
    }

    /// Returns an empty batcher whose batches can be sent so that they pass by locked rows: see [`Batch::passes`].
    ///
    /// That costs the server more than waiting does when nothing is locked. So they do only after a batch had to wait for
    /// too long, and as long as some item waits for a locked row.
    pub fn passing_locks(limits: BatchLimits) -> Self {
        Batcher { can_pass: true, ..Batcher::new(limits) }
    }

    /// Adds an item.
    pub fn push(&mut self, ticket: Ticket, item: I, patience: Patience) {
        self.fresh.push_back((item, Slip { ticket, patience, may_have_run: false, blocked: 0 }));
    }

    /// Returns how many items wait or are in flight.
    pub fn len(&self) -> usize {
        let again: usize = self.again.iter().map(|batch| batch.items.len()).sum();
        self.fresh.len() + again + self.aside.len() + self.in_flight
    }

    /// Returns whether nothing waits and nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the crowd of the last batch has not come back yet.
    pub fn is_gathering(&self) -> bool {
        self.in_flight == 0 && !self.fresh.is_empty() && self.fresh.len() < self.last_flight
    }

    /// Returns how many batches in a row failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns when a batch will be sent again, if one waits for that and for nothing else.
    pub fn retry_at(&self) -> Option<Instant> {
        let aside = self.aside.first_key_value().map(|((at, _), _)| *at);
        self.retry_at.or(aside).filter(|_| self.in_flight == 0)
    }

    /// Returns the next batch to send, unless one is in flight or a pause after a failure lasts.
    #[must_use]
    pub fn poll_batch(&mut self, now: Instant) -> Option<Batch<I>> {
        if self.in_flight > 0 || self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        self.retry_at = None;
        let mut batch = self.again.pop_front().or_else(|| self.fresh_or_aside(now))?;
        batch.passes |= self.can_pass && !self.aside.is_empty();
        self.in_flight = batch.items.len();
        Some(batch)
    }

    /// Returns items set aside that are due; they take turns with fresh ones.
    fn fresh_or_aside(&mut self, now: Instant) -> Option<Batch<I>> {
        if std::mem::replace(&mut self.was_aside, false)
            && let Some(batch) = self.fresh_batch()
        {
            return Some(batch);
        }
        match self.aside.first_entry().filter(|entry| entry.key().0 <= now) {
            Some(entry) => {
                self.was_aside = true;
                Some(entry.remove())
            }
            None => self.fresh_batch(),
        }
    }

    fn fresh_batch(&mut self) -> Option<Batch<I>> {
        let count = self.limits.together(self.fresh.iter().map(|(item, _)| item.weight()));
        let mut entries: Vec<_> = self.fresh.drain(..count).collect();
        entries.sort_by(|(a, _), (b, _)| a.order(b));
        (count > 0).then(|| entries.into_iter().collect())
    }

    /// Takes note that the batch in flight was answered.
    pub fn handle_done(&mut self) {
        self.last_flight = self.in_flight;
        self.in_flight = 0;
        self.failures = 0;
    }

    /// Puts items of an answered batch back, to be sent again at once.
    pub fn put_back(&mut self, batch: Batch<I>) {
        if !batch.items.is_empty() {
            self.again.push_back(batch);
        }
    }

    /// Takes note that the batch in flight failed; returns the items that are given up, which must be told so.
    ///
    /// What may pass later is sent again after a pause, until each item's patience ends. A batch that can never pass is
    /// cut in half, so that one bad item does not fail its neighbours. One that waits for a locked row is sent again so
    /// that it passes by, if it can, and otherwise cut in half too; alone, such an item lets the others pass.
    #[must_use]
    pub fn handle_failure(
        &mut self,
        batch: Batch<I>,
        failure: &Failure,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) -> Batch<I> {
        self.in_flight = 0;
        self.handle_follow_up_failure(batch, failure, now, entropy)
    }

    /// Does the same for items of an answered batch whose follow-up failed: they are sent again from the start.
    /// Another batch may be in flight meanwhile.
    #[must_use]
    pub fn handle_follow_up_failure(
        &mut self,
        batch: Batch<I>,
        failure: &Failure,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) -> Batch<I> {
        let lone = batch.items.len() == 1;
        match failure.class() {
            Class::Permanent if lone => return batch,
            Class::Blocked if self.can_pass && !batch.passes && !lone => {
                self.again.push_front(Batch { passes: true, ..batch });
                return [].into_iter().collect();
            }
            Class::Permanent | Class::Blocked if !lone => {
                self.halve(batch);
                return [].into_iter().collect();
            }
            Class::Permanent | Class::Blocked | Class::Retry | Class::Unknown => {}
        }
        if failure.class() == Class::Blocked {
            return self.set_aside(batch, now, entropy);
        }
        let (unknown, passes) = (failure.class() == Class::Unknown, batch.passes);
        let entries = batch.items.into_iter().zip(batch.slips).map(|(item, mut slip)| {
            slip.may_have_run |= unknown;
            (item, slip)
        });
        let (again, given_up): (Vec<_>, Vec<_>) = entries.partition(|(_, slip)| slip.is_patient(now));
        self.send_after_pause(Batch { passes, ..again.into_iter().collect() }, now, entropy);
        given_up.into_iter().collect()
    }

    /// Takes note that these items wait for rows that someone has locked: each is sent again alone, after a pause of
    /// its own, and holds up no other. Returns the items that are given up, which must be told so.
    #[must_use]
    pub fn set_aside(&mut self, batch: Batch<I>, now: Instant, entropy: &mut dyn Entropy) -> Batch<I> {
        let mut given_up = Vec::new();
        for (item, mut slip) in batch.items.into_iter().zip(batch.slips) {
            if !slip.is_patient(now) {
                given_up.push((item, slip));
                continue;
            }
            slip.blocked += 1;
            let key = (now + retry_delay(slip.blocked, entropy), slip.ticket);
            let alone = Batch { passes: self.can_pass, ..[(item, slip)].into_iter().collect() };
            self.aside.insert(key, alone);
        }
        given_up.into_iter().collect()
    }

    fn send_after_pause(&mut self, batch: Batch<I>, now: Instant, entropy: &mut dyn Entropy) {
        self.failures += 1;
        self.retry_at = Some(now + retry_delay(self.failures, entropy));
        if !batch.items.is_empty() {
            self.again.push_front(batch);
        }
    }

    fn halve(&mut self, mut batch: Batch<I>) {
        let middle = batch.items.len() / 2;
        let (items, slips) = (batch.items.split_off(middle), batch.slips.split_off(middle));
        let second = Batch { items, passes: batch.passes, slips };
        self.again.push_front(second);
        self.again.push_front(batch);
    }

    /// Returns the patience of an item that waits from `now`: 5 s unsent, `sent` when it may have run.
    pub fn patience(now: Instant, sent: Duration) -> Patience {
        Patience { unsent: now + Duration::from_secs(5).min(sent), sent: now + sent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Item {
        weight: usize,
        bad: bool,
    }

    impl Batched for Item {
        fn weight(&self) -> usize {
            self.weight
        }
    }

    struct Counting(u64);

    impl Entropy for Counting {
        fn next_u64(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            self.0
        }
    }

    fn second(n: u64) -> Instant {
        Instant::from_start(Duration::from_secs(n))
    }

    fn batcher_with(weights: &[usize]) -> Batcher<Item> {
        let mut batcher = Batcher::new(BatchLimits { items: 3, bytes: 100, alone_bytes: 50 });
        for (n, weight) in weights.iter().enumerate() {
            let patience = Batcher::<Item>::patience(second(0), Duration::from_secs(30));
            batcher.push(Ticket(n as u64), Item { weight: *weight, bad: false }, patience);
        }
        batcher
    }

    fn sizes(mut batcher: Batcher<Item>) -> Vec<usize> {
        std::iter::from_fn(|| {
            let batch = batcher.poll_batch(second(0))?;
            batcher.handle_done();
            Some(batch.items.len())
        })
        .collect()
    }

    #[test]
    fn a_lone_item_leaves_at_once() {
        assert_eq!(sizes(batcher_with(&[1])), [1]);
    }

    #[test]
    fn one_batch_is_in_flight_at_a_time() {
        let mut batcher = batcher_with(&[1, 1, 1, 1]);
        assert!(batcher.poll_batch(second(0)).is_some());
        assert!(batcher.poll_batch(second(0)).is_none());
        batcher.handle_done();
        assert!(batcher.poll_batch(second(0)).is_some());
    }

    #[test]
    fn batches_are_bounded_in_items_and_bytes_and_large_items_travel_alone() {
        assert_eq!(sizes(batcher_with(&[1, 1, 1, 1])), [3, 1]);
        assert_eq!(sizes(batcher_with(&[40, 40, 40])), [2, 1]);
        assert_eq!(sizes(batcher_with(&[1, 60, 1, 1])), [1, 1, 2]);
        assert_eq!(sizes(batcher_with(&[500])), [1]);
    }

    #[test]
    fn what_never_ran_is_given_up_sooner_than_what_may_have_run() {
        for (failure, last_retry) in [(Failure::not_sent("refused"), 4), (Failure::no_reply("cut"), 29)] {
            let mut batcher = batcher_with(&[1]);
            let batch = batcher.poll_batch(second(0)).unwrap();
            let given_up = batcher.handle_failure(batch, &failure, second(last_retry), &mut Counting(1));
            assert!(given_up.items.is_empty());
            let batch = batcher.poll_batch(second(40)).unwrap();
            let given_up = batcher.handle_failure(batch, &failure, second(last_retry + 1), &mut Counting(1));
            assert_eq!(given_up.items.len(), 1);
            assert!(batcher.is_empty());
        }
    }

    #[test]
    fn a_failure_is_followed_by_a_pause() {
        let mut batcher = batcher_with(&[1]);
        let batch = batcher.poll_batch(second(0)).unwrap();
        let given_up = batcher.handle_failure(batch, &Failure::not_sent(""), second(0), &mut Counting(1));
        assert!(given_up.items.is_empty() && batcher.poll_batch(second(0)).is_none());
        let pause = batcher.retry_at().unwrap().since(second(0));
        assert!((Duration::from_millis(25)..=Duration::from_millis(50)).contains(&pause), "{pause:?}");
        assert!(batcher.poll_batch(batcher.retry_at().unwrap()).is_some());
    }

    proptest! {
        /// Whatever fails in whatever way, each item is told of exactly once, and a bad one fails no good one.
        #[test]
        fn no_item_is_lost_doubled_or_failed_by_its_neighbour(
            items in prop::collection::vec((1usize..80, any::<bool>()), 0..40),
            troubles in prop::collection::vec(0u8..4, 0..60),
        ) {
            let mut batcher = batcher_with(&[]);
            for (n, (weight, bad)) in items.iter().enumerate() {
                let patience = Batcher::<Item>::patience(second(0), Duration::from_secs(1 << 40));
                let patience = Patience { unsent: patience.sent, ..patience };
                batcher.push(Ticket(n as u64), Item { weight: *weight, bad: *bad }, patience);
            }
            let mut told = BTreeMap::new();
            let mut troubles = troubles.into_iter();
            let mut now = second(0);
            while !batcher.is_empty() {
                now = batcher.retry_at().unwrap_or(now);
                let batch = batcher.poll_batch(now).unwrap();
                let failure = match troubles.next() {
                    Some(0) => Some(Failure::no_reply("cut")),
                    Some(1) => Some(Failure::reported("55P03", None, "locked")),
                    Some(2) => Some(Failure::not_sent("refused")),
                    _ if batch.items.iter().any(|item| item.bad) => Some(Failure::reported("22021", None, "bad")),
                    _ => None,
                };
                let (done, ok) = match failure {
                    None => { batcher.handle_done(); (batch, true) }
                    Some(failure) => (batcher.handle_failure(batch, &failure, now, &mut Counting(9)), false),
                };
                for (ticket, item) in done.into_entries() {
                    prop_assert_eq!(item.bad, !ok);
                    prop_assert!(told.insert(ticket, ok).is_none(), "told twice");
                }
            }
            prop_assert_eq!(told.len(), items.len());
        }
    }
}
