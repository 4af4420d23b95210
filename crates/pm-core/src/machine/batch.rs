//! Items that are sent together in one statement.

use crate::Instant;
use std::fmt;

/// Identifies a request to a machine until its outcome is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// An item that can be sent in a batch.
pub trait Batched {
    /// Identifies something that another transaction may have locked: the row of a queue, a key, or a job.
    type Lock: Ord + Clone + fmt::Debug;

    /// Returns the approximate size of the item in a statement, in bytes.
    fn weight(&self) -> usize;

    /// Returns the locks that the item needs, the widest first. While another transaction has one of them, all items
    /// that need it wait for it together, in order.
    fn locks(&self) -> [Option<Self::Lock>; 2];

    /// Compares the item with another of its batch. Items are sent in this order, which must be that of locking; equal
    /// items keep their order.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        let _keeps_the_order_of_arrival = other;
        std::cmp::Ordering::Equal
    }
}

/// The limits of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// The maximum number of items.
    pub items: usize,
    /// The maximum size in bytes.
    pub bytes: usize,
    /// An item of more bytes is sent alone.
    pub alone_bytes: usize,
}

impl BatchLimits {
    /// Returns limits of `items` items and 16 MiB, with items over 1 MiB sent alone.
    pub const fn of_items(items: usize) -> Self {
        BatchLimits { items, bytes: 16 << 20, alone_bytes: 1 << 20 }
    }

    /// Returns how many of the first items form a batch, given their sizes in bytes: at least one, if there are any.
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

/// The retry deadlines of an item: until when it is sent again after failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryDeadlines {
    /// The deadline while it certainly has not run.
    pub unsent: Instant,
    /// The deadline once it may have run.
    pub sent: Instant,
}

/// Why an item waits to be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Another transaction has a lock that it needs.
    Lock,
    /// The last statement failed.
    Failure,
}

/// The state of an item in a batcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ItemState {
    pub(super) request_id: RequestId,
    pub(super) deadlines: RetryDeadlines,
    pub(super) may_have_run: bool,
    /// Why it waits to be sent again, if it does.
    pub(super) waits: Option<Cause>,
    /// How often a lock that it needs was taken.
    pub(super) blocked: u32,
    /// Whether it is sent in the cheaper statement that leaves out the rare outcomes.
    pub(super) is_fresh: bool,
}

impl ItemState {
    /// Returns whether the item may still be sent again at `now`.
    pub(super) fn may_retry(&self, now: Instant) -> bool {
        now < self.deadline()
    }

    pub(super) fn deadline(&self) -> Instant {
        if self.may_have_run { self.deadlines.sent } else { self.deadlines.unsent }
    }
}

/// The items of one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<I> {
    /// The items, in the order of locking.
    pub items: Vec<I>,
    /// Whether the statement skips and reports rows that another transaction has locked, instead of waiting for them.
    pub passes: bool,
    pub(super) states: Vec<ItemState>,
}

impl<I> Batch<I> {
    /// Returns the items with their request ids, and whether an earlier statement with a lost reply may have run them.
    pub fn into_outcomes(self) -> impl Iterator<Item = (I, RequestId, bool)> {
        self.items.into_iter().zip(self.states).map(|(item, state)| (item, state.request_id, state.may_have_run))
    }

    /// Returns the items with their request ids.
    pub fn into_entries(self) -> impl Iterator<Item = (RequestId, I)> {
        self.states.into_iter().map(|state| state.request_id).zip(self.items)
    }

    /// Returns whether no item may have run before, or is sent again to learn its outcome.
    pub(super) fn is_fresh(&self) -> bool {
        self.states.iter().all(|state| state.is_fresh && !state.may_have_run)
    }

    /// Splits the batch in two: the items at these indexes, and all others.
    ///
    /// # Panics
    ///
    /// If an index is out of range.
    pub fn partition(self, indexes: &[usize]) -> (Batch<I>, Batch<I>) {
        let (others, [chosen]) = self.divide([indexes]);
        (chosen, others)
    }

    /// Splits the batch: the items in none of the lists of indexes, and those in each. An item in several lists belongs
    /// to the first.
    ///
    /// # Panics
    ///
    /// If an index is out of range.
    pub fn divide<const N: usize>(self, indexes: [&[usize]; N]) -> (Batch<I>, [Batch<I>; N]) {
        if indexes.iter().all(|indexes| indexes.is_empty()) {
            return (self, indexes.map(|_| [].into_iter().collect()));
        }
        let mut part_of = vec![None; self.items.len()];
        for (part, indexes) in indexes.into_iter().enumerate().rev() {
            indexes.iter().for_each(|index| part_of[*index] = Some(part));
        }
        let (mut others, mut parts) = (Vec::new(), [const { Vec::new() }; N]);
        for (part, entry) in part_of.into_iter().zip(self.items.into_iter().zip(self.states)) {
            part.map_or(&mut others, |part| &mut parts[part]).push(entry);
        }
        let batch = |entries: Vec<_>| Batch { passes: self.passes, ..entries.into_iter().collect() };
        (batch(others), parts.map(batch))
    }
}

impl<I> FromIterator<(I, ItemState)> for Batch<I> {
    fn from_iter<T: IntoIterator<Item = (I, ItemState)>>(entries: T) -> Self {
        let (items, states) = entries.into_iter().unzip();
        Batch { items, passes: false, states }
    }
}
