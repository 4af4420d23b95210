//! Settlements: sent in batches, sent again after failures, and looked up when they changed nothing.

use super::options::MAX_BATCH;
use super::{Worker, WorkerEvent};
use crate::machine::chore::Chore;
use crate::machine::{
    Batch, BatchLimits, Batched, Batcher, Entropy, Reply, RequestId, RetryDeadlines, Timer, Trouble, interpret,
};
use crate::op::{Outcome, Settle, SettleCommits, SettleItem, Unsettled};
use crate::{Error, Failure, Instant, Lease, Operation, Plan, Rows, State, Verdict};
use std::time::Duration;
use uuid::Uuid;

/// While this many settlements have no outcome, no further job is handed out or claimed.
const MAX_UNSETTLED: usize = 10_000;
/// A settlement is sent again until this long after the end of its lease.
const SETTLE_AFTER_END: Duration = Duration::from_secs(30);
/// Queues are polled within this time after jobs were released.
const RELEASED_POLL: Duration = Duration::from_secs(1);

/// The settlements without an outcome.
#[derive(Debug)]
pub(super) struct Settlements {
    batcher: Batcher<SettleItem>,
    /// Settlements that changed nothing, of the last settle with a reply. Their outcomes are looked up next.
    unacknowledged: Option<Batch<SettleItem>>,
    /// The requests that look up outcomes.
    outcomes: Chore,
}

impl Settlements {
    pub(super) fn new() -> Self {
        Settlements {
            batcher: Batcher::passing_locks(BatchLimits::of_items(MAX_BATCH)),
            unacknowledged: None,
            outcomes: Chore::new(Timer::Batch, None),
        }
    }

    /// Returns whether there are so many that no further job may be handed out or claimed.
    pub(super) fn are_too_many(&self) -> bool {
        self.batcher.len() >= MAX_UNSETTLED
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batcher.is_empty() && self.unacknowledged.is_none() && !self.outcomes.is_in_flight()
    }

    pub(super) fn is_gathering(&self) -> bool {
        self.batcher.is_gathering()
    }

    pub(super) fn failures(&self) -> u32 {
        self.batcher.failures().max(self.outcomes.failures())
    }

    /// Returns when to send or give up settlements next.
    pub(super) fn next(&self) -> Option<(Instant, Timer)> {
        let retry = self.batcher.retry_at().filter(|_| self.unacknowledged.is_none());
        retry.into_iter().chain(self.batcher.expires_at()).min().map(|at| (at, Timer::Batch))
    }
}

impl Worker {
    /// Queues a settlement. A [`WorkerEvent::Settled`] with the returned request id reports its outcome.
    ///
    /// It is sent again after failures until 30 s after the lease's end. `random` spreads a retry over the jitter.
    pub fn settle(&mut self, lease: Lease, verdict: Verdict, now: Instant, random: u64) -> RequestId {
        let request_id = self.events.next_request_id();
        let Some(leased) = self.leases.remove(&lease) else {
            let outcome = Err(Trouble::Refused(Error::LeaseLost));
            self.events.push(WorkerEvent::Settled { request_id, outcome });
            return request_id;
        };
        let last = leased.ends_at().max(now) + SETTLE_AFTER_END;
        let item = leased.settlement(lease, verdict, random);
        self.settlements.batcher.push(request_id, item, RetryDeadlines { unsent: last, sent: last });
        request_id
    }

    /// Releases a job that was never started. No task waits for the outcome.
    pub(super) fn release(&mut self, lease: &Lease, now: Instant) {
        let _request_id = self.settle(*lease, Verdict::Release, now, 0);
    }

    /// Returns the settlement that the caller's transaction should send; `None` if this worker does not have the lease.
    pub fn settlement(&self, lease: Lease, verdict: Verdict, random: u64) -> Option<SettleItem> {
        self.leases.get(&lease).map(|leased| leased.settlement(lease, verdict, random))
    }

    /// Records that the caller's transaction has settled a lease and committed. The call may come late, and a repeated
    /// one does no harm.
    pub fn handle_settled_in_transaction(&mut self, item: &SettleItem, now: Instant) {
        self.leases.remove(&item.lease);
        self.schedule_returned([item], now);
    }

    /// Removes a lease that the caller has settled otherwise, or lets expire.
    pub fn forget(&mut self, lease: &Lease) {
        self.leases.remove(lease);
    }

    /// Returns the settlements that changed nothing and are to be looked up now.
    pub(super) fn begin_outcome(&mut self, now: Instant) -> Option<Batch<SettleItem>> {
        let Settlements { unacknowledged, outcomes, .. } = &mut self.settlements;
        if unacknowledged.is_some() && outcomes.begin(now) { unacknowledged.take() } else { None }
    }

