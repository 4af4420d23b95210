//! Self-clocking batches: items that arrive while a batch is in flight form the next one.

use super::batch::{Batch, BatchLimits, Batched, Cause, ItemState, RequestId, RetryDeadlines};
use super::{Entropy, retry_delay};
use crate::{Class, Failure, Instant};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The longest pause before items that wait for a lock are tried again.
const MAX_LOCK_PAUSE: Duration = Duration::from_secs(1);
/// Items whose deadline passes within this time are given up together.
const EXPIRY_STEP: Duration = Duration::from_millis(50);

/// Items that wait, in order, for a row or a key that another transaction has locked.
#[derive(Debug)]
struct Waiters<I> {
    /// When the first of them is tried again.
    at: Instant,
    /// Whether they may only be sent in batches that skip locked rows.
    passes: bool,
    entries: VecDeque<(I, ItemState)>,
}

/// Gathers items into batches, one batch in flight at a time, and sends them again after failures.
///
/// An item is sent at once if no batch is in flight; items that arrive in the meantime share the next statement. A
/// [pipelined](Batcher::pipelined) batcher may have two batches in flight. The number of items is not bounded here:
/// callers limit what they push.
#[derive(Debug)]
pub struct Batcher<I: Batched> {
    limits: BatchLimits,
    /// Whether its batches can skip locked rows.
    can_pass: bool,
    /// Whether a second batch may be in flight.
    pipelines: bool,
    fresh: VecDeque<(I, ItemState)>,
    /// Batches to be sent before the fresh items: after a failure, or halved after one.
    retries: VecDeque<Batch<I>>,
    /// Items that wait for a lock. They do not delay others.
    waiters: BTreeMap<I::Lock, Waiters<I>>,
    /// Whether the last batch was one of waiters: the next one is of fresh items.
    sent_waiters_last: bool,
    /// When to look next for items whose deadline has passed; never later than the first deadline.
    expires_at: Option<Instant>,
    /// Items whose deadline had passed when they were to be sent.
    late: VecDeque<(I, ItemState)>,
    /// How many batches are in flight: two at most.
    flights: usize,
    /// How many items these have together.
    in_flight: usize,
    /// Whether the batches in flight, or the last ones that were, are full ones of fresh items.
    is_bulk: bool,
    /// How many items the last batch with a reply had.
    last_flight: usize,
    failures: u32,
    last_failure: Option<Failure>,
    retry_at: Option<Instant>,
}

impl<I: Batched> Batcher<I> {
    /// Returns an empty batcher.
    pub fn new(limits: BatchLimits) -> Self {
        Batcher {
            limits,
            can_pass: false,
            pipelines: false,
            fresh: VecDeque::new(),
            retries: VecDeque::new(),
            waiters: BTreeMap::new(),
            sent_waiters_last: false,
            expires_at: None,
            late: VecDeque::new(),
            flights: 0,
            in_flight: 0,
            is_bulk: false,
            last_flight: 0,
            failures: 0,
            last_failure: None,
            retry_at: None,
        }
    }

    /// Returns an empty batcher whose batches can skip locked rows: see [`Batch::passes`].
    ///
    /// If nothing is locked, skipping costs the server more than waiting. So batches skip locked rows only after one
    /// has waited too long, and while an item waits for a lock.
    pub fn passing_locks(limits: BatchLimits) -> Self {
        Batcher { can_pass: true, ..Batcher::new(limits) }
    }

    /// Returns the batcher with two batches in flight at times: while a full batch of fresh items is in flight and
    /// nothing else is to be sent, another full one is.
    ///
    /// The server must run them in the order in which they are sent. Then items keep their order, except after a
    /// failure of the first or a lock that it meets: the second is not taken back.
    #[must_use]
    pub fn pipelined(self) -> Self {
        Batcher { pipelines: true, ..self }
    }

    /// Adds an item.
    pub fn push(&mut self, request_id: RequestId, item: I, deadlines: RetryDeadlines) {
        if self.failures > 0 {
            self.watch_deadline(Some(deadlines.unsent));
        }
        self.fresh.push_back((
            item,
            ItemState { request_id, deadlines, may_have_run: false, waits: None, blocked: 0, is_fresh: true },
        ));
    }

