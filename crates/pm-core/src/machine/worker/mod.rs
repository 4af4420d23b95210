//! The machine that takes jobs out, keeps their leases and ends them.

mod claims;
mod driving;
mod extending;
mod fires;
mod leases;
mod poll_interval;
mod prefetch;
mod replies;
mod request;
mod slot;

pub use claims::SentClaim;
pub use request::{SentExtend, WorkerRequest};

use super::Trouble;
use super::batch::{Batch, BatchLimits, RequestId, RetryDeadlines};
use super::batcher::Batcher;
use super::timer::{Timer, Timers};
use crate::op::{Notification, SettleItem};
use crate::{Backoff, ClaimedJob, Error, Failure, Instant, Lease, QueueName, Timestamp, Verdict};
use claims::{Lines, LostClaims};
use leases::{Held, Leases};
use poll_interval::{PollInterval, SlowStart, TakenMeter};
use slot::RequestSlots;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// The most jobs in one claim, extend, reap or settle.
const MAX_BATCH: usize = 500;
/// The most jobs in one promotion.
const MAX_PROMOTED: usize = 1_000;
/// How many settles may wait before no further job is handed out.
const MAX_UNSETTLED: usize = 10_000;
/// How long a claimed job may wait for a handler after it arrived before it is given back (at most a quarter of its
/// lease).
const UNSTARTED_FOR: Duration = Duration::from_secs(5);
/// However many changes are told, queues and lines are not looked at more often than this.
const CHANGE_PAUSE: Duration = Duration::from_millis(20);
/// After jobs were given back, queues and lines are looked at within this.
const RELEASED_POLL: Duration = Duration::from_secs(1);
/// While there is work, queues and lines are looked at this often.
const BUSY_POLL: Duration = Duration::from_secs(2);
/// A settle is sent again until the lease has been over for this long.
const SETTLE_AFTER_END: Duration = Duration::from_secs(30);
/// Sleeping workers of other processes are woken no more often than this.
const WAKE_PAUSE: Duration = Duration::from_millis(100);
/// For how long it tries to give back a lost claim whose lease length is not known.
const LONGEST_GIVING_BACK: Duration = Duration::from_secs(3_600);
/// For how much longer than its sleep a worker asks to be notified.
const SLEEP_SLACK: Duration = Duration::from_secs(5);
/// The shortest wait of the reaper after it found nothing; doubled up to [`LONGEST_REAP`] while what expired is locked.
const SHORTEST_REAP: Duration = Duration::from_millis(100);
const LONGEST_REAP: Duration = Duration::from_secs(2);

/// How a worker works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerOptions {
    /// The queues it takes jobs from; none for one that only settles what it is given.
    pub queues: Vec<QueueName>,
    /// Who it is, for people.
    pub worker: String,
    /// How many jobs it claims ahead at most.
    pub prefetch: usize,
    /// For how long it extends the lease of a started job, if at all.
    pub heartbeat: Option<Duration>,
    /// The shortest time between two looks at a dry queue.
    pub poll_least: Duration,
    /// The longest time between two looks at a dry queue.
    pub poll_most: Duration,
    /// Whether it reaps expired leases of anyone, and fires schedules.
    pub reaps: bool,
    /// Where workers of other processes hear of jobs that this one put back in line; see [`Notification::channel`].
    pub channel: String,
    /// After how long the server surely has given up a statement.
    pub statement_timeout: Duration,
}