    pub(super) fn begin_settle(&mut self, now: Instant) -> Option<Batch<SettleItem>> {
        let Settlements { batcher, unacknowledged, .. } = &mut self.settlements;
        let batch = if unacknowledged.is_none() { batcher.poll_batch(now) } else { None };
        // Those whose deadline passed while they waited to be sent again.
        while let Some((batch, failure)) = batcher.poll_given_up(now) {
            self.events.settled(batch, &Err(Trouble::Failed(failure.unwrap_or_else(Failure::locked))));
        }
        batch
    }

    pub(super) fn handle_settle(
        &mut self,
        batch: Batch<SettleItem>,
        reply: Reply,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        match interpret(reply, |rows| unsettled(&batch, rows)) {
            Ok(unsettled) => self.apply_settle(batch, unsettled, now, entropy),
            Err(Trouble::Failed(failure)) => {
                let given_up = self.settlements.batcher.handle_failure(batch, &failure, now, entropy);
                self.events.settled(given_up, &Err(Trouble::Failed(failure)));
            }
            Err(refused) => {
                self.settlements.batcher.handle_done(&batch);
                self.events.settled(batch, &Err(refused));
            }
        }
    }

    fn apply_settle(
        &mut self,
        batch: Batch<SettleItem>,
        unsettled: Unsettled,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        let Settlements { batcher, unacknowledged, .. } = &mut self.settlements;
        batcher.handle_done(&batch);
        let (applied, [missed, locked]) = batch.divide([&unsettled.missed, &unsettled.locked]);
        *unacknowledged = (!missed.items.is_empty()).then_some(missed);
        let given_up = batcher.set_aside(locked, now, entropy);
        self.events.settled(given_up, &Err(Trouble::Failed(Failure::locked())));
        self.schedule_returned(&applied.items, now);
        self.events.settled(applied, &Ok(()));
    }

    /// Schedules polls, promotions and notifications for the jobs that settlements made ready, or due later.
    fn schedule_returned<'a>(&mut self, settled: impl IntoIterator<Item = &'a SettleItem> + Clone, now: Instant) {
        let settled = || settled.clone().into_iter();
        if settled().any(|item| item.state == State::Pending) {
            self.notify_idle_workers(now);
        }
        if !self.draining && !self.options.queues.is_empty() {
            let retried = settled().filter(|item| item.state == State::Pending && item.verdict != Verdict::Release);
            let (later, at_once): (Vec<_>, Vec<_>) = retried.partition(|item| item.delay.is_some());
            if let Some(delay) = later.into_iter().filter_map(|item| item.delay).min() {
                self.maintenance.promote_by(now + delay);
            }
            if settled().any(|item| item.verdict == Verdict::Release) {
                self.polls.poll_by(now + RELEASED_POLL);
            }
            if !at_once.is_empty() && !self.has_open_line() {
                self.polls.poll_by(now);
            }
        }
    }

    pub(super) fn handle_outcome(
        &mut self,
        batch: Batch<SettleItem>,
        reply: Reply,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.settlements.outcomes.end(&reply);
        match interpret(reply, |rows| Outcome { items: &batch.items }.interpret(rows)) {
            Ok(applied) => {
                let indexes: Vec<_> =
                    applied.iter().enumerate().filter(|(_, applied)| **applied).map(|(index, _)| index).collect();
                let (applied, lost) = batch.partition(&indexes);
                self.events.settled(applied, &Ok(()));
                self.events.settled(lost, &Err(Trouble::Refused(Error::LeaseLost)));
            }
            // The settlement is sent again: it is fenced, changes nothing as before, and is looked up again.
            Err(Trouble::Failed(failure)) => {
                let given_up = self.settlements.batcher.handle_follow_up_failure(batch, &failure, now, entropy);
                self.events.settled(given_up, &Err(Trouble::Failed(failure)));
            }
            Err(refused) => self.events.settled(batch, &Err(refused)),
        }
    }
}

/// Returns the plan that settles a batch: the cheaper one if all its jobs have succeeded.
pub(super) fn settle_plan(batch: &Batch<SettleItem>) -> Plan<'_> {
    if is_of_commits(batch) {
        SettleCommits::plan_of(&batch.items)
    } else {
        Settle::plan_of(&batch.items, batch.passes)
    }
}

/// Reads the reply to this plan.
fn unsettled(batch: &Batch<SettleItem>, rows: &Rows) -> Result<Unsettled, Error> {
    let items = &batch.items;
    if is_of_commits(batch) {
        SettleCommits { items }.interpret(rows)
    } else {
        Settle { items, passes: batch.passes }.interpret(rows)
    }
}

fn is_of_commits(batch: &Batch<SettleItem>) -> bool {
    !batch.passes && batch.items.iter().all(|item| item.verdict == Verdict::Commit)
}

impl Batched for SettleItem {
    /// The id of the job.
    type Lock = Uuid;

    fn locks(&self) -> [Option<Uuid>; 2] {
        [Some(self.lease.job), None]
    }

    fn weight(&self) -> usize {
        SettleItem::weight(self)
    }

    fn order(&self, other: &Self) -> std::cmp::Ordering {
        self.lease.job.cmp(&other.lease.job)
    }
}
