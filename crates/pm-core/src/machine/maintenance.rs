//! Maintenance: promoting due jobs, reaping expired leases, firing schedules, pruning ended jobs.
//!
//! Every worker contains a [`Maintenance`], which is scheduled by the replies to the worker's polls. In a process
//! without workers a standalone one checks periodically what there is to do.

use super::chore::Chore;
use super::timer::Timer;
use super::{Entropy, Reply, Request, Trouble, interpret, scatter};
use crate::op::{DeleteEmptyQueues, DueSchedules, FireSchedules, Promote, PruneJobs, Reap};
use crate::{Instant, Lease, Operation, Plan, Timestamp};
use std::time::Duration;
use uuid::Uuid;

/// The first pause after a reap or a firing that found all rows locked, or changed by other processes; doubled each
/// time, up to [`MAX_FRUITLESS_PAUSE`].
const MIN_FRUITLESS_PAUSE: Duration = Duration::from_millis(100);
const MAX_FRUITLESS_PAUSE: Duration = Duration::from_secs(2);
/// The pause after a request that found only schedules that this version cannot read.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(60);
/// The minimum delay until a tick, because the database reports it in whole milliseconds.
const MIN_TICK_DELAY: Duration = Duration::from_millis(1);
/// The reaps and firings of many processes are spread over this time.
const SPREAD: Duration = Duration::from_millis(50);
/// The promotions of many processes are spread over this time.
const PROMOTE_SPREAD: Duration = Duration::from_millis(10);
/// Pruning reads all jobs: it rests at least this long between two rounds.
const SHORTEST_PRUNE_INTERVAL: Duration = Duration::from_secs(1);

/// Which maintenance is done, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaintenanceOptions {
    /// Whether it reaps expired leases and fires schedules. It always promotes due jobs.
    pub reaps: bool,
    /// How often it prunes ended jobs; `None` for never.
    pub prune_every: Option<Duration>,
    /// How often it checks what there is to do; `None` if a worker's polls do so, see [`Maintenance::learn`].
    pub look_every: Option<Duration>,
}

/// Decides when to send which maintenance. It sends at most one request of each kind at a time: promote, reap, fire,
/// prune.
#[derive(Debug)]
pub struct Maintenance {
    options: MaintenanceOptions,
    promote: Chore,
    reap: Chore,
    fruitless_reaps: Fruitless,
    fire: Chore,
    fruitless_fires: Fruitless,
    prune: Chore,
    /// All jobs that are due before this time have been promoted.
    due_bound: Option<Timestamp>,
    /// The next request about due schedules: to fire them, or to list those after the ones that cannot be read.
    fire_next: Option<MaintenanceRequest>,
    /// The last id of the previous page of pruning.
    prune_after: Option<Uuid>,
    /// Whether the last page has been pruned, so that the rows of deleted queues are next.
    is_last_page_done: bool,
    is_stopped: bool,
}

/// The requests of maintenance. The driver passes them back with the replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaintenanceRequest {
    /// Promote due jobs.
    Promote(Promote),
    /// Reap expired leases.
    Reap(Reap),
    /// List due schedules.
    DueSchedules(DueSchedules),
    /// Fire due schedules.
    FireSchedules(FireSchedules),
    /// Prune one page of jobs.
    Prune(PruneJobs),
    /// Delete the rows of deleted queues without jobs.
    DeleteEmptyQueues(DeleteEmptyQueues),
}

/// What maintenance has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MaintenanceReport {
    /// The number of scheduled jobs that were due and were promoted.
    pub promoted: u64,
    /// The number of expired leases that were reaped.
    pub reaped: u64,
    /// The number of jobs that had not started by their time to expire, and have failed.
    pub expired: u64,
    /// The number of jobs that schedules have created.
    pub fired: u64,
    /// The number of jobs that were deleted: past their retention, or of deleted queues.
    pub pruned: u64,
}

/// What a request has done, or why it has not.
type Done = Result<MaintenanceReport, Trouble>;

impl MaintenanceReport {
    /// Returns how many jobs may have become ready.
    pub fn ready(&self) -> u64 {
        self.promoted + self.reaped + self.fired
    }
}

/// The pauses after requests of a kind that found all rows locked, or changed by other processes.
#[derive(Debug, Default)]
struct Fruitless {
    /// How many in a row did.
    count: u32,
    /// When to send the next one at the earliest, whatever a poll reports.
    not_before: Instant,
}

