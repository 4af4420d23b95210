//! Items that travel together in one statement.

use crate::Instant;
use std::fmt;

/// Names something the user waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// An item that can travel with others.
pub trait Batched {
    /// Names what another transaction may have locked: a queue's row, a key, a job.
    type Lock: Ord + Clone + fmt::Debug;

    /// Returns about how many bytes it takes in a statement.
    fn weight(&self) -> usize;

    /// Returns the locks that the item needs, the widest first. While one of them cannot be had, all items that need it
    /// wait for it together, in their order.
    fn locks(&self) -> [Option<Self::Lock>; 2];

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
pub struct RetryDeadlines {
    /// When it surely has not run.
    pub unsent: Instant,
    /// When it may have run.
    pub sent: Instant,
}

/// Why an item waits to be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Another transaction has locked what it needs.
    Lock,
    /// The last statement failed.
    Failure,
}

/// What a batcher keeps of an item besides the item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ItemState {
    pub(super) request_id: RequestId,
    pub(super) deadlines: RetryDeadlines,
    pub(super) may_have_run: bool,
    /// What it has waited for since it was sent, if it has.
    pub(super) waits: Option<Cause>,
    /// How often it met a locked row.
    pub(super) blocked: u32,
}

impl ItemState {
    /// Returns whether its item is sent again at `now`.
    pub(super) fn is_patient(&self, now: Instant) -> bool {
        now < self.deadline()
    }

    pub(super) fn deadline(&self) -> Instant {
        if self.may_have_run { self.deadlines.sent } else { self.deadlines.unsent }
    }
}

/// Items that travel in one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<I> {
    /// The items, in the order of locking.
    pub items: Vec<I>,
    /// Whether the statement is to pass by rows that someone has locked, and tell them, instead of waiting for them.
    pub passes: bool,
    pub(super) states: Vec<ItemState>,
}

impl<I> Batch<I> {
    /// Returns the items with their request ids, and whether an earlier statement whose reply was lost may have done them.
    pub fn into_outcomes(self) -> impl Iterator<Item = (I, RequestId, bool)> {
        self.items.into_iter().zip(self.states).map(|(item, state)| (item, state.request_id, state.may_have_run))
    }

    /// Returns the items with their request ids.
    pub fn into_entries(self) -> impl Iterator<Item = (RequestId, I)> {
        self.states.into_iter().map(|state| state.request_id).zip(self.items)
    }

    /// Returns two batches: the items at the given places, and all others.
    pub fn partition(self, places: &[usize]) -> (Batch<I>, Batch<I>) {
        let [others, chosen, ..] = self.divide([places, &[], &[], &[]]);
        (chosen, others)
    }

    /// Returns five batches: those at each of the given places, after all others. An item that is named twice goes by
    /// the first.
    pub fn divide(self, places: [&[usize]; 4]) -> [Batch<I>; 5] {
        if places.iter().all(|places| places.is_empty()) {
            let [first, second, third, fourth] = [(); 4].map(|()| [].into_iter().collect());
            return [self, first, second, third, fourth];
        }
        let mut part = vec![0; self.items.len()];
        for (n, places) in places.into_iter().enumerate().rev() {
            places.iter().for_each(|place| part[*place] = n + 1);
        }
        let mut parts = [const { Vec::new() }; 5];
        for (part, entry) in part.into_iter().zip(self.items.into_iter().zip(self.states)) {
            parts[part].push(entry);
        }
        parts.map(|entries| Batch { passes: self.passes, ..entries.into_iter().collect() })
    }
}

impl<I> FromIterator<(I, ItemState)> for Batch<I> {
    fn from_iter<T: IntoIterator<Item = (I, ItemState)>>(entries: T) -> Self {
        let (items, states) = entries.into_iter().unzip();
        Batch { items, passes: false, states }
    }
}