    /// Returns how many items wait or are in flight.
    pub fn len(&self) -> usize {
        let retries: usize = self.retries.iter().map(|batch| batch.items.len()).sum();
        let waiting: usize = self.waiters.values().map(|waiters| waiters.entries.len()).sum();
        self.fresh.len() + retries + waiting + self.late.len() + self.in_flight
    }

    /// Returns whether no item waits or is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether fewer items wait than the last batch had, so that more are likely to arrive soon.
    pub fn is_gathering(&self) -> bool {
        self.flights == 0 && !self.fresh.is_empty() && self.fresh.len() < self.last_flight
    }

    /// Returns how many batches have failed in a row. Two that were in flight together count once.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns when a batch will be sent again; `None` if none waits, or while one is in flight.
    pub fn retry_at(&self) -> Option<Instant> {
        let waiters = self.waiters.values().map(|waiters| waiters.at).min();
        self.retry_at.or(waiters).filter(|_| self.flights == 0)
    }

    /// Returns when to call [`Batcher::poll_given_up`] next.
    pub fn expires_at(&self) -> Option<Instant> {
        self.expires_at
    }

    /// Returns items whose deadline has passed while they waited for a lock or for a pause after a failure to end, with
    /// the failure to report for them; `None` means that they waited for a lock.
    ///
    /// To be called until it returns `None`, after [`Batcher::poll_batch`] and at the time of [`Batcher::expires_at`].
    #[must_use]
    pub fn poll_given_up(&mut self, now: Instant) -> Option<(Batch<I>, Option<Failure>)> {
        if self.late.is_empty() {
            self.expires_at.filter(|at| *at <= now)?;
        }
        let mut given_up = Vec::from(std::mem::take(&mut self.late));
        self.waiters.retain(|_, waiters| {
            given_up.extend(take_expired(&mut waiters.entries, now, |_| true));
            !waiters.entries.is_empty()
        });
        // Half of a batch with a bad item, for example, is sent at once and has not waited.
        for batch in &mut self.retries {
            let Batch { items, states, passes } = std::mem::replace(batch, [].into_iter().collect());
            let mut entries = items.into_iter().zip(states).collect();
            given_up.extend(take_expired(&mut entries, now, |state| state.waits.is_some()));
            *batch = Batch { passes, ..entries.into_iter().collect() };
        }
        self.retries.retain(|batch| !batch.items.is_empty());
        let (locked, mut failed): (Vec<_>, Vec<_>) =
            given_up.into_iter().partition(|(_, state)| state.waits == Some(Cause::Lock));
        if !locked.is_empty() {
            self.late.extend(failed);
            return Some((locked.into_iter().collect(), None));
        }
        if self.failures > 0 {
            failed.extend(take_expired(&mut self.fresh, now, |_| true));
        }
        if !failed.is_empty() {
            return Some((failed.into_iter().collect(), self.last_failure.clone()));
        }
        self.expires_at = self.first_deadline().map(|at| at.max(now + EXPIRY_STEP));
        self.retry_at = self.retry_at.filter(|_| !self.is_empty());
        None
    }

    /// Returns the first deadline of a waiting item.
    fn first_deadline(&self) -> Option<Instant> {
        let waiting = self.waiters.values().flat_map(|waiters| &waiters.entries).map(|(_, state)| state);
        let failed = self.retries.iter().flat_map(|batch| &batch.states).filter(|state| state.waits.is_some());
        let fresh = self.fresh.iter().map(|(_, state)| state).filter(|_| self.failures > 0);
        waiting.chain(failed).chain(fresh).map(ItemState::deadline).min()
    }

    fn watch_deadline(&mut self, deadline: Option<Instant>) {
        self.expires_at = self.expires_at.into_iter().chain(deadline).min();
    }

    /// Returns the next batch to send, unless one is in flight or a pause after a failure has not ended. A
    /// [pipelined](Batcher::pipelined) batcher returns a second one at times.
    #[must_use]
    pub fn poll_batch(&mut self, now: Instant) -> Option<Batch<I>> {
        if self.flights > 0 {
            let may_follow = self.flights == 1 && self.is_bulk && self.retry_at.is_none() && self.is_bulk_next();
            let batch = if may_follow { self.fresh_batch() } else { None };
            return batch.map(|batch| self.send(batch));
        }
        if self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        self.retry_at = None;
        loop {
            self.take_due_waiters(now);
            self.is_bulk = self.is_bulk_next();
            let batch = self.retries.pop_front().or_else(|| self.fresh_batch())?;
            let batch = if self.waiters.is_empty() { batch } else { self.without_waiters(batch, now) };
            let mut batch = self.without_late(batch, now);
            if !batch.items.is_empty() {
                batch.passes |= self.waiters.values().any(|waiters| waiters.passes);
                return Some(self.send(batch));
            }
        }
    }