impl Fruitless {
    /// Records whether a request was fruitless, and returns the pause after it.
    fn pause_after(&mut self, is_fruitless: bool) -> Duration {
        self.count = if is_fruitless { self.count.saturating_add(1) } else { 0 };
        (MIN_FRUITLESS_PAUSE * (1 << self.count.saturating_sub(1).min(8))).min(MAX_FRUITLESS_PAUSE)
    }
}

impl Maintenance {
    /// Returns maintenance that checks at once if it does so periodically, and otherwise waits for
    /// [`Maintenance::learn`].
    pub fn new(options: MaintenanceOptions, now: Instant) -> Self {
        let first_check = options.look_every.map(|_| now);
        Maintenance {
            promote: Chore::new(Timer::Promote, first_check),
            reap: Chore::new(Timer::Reap, first_check.filter(|_| options.reaps)),
            fruitless_reaps: Fruitless::default(),
            fire: Chore::new(Timer::Fire, first_check.filter(|_| options.reaps)),
            fruitless_fires: Fruitless::default(),
            prune: Chore::new(Timer::Prune, options.prune_every.map(|_| now)),
            due_bound: None,
            fire_next: None,
            prune_after: None,
            is_last_page_done: false,
            is_stopped: false,
            options,
        }
    }

    /// Returns the next request to send. To be called until it returns `None`.
    #[must_use]
    pub fn poll_request(&mut self, now: Instant, entropy: &mut dyn Entropy) -> Option<MaintenanceRequest> {
        if self.fire_next.is_some() && self.fire.begin(now) {
            return self.fire_next.take();
        }
        if self.fire.begin_if_due(now) {
            return Some(MaintenanceRequest::DueSchedules(DueSchedules::default()));
        }
        if self.promote.begin_if_due(now) {
            return Some(MaintenanceRequest::Promote(Promote { limit: Promote::BATCH, bound: self.due_bound }));
        }
        if self.reap.begin_if_due(now) {
            let seed = Lease::number_from(entropy.next_u64());
            return Some(MaintenanceRequest::Reap(Reap { limit: Reap::BATCH, seed }));
        }
        let page = PruneJobs { after: self.prune_after, page: PruneJobs::PAGE, queue_id: None };
        self.prune.begin_if_due(now).then_some(match self.is_last_page_done {
            true => MaintenanceRequest::DeleteEmptyQueues(DeleteEmptyQueues { queue_id: None }),
            false => MaintenanceRequest::Prune(page),
        })
    }

    /// Handles the reply to a request, or its failure, and returns what was done.
    ///
    /// # Errors
    ///
    /// What went wrong; the request is sent again after a pause.
    pub fn handle_reply(
        &mut self,
        request: MaintenanceRequest,
        reply: Reply,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) -> Result<MaintenanceReport, Trouble> {
        let timer = request.timer();
        self.chore(timer).end(&reply);
        if self.is_stopped {
            return Ok(MaintenanceReport::default());
        }
        let done = match request {
            MaintenanceRequest::Promote(promote) => self.handle_promote(promote, reply, now, entropy),
            MaintenanceRequest::Reap(reap) => self.handle_reap(reap, reply, now, entropy),
            MaintenanceRequest::DueSchedules(due) => self.handle_due_schedules(due, reply, now, entropy),
            MaintenanceRequest::FireSchedules(fire) => self.handle_fired(fire, reply, now),
            MaintenanceRequest::Prune(prune) => self.handle_prune(prune, reply, now),
            MaintenanceRequest::DeleteEmptyQueues(delete) => self.handle_deleted_queues(delete, reply, now),
        };
        if done.is_err() {
            self.chore(timer).retry(now, entropy);
        }
        done
    }

    /// Schedules the next requests by the reply to a poll: the times until the next job is due, the next lease expires
    /// and the next tick comes.
    pub fn learn(
        &mut self,
        next_due: Option<Duration>,
        next_expiry: Option<Duration>,
        next_tick: Option<Duration>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.due_bound = None;
        self.set_promote(next_due, now, entropy);
        self.set_reap(next_expiry, now, entropy);
        self.set_fire(next_tick, now, entropy);
    }

    /// Promotes by this time, when a job is known to become due.
    pub fn promote_by(&mut self, at: Instant) {
        if !self.is_stopped {
            self.promote.set_earlier(at);
        }
    }

    /// Stops sending requests. Later replies change nothing.
    pub fn stop(&mut self) {
        self.is_stopped = true;
        self.fire_next = None;
        for chore in [&mut self.promote, &mut self.reap, &mut self.fire, &mut self.prune] {
            chore.set(None);
        }
    }