/// Takes jobs from queues and settles them.
///
/// Bounds: one request of each kind in flight; at most `prefetch` jobs claimed ahead, and no more than the handlers took
/// in the last second (at least one when someone waits; over a link so slow that a claim takes longer than a second, four
/// times what the last one brought), nor 16 MiB and one claim; 10,000 unsettled jobs; 500 items or 16 MiB a statement.
#[derive(Debug)]
pub struct Worker {
    options: WorkerOptions,
    queues: BTreeMap<i32, Followed>,
    /// Names that no queue had at the last look, as was told.
    missing: BTreeSet<QueueName>,
    lines: Lines,
    buffer: VecDeque<Buffered>,
    leases: Leases,
    settles: Batcher<SettleItem>,
    /// Words of an answered settle that changed nothing; what became of them is asked next.
    unacknowledged: Option<Batch<SettleItem>>,
    lost_claims: LostClaims,
    /// What is sent next about schedules that are due: their firing, or a look at those beyond what cannot be read.
    fire_next: Option<WorkerRequest>,
    /// Extensions that users asked for.
    asked: Vec<(Lease, RequestId)>,
    /// Extensions that are due for handlers.
    due_extensions: Vec<Lease>,
    events: VecDeque<WorkerEvent>,
    timers: Timers,
    slots: RequestSlots,
    taken: TakenMeter,
    slow_start: SlowStart,
    /// How many claims in a row brought jobs when their leases could not be trusted any longer.
    claims_too_late: u32,
    poll_interval: PollInterval,
    /// When the last poll was sent.
    polled_at: Instant,
    /// The next poll is sent by then, whatever claims bring: something was told that only a poll finds.
    poll_by: Option<Instant>,
    /// Until then producers of other processes notify this worker.
    noticed_until: Instant,
    /// How many reaps in a row found leases that had ended, and all of their jobs locked by someone.
    reaps_in_vain: u32,
    /// It does not reap before then, whatever a poll tells.
    no_reap_before: Instant,
    /// How many firings in a row found everything fired by others, or locked.
    fires_in_vain: u32,
    /// It does not look for due schedules before then, whatever a poll tells.
    no_fire_before: Instant,
    /// Whether someone waits for a job.
    waiting: bool,
    draining: bool,
    /// When it last woke idle workers.
    woke_at: Instant,
    /// Whether others can wake it by a notification.
    listening: bool,
    /// Waiting jobs due before this are known to be none.
    due_bound: Option<Timestamp>,
    last_request_id: u64,
}

/// What happened to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEvent {
    /// A settle has its answer.
    Settled {
        /// Which one.
        request_id: RequestId,
        /// Durable, or why not.
        outcome: Result<(), Trouble>,
    },
    /// An extension that a user asked for has its answer.
    Extended {
        /// Which one.
        request_id: RequestId,
        /// What remains of the lease, or why it is not known.
        outcome: Result<Duration, Trouble>,
    },
    /// A started job's lease must no longer be trusted.
    LeaseLost(Lease),
    /// Something is wrong that the user should see.
    Failed(Trouble),
}

/// A job handed to a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenJob {
    /// The job.
    pub job: ClaimedJob,
    /// The name of its queue when it was claimed.
    pub queue: Arc<str>,
}

/// A followed queue, as last read.
#[derive(Debug)]
struct Followed {
    name: Arc<str>,
    paused: bool,
    lease: Duration,
    backoff: Arc<Backoff>,
}

/// A job claimed and not started.
#[derive(Debug)]
struct Buffered {
    taken: TakenJob,
    /// It is given back then: nobody asked for it, or its lease can no longer be trusted.
    until: Instant,
}

impl Worker {
    /// Returns a worker that looks at its queues at once.
    pub fn new(options: WorkerOptions, now: Instant) -> Self {
        let mut timers = Timers::default();
        timers.set(Timer::Poll, (!options.queues.is_empty()).then_some(now));
        Worker {
            poll_interval: PollInterval::new(options.poll_least, options.poll_most),
            queues: BTreeMap::new(),
            missing: BTreeSet::new(),
            lines: Lines::default(),
            buffer: VecDeque::new(),
            leases: Leases::default(),
            settles: Batcher::passing_locks(BatchLimits::of_items(MAX_BATCH)),
            unacknowledged: None,
            lost_claims: LostClaims::default(),
            fire_next: None,
            asked: Vec::new(),
            due_extensions: Vec::new(),
            events: VecDeque::new(),
            timers,
            slots: RequestSlots::default(),
            taken: TakenMeter::default(),
            slow_start: SlowStart::default(),
            claims_too_late: 0,
            polled_at: now,
            poll_by: None,
            noticed_until: now,
            reaps_in_vain: 0,
            no_reap_before: now,
            fires_in_vain: 0,
            no_fire_before: now,
            waiting: false,
            draining: false,
            woke_at: Instant::default(),
            listening: false,
            due_bound: None,
            last_request_id: 0,
            options,
        }
    }

    /// Hands out the next job, if one is there and not too many are unsettled; otherwise takes note that someone waits.
    pub fn next_job(&mut self, now: Instant) -> Option<TakenJob> {
        while self.settles.len() < MAX_UNSETTLED
            && let Some(buffered) = self.buffer.pop_front()
        {
            let lease = buffered.taken.job.lease;
            if buffered.until <= now || !self.leases.start(lease, now, self.options.heartbeat) {
                self.give_back(&lease, now);
                continue;
            }
            self.taken.record(now);
            self.waiting = false;
            return Some(buffered.taken);
        }
        self.waiting = true;
        None
    }