    fn send(&mut self, batch: Batch<I>) -> Batch<I> {
        self.flights += 1;
        self.in_flight += batch.items.len();
        batch
    }

    /// Returns whether another batch may be in flight together with the next one, which is then a full one of fresh
    /// items. Nothing is to be sent before it, and no failure or lock makes it likely that it must be sent again. Items
    /// that are sent alone for their size are not: two in flight would need much memory.
    fn is_bulk_next(&self) -> bool {
        let has_others = !(self.retries.is_empty() && self.waiters.is_empty() && self.late.is_empty());
        if !self.pipelines || has_others || self.failures > 0 || self.fresh.is_empty() {
            return false;
        }
        let count = self.limits.together(self.fresh.iter().map(|(item, _)| item.weight()));
        let is_full = count == self.limits.items || count < self.fresh.len();
        is_full && self.fresh[0].0.weight() <= self.limits.alone_bytes
    }

    /// Moves the waiting items whose deadline has passed to the late ones; returns the others.
    fn without_late(&mut self, batch: Batch<I>, now: Instant) -> Batch<I> {
        if batch.states.iter().all(|state| state.waits.is_none()) {
            return batch;
        }
        let passes = batch.passes;
        let mut entries = batch.items.into_iter().zip(batch.states).collect();
        self.late.extend(take_expired(&mut entries, now, |state| state.waits.is_some()));
        Batch { passes, ..entries.into_iter().collect() }
    }

    /// Moves waiters that are due to the retries: the first one of each lock in a common batch, then the others.
    /// Batches of waiters alternate with fresh ones.
    fn take_due_waiters(&mut self, now: Instant) {
        if !self.retries.is_empty() {
            return;
        }
        let is_turn_of_fresh = std::mem::replace(&mut self.sent_waiters_last, false) && !self.fresh.is_empty();
        if is_turn_of_fresh || self.waiters.values().all(|waiters| waiters.at > now) {
            return;
        }
        let due = self.waiters.iter().filter(|(_, waiters)| waiters.at <= now);
        let heads = due.clone().filter_map(|(_, waiters)| waiters.entries.front());
        let count = self.limits.together(heads.map(|(item, _)| item.weight()));
        let due: Vec<_> = due.take(count).map(|(lock, _)| lock.clone()).collect();
        let (mut first, mut passes) = (Vec::new(), false);
        for mut waiters in due.iter().filter_map(|lock| self.waiters.remove(lock)) {
            first.extend(waiters.entries.pop_front());
            self.retries.extend(in_batches(waiters.entries, &self.limits, waiters.passes));
            passes |= waiters.passes;
        }
        first.sort_by(|(a, _), (b, _)| a.order(b));
        self.retries.push_front(Batch { passes, ..first.into_iter().collect() });
        self.sent_waiters_last = true;
    }

    fn fresh_batch(&mut self) -> Option<Batch<I>> {
        let count = self.limits.together(self.fresh.iter().map(|(item, _)| item.weight()));
        let mut entries: Vec<_> = self.fresh.drain(..count).collect();
        entries.sort_by(|(a, _), (b, _)| a.order(b));
        (count > 0).then(|| entries.into_iter().collect())
    }

    /// Moves the items that need a lock with waiters behind these waiters; returns the others.
    fn without_waiters(&mut self, batch: Batch<I>, now: Instant) -> Batch<I> {
        let passes = batch.passes;
        let mut free = Vec::with_capacity(batch.items.len());
        for (item, mut state) in batch.items.into_iter().zip(batch.states) {
            match item.locks().into_iter().flatten().find(|lock| self.waiters.contains_key(lock)) {
                Some(lock) => {
                    self.watch_deadline(Some(state.deadline().max(now + EXPIRY_STEP)));
                    state.waits = Some(Cause::Lock);
                    self.waiters.entry(lock).and_modify(|waiters| waiters.entries.push_back((item, state)));
                }
                None => free.push((item, state)),
            }
        }
        Batch { passes, ..free.into_iter().collect() }
    }