    /// Returns when to call [`Maintenance::poll_request`] next, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        [&self.promote, &self.reap, &self.fire, &self.prune].into_iter().filter_map(Chore::next).min()
    }

    /// Returns how many requests in a row have failed, of the kind with the most failures.
    pub fn failures(&self) -> u32 {
        let chores = [&self.promote, &self.reap, &self.fire, &self.prune];
        chores.map(Chore::failures).into_iter().max().unwrap_or_default()
    }

    /// Returns the time before which all due jobs are known to have been promoted.
    pub(super) fn due_bound(&self) -> Option<Timestamp> {
        self.due_bound
    }

    fn chore(&mut self, timer: Timer) -> &mut Chore {
        match timer {
            Timer::Promote => &mut self.promote,
            Timer::Reap => &mut self.reap,
            Timer::Fire => &mut self.fire,
            // No other timer is one of maintenance.
            _ => &mut self.prune,
        }
    }

    /// Returns when the next periodic check is due.
    fn next_check(&self, now: Instant) -> Option<Instant> {
        self.options.look_every.map(|every| now + every)
    }

    fn handle_promote(&mut self, promote: Promote, reply: Reply, now: Instant, entropy: &mut dyn Entropy) -> Done {
        let reply = interpret(reply, |rows| promote.interpret(rows))?;
        let is_full = reply.promoted == Promote::BATCH as u64;
        self.due_bound = reply.upto.filter(|_| is_full);
        match is_full {
            true => self.promote.set(Some(now)),
            false => self.set_promote(reply.next_due, now, entropy),
        }
        Ok(MaintenanceReport { promoted: reply.promoted, ..MaintenanceReport::default() })
    }

    fn set_promote(&mut self, next_due: Option<Duration>, now: Instant, entropy: &mut dyn Entropy) {
        // An earlier time that was learned since the request was sent stays.
        let next = next_due.map(|next| now + next + scatter(PROMOTE_SPREAD, entropy));
        next.into_iter().chain(self.next_check(now)).for_each(|at| self.promote.set_earlier(at));
    }

    fn handle_reap(&mut self, reap: Reap, reply: Reply, now: Instant, entropy: &mut dyn Entropy) -> Done {
        let reply = interpret(reply, |rows| reap.interpret(rows))?;
        if reply.is_full() {
            self.reap.set(Some(now));
        } else {
            let fruitless = reply.reaped + reply.expired == 0 && reply.next_expiry.is_some_and(|next| next.is_zero());
            self.fruitless_reaps.not_before = now + self.fruitless_reaps.pause_after(fruitless);
            self.set_reap(reply.next_expiry, now, entropy);
        }
        if self.options.look_every.is_some() {
            // Awake anyway, it looks for schedules that another process has set or changed.
            self.fire.set_earlier(now.max(self.fruitless_fires.not_before));
        }
        Ok(MaintenanceReport { reaped: reply.reaped, expired: reply.expired, ..MaintenanceReport::default() })
    }

    fn set_reap(&mut self, next_expiry: Option<Duration>, now: Instant, entropy: &mut dyn Entropy) {
        if !self.options.reaps {
            return;
        }
        let next = next_expiry.map(|next| (now + next).max(self.fruitless_reaps.not_before) + scatter(SPREAD, entropy));
        self.reap.set(next.into_iter().chain(self.next_check(now)).min());
    }

    /// Fires the schedules that are due. A late reply does no harm: the firing checks again.
    fn handle_due_schedules(
        &mut self,
        due: DueSchedules,
        reply: Reply,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) -> Done {
        let reply = interpret(reply, |rows| due.interpret(rows))?;
        let fire = FireSchedules::of(&reply, || entropy.next_u64());
        self.fire_next = match fire.is_empty() {
            true => due.beyond(&reply).map(MaintenanceRequest::DueSchedules),
            false => Some(MaintenanceRequest::FireSchedules(fire)),
        };
        if self.fire_next.is_some() {
            return Ok(MaintenanceReport::default());
        }
        if due.skip == 0 && reply.due.is_empty() {
            self.fruitless_fires.count = 0;
            self.set_fire(reply.next_tick, now, entropy);
        } else {
            let next = reply.next_tick.map_or(UNREADABLE_PAUSE, |next| next.min(UNREADABLE_PAUSE));
            self.set_fire(Some(next), now, entropy);
        }
        Ok(MaintenanceReport::default())
    }

    /// Lists due schedules again after a firing: for those that are left, and for the next tick. What a request with a
    /// lost reply has fired is no longer due.
    fn handle_fired(&mut self, fire: FireSchedules, reply: Reply, now: Instant) -> Done {
        let fired = interpret(reply, |rows| fire.interpret(rows))?;
        let fruitless = fired.schedules == 0;
        let pause = self.fruitless_fires.pause_after(fruitless);
        self.fruitless_fires.not_before = if fruitless { now + pause } else { now };
        self.fire.set(Some(self.fruitless_fires.not_before));
        Ok(MaintenanceReport { fired: fired.jobs, ..MaintenanceReport::default() })
    }

    fn set_fire(&mut self, next_tick: Option<Duration>, now: Instant, entropy: &mut dyn Entropy) {
        if !self.options.reaps {
            return;
        }
        let at = next_tick.map(|next| {
            (now + next.max(MIN_TICK_DELAY)).max(self.fruitless_fires.not_before) + scatter(SPREAD, entropy)
        });
        at.into_iter().chain(self.next_check(now)).for_each(|at| self.fire.set_earlier(at));
    }

    fn handle_prune(&mut self, prune: PruneJobs, reply: Reply, now: Instant) -> Done {
        let page = interpret(reply, |rows| prune.interpret(rows))?;
        (self.prune_after, self.is_last_page_done) = (page.upto, page.upto.is_none());
        self.prune.set(Some(now));
        Ok(MaintenanceReport { pruned: page.deleted, ..MaintenanceReport::default() })
    }

    fn handle_deleted_queues(&mut self, delete: DeleteEmptyQueues, reply: Reply, now: Instant) -> Done {
        interpret(reply, |rows| delete.interpret(rows))?;
        self.is_last_page_done = false;
        self.prune.set(self.options.prune_every.map(|every| now + every.max(SHORTEST_PRUNE_INTERVAL)));
        Ok(MaintenanceReport::default())
    }
}