    /// Returns whether [`Worker::next_job`] would hand out a job.
    pub fn has_job(&self) -> bool {
        !self.buffer.is_empty() && self.settles.len() < MAX_UNSETTLED
    }

    /// Queues the end of a lease; an event with the returned request id will tell whether it counts.
    ///
    /// It is sent again until 30 s after the lease's end. `random` scatters a retry within the jitter.
    pub fn settle(&mut self, lease: Lease, verdict: Verdict, now: Instant, random: u64) -> RequestId {
        let request_id = self.next_request_id();
        let Some(held) = self.leases.remove(&lease) else {
            let outcome = Err(Trouble::Refused(Error::LeaseLost));
            self.events.push_back(WorkerEvent::Settled { request_id, outcome });
            return request_id;
        };
        let last = held.ends_at().max(now) + SETTLE_AFTER_END;
        let item = held.settlement(lease, verdict, random);
        self.settles.push(request_id, item, RetryDeadlines { unsent: last, sent: last });
        request_id
    }

    /// Leaves a lease alone while a transaction of the caller's settles it: it is not extended until
    /// [`Worker::resume`], and from then on late, so that a second try has most of the lease for itself.
    ///
    /// An extension under way goes on; see [`Worker::is_extending`]. Extensions asked for and not sent are refused.
    pub fn rest(&mut self, lease: Lease) {
        self.leases.rest(lease);
        self.due_extensions.retain(|other| *other != lease);
        let (unsent, asked): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.asked).into_iter().partition(|(other, _)| *other == lease);
        self.asked = asked;
        for (_, request_id) in unsent {
            let outcome = Err(Trouble::Failed(Failure::locked()));
            self.events.push_back(WorkerEvent::Extended { request_id, outcome });
        }
    }

    /// Returns whether a statement that extends this lease is under way.
    pub fn is_extending(&self, lease: &Lease) -> bool {
        self.leases.get(lease).is_some_and(Held::is_extending)
    }

    /// Returns what a transaction of the caller's is to ask for to end a lease; none when it is not in our hands.
    pub fn settlement(&self, lease: Lease, verdict: Verdict, random: u64) -> Option<SettleItem> {
        self.leases.get(&lease).map(|held| held.settlement(lease, verdict, random))
    }

    /// Looks after a lease again, because the transaction of the caller's did not commit, or may not have.
    pub fn resume(&mut self, lease: Lease) {
        self.leases.resume(lease);
    }

    /// Looks after a lease again as [`Worker::resume`] does, and extends it at once if it is kept alive: so that the
    /// caller's next try begins with a whole lease. An event with the returned request id tells when that is done.
    pub fn resume_and_extend(&mut self, lease: Lease, now: Instant) -> Option<RequestId> {
        self.leases.resume(lease);
        let is_kept = self.leases.get(&lease).is_some_and(|held| held.is_kept(now));
        is_kept.then(|| self.extend(lease))
    }

    /// Records that a transaction of the caller's has ended a lease and committed.
    pub fn handle_settled_elsewhere(&mut self, item: &SettleItem, now: Instant) {
        self.leases.remove(&item.lease);
        self.look_for_returned([item], now);
    }

    /// Queues an extension of a lease; an event with the returned request id will tell what remains.
    pub fn extend(&mut self, lease: Lease) -> RequestId {
        let request_id = self.next_request_id();
        self.asked.push((lease, request_id));
        request_id
    }

    /// Takes over a job that was claimed by other means with a statement sent at `sent_at`, and starts it.
    pub fn adopt(&mut self, job: &ClaimedJob, sent_at: Instant, lease: Duration, backoff: &Backoff, now: Instant) {
        let backoff = Arc::new(job.effective_backoff(backoff));
        self.leases.insert(job.lease, Held::new(sent_at, lease, job, backoff));
        self.leases.start(job.lease, now, self.options.heartbeat);
    }

    /// Records that a claim made by other means had its reply lost: what it took is given back.
    pub fn handle_lost_claim(&mut self, lease: i64, now: Instant) {
        self.lost_claims.add(lease, now + self.options.statement_timeout, LONGEST_GIVING_BACK, now);
    }

    /// Leaves a lease to the caller, who has settled it by other means or lets it end.
    pub fn forget(&mut self, lease: &Lease) {
        self.leases.remove(lease);
    }

    /// Takes note that jobs were put on a line. Late, doubled and wrong notifications do no harm.
    pub fn handle_wake_up(&mut self, queue: &str, priority: i32, now: Instant) {
        if self.draining || !self.options.queues.iter().any(|name| name.as_str() == queue) {
            return;
        }
        match self.queues.iter().find(|(_, followed)| &*followed.name == queue) {
            Some((id, followed)) if !followed.paused => self.lines.wake(*id, priority),
            _ => self.handle_change(now),
        }
    }

    /// Takes note that something about the queues changed: they are looked at again within 20 ms, or when the pause
    /// after a failure is over.
    pub fn handle_change(&mut self, now: Instant) {
        if !self.draining && !self.options.queues.is_empty() && self.slots.poll.failures == 0 {
            self.poll_by(now.max(self.polled_at + CHANGE_PAUSE));
        }
    }

    fn poll_by(&mut self, at: Instant) {
        self.poll_by = Some(self.poll_by.map_or(at, |by| by.min(at)));
        self.timers.set_earlier(Timer::Poll, at);
    }

    /// Takes note of what another process said. Late, doubled and wrong notifications do no harm.
    pub fn handle_notification(&mut self, notification: Notification, now: Instant) {
        match (self.queues.get(&notification.queue_id), notification.priority) {
            (Some(followed), Some(priority)) if !followed.paused && !self.draining => {
                self.lines.wake(notification.queue_id, priority);
            }
            (Some(_), _) => self.handle_change(now),
            (None, _) => {}
        }
    }

    /// Takes note that a listener came, so that a dry queue may go unlooked at for up to `most`, or that it went.
    pub fn set_listening(&mut self, most: Option<Duration>, now: Instant) {
        self.listening = most.is_some();
        self.poll_interval.set_most(most.unwrap_or(self.options.poll_most));
        self.handle_change(now);
    }

    /// Stops claiming and gives back what was not started. What was started can still be settled.
    pub fn shut_down(&mut self, now: Instant) {
        self.draining = true;
        self.fire_next = None;
        for timer in [Timer::Poll, Timer::Reap, Timer::Promote, Timer::Fire, Timer::Unstarted] {
            self.timers.set(timer, None);
        }
        for buffered in std::mem::take(&mut self.buffer) {
            self.give_back(&buffered.taken.job.lease, now);
        }
    }

    /// Returns whether it stopped claiming: because it was told to, or because there is nothing to follow.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Returns whether it stopped claiming and every job it handed out is settled.
    pub fn is_drained(&self) -> bool {
        self.is_quiet() && self.leases.len() == 0
    }

    /// Returns whether it stopped claiming and every job it handed out is settled or its lease has ended.
    pub fn is_drained_or_ended(&self, now: Instant) -> bool {
        self.is_quiet() && self.leases.all_ended(now)
    }

    /// Returns whether this lease is in our hands and nobody else can have the job.
    pub fn is_trusted(&self, lease: &Lease, now: Instant) -> bool {
        self.leases.get(lease).is_some_and(|held| held.is_trusted(now))
    }

    /// Returns when the last of the leases handed out will have ended by itself.
    pub fn last_lease_end(&self) -> Option<Instant> {
        self.leases.last_end()
    }

    /// Returns how many requests of one kind failed in a row, of the kind that fares worst.
    pub fn failures(&self) -> u32 {
        self.slots.failures().max(self.settles.failures())
    }

    /// Returns the next thing that happened.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<WorkerEvent> {
        self.events.pop_front()
    }

    fn is_quiet(&self) -> bool {
        self.draining
            && self.settles.is_empty()
            && self.unacknowledged.is_none()
            && self.asked.is_empty()
            && self.lost_claims.is_empty()
            && self.timers.at(Timer::Notify).is_none()
            && !self.slots.notify_idle.busy
            && !(self.slots.claim.busy
                || self.slots.outcome.busy
                || self.slots.extend.busy
                || self.slots.release_claim.busy)
    }

    /// Sees to it that idle workers of other processes look again: jobs were put in line that this one may not take.
    fn notify_idle(&mut self, now: Instant) {
        self.timers.set_earlier(Timer::Notify, now.max(self.woke_at + WAKE_PAUSE));
    }

    fn next_request_id(&mut self) -> RequestId {
        self.last_request_id += 1;
        RequestId(self.last_request_id)
    }
}