    /// Records that a batch in flight got a reply.
    pub fn handle_done(&mut self, batch: &Batch<I>) {
        self.land(batch);
        self.last_flight = batch.items.len();
        self.failures = 0;
    }

    fn land(&mut self, batch: &Batch<I>) {
        self.flights = self.flights.saturating_sub(1);
        self.in_flight = self.in_flight.saturating_sub(batch.items.len());
    }

    /// Puts items of a batch with a reply back, to be sent again: the first time at once, then as if they waited for a
    /// lock, which is the usual reason. Returns the items that are given up, which the caller must report.
    #[must_use]
    pub fn put_back(&mut self, batch: Batch<I>, now: Instant, entropy: &mut dyn Entropy) -> Batch<I> {
        let passes = batch.passes;
        let entries = batch.items.into_iter().zip(batch.states);
        let (at_once, later): (Vec<_>, Vec<_>) =
            entries.partition(|(_, state)| state.blocked == 0 && now < state.deadlines.sent);
        if !at_once.is_empty() {
            let tried = at_once.into_iter().map(|(item, state)| (item, ItemState { blocked: 1, waits: None, ..state }));
            self.retries.push_back(Batch { passes, ..tried.collect() });
        }
        self.set_aside(later.into_iter().collect(), now, entropy)
    }

    /// Puts items of a batch with a reply back whose outcome is not known, to be sent at once and before all others,
    /// even after their deadlines. They are no longer [fresh](Batch::is_fresh), so the next statement reports it.
    pub(super) fn explain(&mut self, batch: Batch<I>) {
        if !batch.items.is_empty() {
            let states =
                batch.states.into_iter().map(|state| ItemState { is_fresh: false, waits: None, ..state }).collect();
            self.put_first(Batch { states, ..batch });
        }
    }

    /// Puts a batch before all that are to be sent again.
    fn put_first(&mut self, batch: Batch<I>) {
        self.retries.insert(self.first_place(&batch), batch);
    }

    /// Returns the place of a batch that goes before all that are to be sent again, except what is left of one that was
    /// in flight together with it and was sent earlier: whichever reply comes first, items keep their order.
    fn first_place(&self, batch: &Batch<I>) -> usize {
        let first = |batch: &Batch<I>| batch.states.iter().map(|state| state.request_id).min();
        let is_earlier = |other: &&Batch<I>| self.is_bulk && first(other) < first(batch);
        self.retries.iter().take_while(is_earlier).count()
    }

    /// Records that a batch in flight failed. Returns the items that are given up, which the caller must report.
    ///
    /// Items that may succeed later are sent again after a pause, until their deadlines. A batch that can never succeed
    /// is halved, so that a bad item does not fail the others; so is one that took too long. A batch that waited for a
    /// lock is sent again skipping locked rows, if possible; locked items are then [set aside](Batcher::set_aside).
    #[must_use]
    pub fn handle_failure(
        &mut self,
        batch: Batch<I>,
        failure: &Failure,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) -> Batch<I> {
        self.land(&batch);
        self.handle_follow_up_failure(batch, failure, now, entropy)
    }

    /// Does the same for items of a batch with a reply whose follow-up request failed: they are sent again from the
    /// start. Another batch may be in flight.
    #[must_use]
    pub fn handle_follow_up_failure(
        &mut self,
        batch: Batch<I>,
        failure: &Failure,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) -> Batch<I> {
        let is_single = batch.items.len() == 1;
        let (unknown, passes) = (failure.class() == Class::Unknown, batch.passes);
        match failure.class() {
            Class::Permanent if is_single => return batch,
            Class::Permanent => {
                self.halve(batch);
                return [].into_iter().collect();
            }
            Class::Blocked if self.can_pass && !passes && is_single => return self.set_aside(batch, now, entropy),
            Class::Blocked | Class::Retry | Class::Unknown => {}
        }
        if failure.class() == Class::Blocked && self.can_pass && !passes {
            // Most items need not wait. The retry finds out which, so it ignores their deadlines.
            self.put_first(Batch { passes: true, ..batch });
            return [].into_iter().collect();
        }
        let entries = batch.items.into_iter().zip(batch.states).map(|(item, mut state)| {
            state.may_have_run |= unknown;
            state.waits = Some(Cause::Failure);
            (item, state)
        });
        let (retried, given_up): (Vec<_>, Vec<_>) = entries.partition(|(_, state)| state.may_retry(now));
        let retried = Batch { passes, ..retried.into_iter().collect() };
        match failure.class() {
            Class::Blocked if failure.took_too_long() && !is_single => self.halve(retried),
            _ => self.send_after_pause(retried, failure, now, entropy),
        }
        given_up.into_iter().collect()
    }