impl MaintenanceRequest {
    /// Returns the timer of its kind.
    fn timer(&self) -> Timer {
        match self {
            MaintenanceRequest::Promote(_) => Timer::Promote,
            MaintenanceRequest::Reap(_) => Timer::Reap,
            MaintenanceRequest::DueSchedules(_) | MaintenanceRequest::FireSchedules(_) => Timer::Fire,
            MaintenanceRequest::Prune(_) | MaintenanceRequest::DeleteEmptyQueues(_) => Timer::Prune,
        }
    }
}

impl Request for MaintenanceRequest {
    fn plan(&self) -> Plan<'_> {
        match self {
            MaintenanceRequest::Promote(promote) => promote.plan(),
            MaintenanceRequest::Reap(reap) => reap.plan(),
            MaintenanceRequest::DueSchedules(due) => due.plan(),
            MaintenanceRequest::FireSchedules(fire) => fire.plan(),
            MaintenanceRequest::Prune(prune) => prune.plan(),
            MaintenanceRequest::DeleteEmptyQueues(delete) => delete.plan(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Failure, Rows, StatementId};

    struct Zero;

    impl Entropy for Zero {
        fn next_u64(&mut self) -> u64 {
            0
        }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Instant {
        Instant::from_start(Duration::from_secs(seconds))
    }

    fn standalone() -> Maintenance {
        let options = MaintenanceOptions { reaps: true, prune_every: Some(MINUTE * 10), look_every: Some(MINUTE) };
        Maintenance::new(options, at(0))
    }

    /// Returns a reply of one row with these numbers, or nulls.
    fn row(cells: &[Option<i64>]) -> Reply {
        let cells: Vec<_> = cells.iter().map(|cell| cell.map(i64::to_be_bytes)).collect();
        let mut rows = Rows::builder(cells.len());
        cells.iter().for_each(|cell| rows.push(cell.as_ref().map(|cell| &cell[..])));
        Ok(rows.finish())
    }

    fn next(maintenance: &mut Maintenance, now: Instant) -> Option<MaintenanceRequest> {
        maintenance.poll_request(now, &mut Zero)
    }

    #[test]
    fn standalone_maintenance_starts_at_once_with_one_request_of_each_kind() {
        let mut maintenance = standalone();
        let sent: Vec<_> = std::iter::from_fn(|| next(&mut maintenance, at(0))).collect();
        let statements: Vec<_> = sent.iter().map(|request| request.plan().statement).collect();
        let expected = [StatementId::DueSchedules, StatementId::Promote, StatementId::Reap, StatementId::PruneJobs];
        assert_eq!(statements, expected);
        assert_eq!((next(&mut maintenance, at(1_000)), maintenance.poll_timeout()), (None, None), "all are in flight");
    }

    #[test]
    fn a_full_promotion_continues_at_once_and_an_empty_one_is_repeated_after_a_minute() {
        let mut maintenance = standalone();
        let promote = MaintenanceRequest::Promote(Promote { limit: Promote::BATCH, bound: None });
        let full = row(&[Some(1_000), Some(0), None]);
        assert_eq!(maintenance.handle_reply(promote.clone(), full, at(5), &mut Zero).unwrap().ready(), 1_000);
        assert_eq!(maintenance.promote.next(), Some((at(5), Timer::Promote)));
        let none = row(&[Some(0), None, None]);
        maintenance.promote.set(None);
        assert_eq!(maintenance.handle_reply(promote, none, at(5), &mut Zero), Ok(MaintenanceReport::default()));
        assert_eq!(maintenance.promote.next(), Some((at(65), Timer::Promote)));
    }

    #[test]
    fn a_failure_is_reported_and_retried_after_a_pause() {
        let mut maintenance = standalone();
        let reap = MaintenanceRequest::Reap(Reap { limit: Reap::BATCH, seed: 0 });
        let failure = Failure::not_sent("refused");
        let outcome = maintenance.handle_reply(reap, Err(failure.clone()), at(5), &mut Zero);
        assert_eq!(outcome, Err(Trouble::Failed(failure)));
        assert!(maintenance.reap.next().is_some_and(|(retry_at, _)| retry_at > at(5)));
        assert_eq!(maintenance.failures(), 1);
    }

    #[test]
    fn pruning_goes_page_by_page_then_deletes_empty_queues_and_pauses() {
        let mut maintenance = standalone();
        maintenance.stop();
        maintenance.is_stopped = false;
        maintenance.prune.set(Some(at(0)));
        let id = Uuid::from_u128(7);
        for (upto, follows) in [(Some(id), StatementId::PruneJobs), (None, StatementId::DeleteEmptyQueues)] {
            let request = next(&mut maintenance, at(0)).unwrap();
            assert_eq!(request.plan().statement, StatementId::PruneJobs);
            let seen = if upto.is_some() { PruneJobs::PAGE as i64 } else { 1 };
            let mut rows = Rows::builder(3);
            rows.push(Some(&seen.to_be_bytes()));
            rows.push(Some(id.as_bytes()));
            rows.push(Some(&3i64.to_be_bytes()));
            assert_eq!(maintenance.handle_reply(request, Ok(rows.finish()), at(0), &mut Zero).unwrap().pruned, 3);
            let is_last_page_done = maintenance.is_last_page_done;
            assert_eq!(is_last_page_done, follows == StatementId::DeleteEmptyQueues);
        }
        let request = next(&mut maintenance, at(0)).unwrap();
        assert_eq!(request.plan().statement, StatementId::DeleteEmptyQueues);
        let outcome = maintenance.handle_reply(request, row(&[Some(0), Some(0)]), at(0), &mut Zero);
        assert_eq!(outcome, Ok(MaintenanceReport::default()));
        assert_eq!(maintenance.poll_timeout(), Some((at(600), Timer::Prune)));
    }

    #[test]
    fn pruning_without_an_interval_still_pauses_between_two_rounds() {
        let options = MaintenanceOptions { reaps: true, prune_every: Some(Duration::ZERO), look_every: None };
        let mut maintenance = Maintenance::new(options, at(0));
        let last = MaintenanceRequest::DeleteEmptyQueues(DeleteEmptyQueues { queue_id: None });
        let outcome = maintenance.handle_reply(last, row(&[Some(0), Some(0)]), at(5), &mut Zero);
        assert_eq!(outcome, Ok(MaintenanceReport::default()));
        assert_eq!(maintenance.poll_timeout(), Some((at(6), Timer::Prune)));
    }

    #[test]
    fn once_stopped_it_sends_nothing_and_late_replies_change_nothing() {
        let mut maintenance = standalone();
        let request = next(&mut maintenance, at(0)).unwrap();
        maintenance.stop();
        let reply = maintenance.handle_reply(request, Err(Failure::no_reply("cut")), at(1), &mut Zero);
        assert_eq!((reply, next(&mut maintenance, at(1_000))), (Ok(MaintenanceReport::default()), None));
        maintenance.promote_by(at(2));
        assert_eq!(maintenance.poll_timeout(), None);
    }
}