    /// Records that another transaction has the narrowest lock that each item needs. Items that wait for the same lock
    /// are tried again together, after a pause, and do not delay others. Returns the items that are given up, which the
    /// caller must report.
    #[must_use]
    pub fn set_aside(&mut self, batch: Batch<I>, now: Instant, entropy: &mut dyn Entropy) -> Batch<I> {
        self.set_aside_by(batch, self.can_pass, |[wide, narrow]| narrow.or(wide), now, entropy)
    }

    /// Does the same for items that wait for the widest of their locks, which every batch skips.
    #[must_use]
    pub fn set_aside_widely(&mut self, batch: Batch<I>, now: Instant, entropy: &mut dyn Entropy) -> Batch<I> {
        self.set_aside_by(batch, false, |[wide, _]| wide, now, entropy)
    }

    fn set_aside_by(
        &mut self,
        batch: Batch<I>,
        passes: bool,
        choose: impl Fn([Option<I::Lock>; 2]) -> Option<I::Lock>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) -> Batch<I> {
        let mut given_up = Vec::new();
        for (item, mut state) in batch.items.into_iter().zip(batch.states) {
            let Some(lock) = choose(item.locks()).filter(|_| state.may_retry(now)) else {
                given_up.push((item, state));
                continue;
            };
            state.blocked += 1;
            state.waits = Some(Cause::Lock);
            self.watch_deadline(Some(state.deadline()));
            let waiters = self.waiters.entry(lock).or_insert_with(|| {
                let at = now + retry_delay(state.blocked, entropy).min(MAX_LOCK_PAUSE);
                Waiters { at, passes, entries: VecDeque::new() }
            });
            waiters.entries.push_back((item, state));
        }
        given_up.into_iter().collect()
    }

    fn send_after_pause(&mut self, batch: Batch<I>, failure: &Failure, now: Instant, entropy: &mut dyn Entropy) {
        // If a pause has begun, the batch was in flight together with one that failed before.
        if !self.is_bulk || self.retry_at.is_none() {
            self.failures += 1;
        }
        self.last_failure = Some(failure.clone());
        self.retry_at = Some(now + retry_delay(self.failures, entropy));
        if !batch.items.is_empty() {
            self.put_first(batch);
        }
        self.watch_deadline(self.first_deadline());
    }

    fn halve(&mut self, mut batch: Batch<I>) {
        let (place, middle) = (self.first_place(&batch), batch.items.len() / 2);
        let (items, states) = (batch.items.split_off(middle), batch.states.split_off(middle));
        let second = Batch { items, passes: batch.passes, states };
        for half in [second, batch].into_iter().filter(|half| !half.items.is_empty()) {
            self.retries.insert(place, half);
        }
    }

    /// Returns the deadlines of an item that is pushed at `now`: `sent` later if it may have run, else 5 s later.
    pub fn deadlines(now: Instant, sent: Duration) -> RetryDeadlines {
        RetryDeadlines { unsent: now + Duration::from_secs(5).min(sent), sent: now + sent }
    }
}

/// Removes and returns the entries that wait and whose deadline has passed.
fn take_expired<I>(
    entries: &mut VecDeque<(I, ItemState)>,
    now: Instant,
    waits: impl Fn(&ItemState) -> bool,
) -> Vec<(I, ItemState)> {
    let stays = |state: &ItemState| !waits(state) || state.may_retry(now);
    let (kept, given_up) = std::mem::take(entries).into_iter().partition(|(_, state)| stays(state));
    *entries = kept;
    Vec::from(given_up)
}

/// Splits entries into batches within the limits.
fn in_batches<I: Batched>(mut entries: VecDeque<(I, ItemState)>, limits: &BatchLimits, passes: bool) -> Vec<Batch<I>> {
    let mut batches = Vec::new();
    while !entries.is_empty() {
        let count = limits.together(entries.iter().map(|(item, _)| item.weight()));
        batches.push(Batch { passes, ..entries.drain(..count).collect() });
    }
    batches
}

#[cfg(test)]
mod tests;
