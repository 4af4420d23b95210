//! The machine that claims jobs, extends their leases and settles them.

mod demand;
mod driving;
mod extending;
mod leases;
mod lines;
mod lost_claims;
mod poll_interval;
mod prefetch;
mod replies;
mod request;
mod slots;

pub use lines::SentClaim;
pub use request::{SentExtend, WorkerRequest};

use super::Trouble;
use super::batch::{Batch, BatchLimits, RequestId, RetryDeadlines};
use super::batcher::Batcher;
use super::maintenance::{Maintenance, MaintenanceOptions};
use super::timer::{Timer, Timers};
use crate::op::{Notification, SettleItem};
use crate::{Backoff, ClaimedJob, Error, Failure, Instant, Lease, QueueName, Verdict};
use demand::{SlowStart, TakenMeter};
use leases::{Leased, Leases};
use lines::Lines;
use lost_claims::LostClaims;
use poll_interval::PollInterval;
use slots::RequestSlots;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// The maximum number of jobs in one claim, extension or settle.
const MAX_BATCH: usize = 500;
/// While this many settlements have no outcome, no further job is handed out or claimed.
const MAX_UNSETTLED: usize = 10_000;
/// For how long a claimed job may wait for a handler, from its arrival, before it is released; at most a quarter of its
/// lease.
const UNSTARTED_FOR: Duration = Duration::from_secs(5);
/// The minimum time between two polls, however many changes are reported.
const CHANGE_PAUSE: Duration = Duration::from_millis(20);
/// Queues are polled within this time after jobs were released.
const RELEASED_POLL: Duration = Duration::from_secs(1);
/// The time between two polls while lines have jobs.
const BUSY_POLL: Duration = Duration::from_secs(2);
/// A settlement is sent again until this long after the end of its lease.
const SETTLE_AFTER_END: Duration = Duration::from_secs(30);
/// The minimum time between two notifications of idle workers of other processes.
const NOTIFY_PAUSE: Duration = Duration::from_millis(100);
/// For how long a lost claim with leases of unknown length is released.
const MAX_RELEASE_TIME: Duration = Duration::from_secs(3_600);
/// How much longer than its maximum poll interval an idle worker asks to be notified.
const IDLE_SLACK: Duration = Duration::from_secs(5);

/// The options of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerOptions {
    /// The queues from which it claims jobs; empty for a worker that only settles [adopted](Worker::adopt) jobs.
    pub queues: Vec<QueueName>,
    /// Its human-readable name.
    pub worker: String,
    /// The maximum number of jobs that it claims ahead.
    pub prefetch: usize,
    /// For how long after its start the lease of a job is extended; `None` for never.
    pub heartbeat: Option<Duration>,
    /// The minimum time between two polls while there are no jobs.
    pub poll_least: Duration,
    /// The maximum time between two polls while there are no jobs.
    pub poll_most: Duration,
    /// Whether it reaps expired leases, also those of other workers, and fires schedules.
    pub reaps: bool,
    /// The channel on which it notifies idle workers of other processes: [`Notification::channel`].
    pub channel: String,
    /// The time after which the server has certainly cancelled a statement.
    pub statement_timeout: Duration,
}

/// Claims jobs from queues, extends their leases, and settles them.
///
/// Limits:
///
/// * One request of each kind is in flight.
/// * At most `prefetch` jobs are claimed ahead, and no more than the handlers took in the last second: at least one if
///   a handler waits, and on a link on which a claim takes over a second, four times what the last claim returned.
/// * At most 16 MiB of payloads, plus one claim, wait for handlers.
/// * At most 10,000 settlements have no outcome.
/// * A statement has at most 500 items and 16 MiB.
#[derive(Debug)]
pub struct Worker {
    options: WorkerOptions,
    queues: BTreeMap<i32, Followed>,
    /// Names that no queue had at the last poll, and that were reported.
    missing: BTreeSet<QueueName>,
    lines: Lines,
    buffer: VecDeque<Buffered>,
    leases: Leases,
    settles: Batcher<SettleItem>,
    /// Settlements that changed nothing, of the last settle with a reply. Their outcomes are looked up next.
    unacknowledged: Option<Batch<SettleItem>>,
    lost_claims: LostClaims,
    maintenance: Maintenance,
    /// Extensions that the user requested.
    requested_extensions: Vec<(Lease, RequestId)>,
    /// Extensions that are due for the heartbeat.
    due_extensions: Vec<Lease>,
    events: VecDeque<WorkerEvent>,
    timers: Timers,
    slots: RequestSlots,
    taken: TakenMeter,
    slow_start: SlowStart,
    /// How many claims in a row returned jobs whose leases could no longer be trusted.
    late_claims: u32,
    poll_interval: PollInterval,
    /// When the last poll was sent.
    polled_at: Instant,
    /// When the next poll is due at the latest, whatever claims return, because only a poll finds what has changed.
    poll_by: Option<Instant>,
    /// Until when producers of other processes notify this worker.
    notified_until: Instant,
    /// Whether a handler waits for a job.
    waiting: bool,
    draining: bool,
    /// When idle workers of other processes were last notified.
    notified_idle_at: Instant,
    /// Whether it receives notifications of other processes.
    listening: bool,
    last_request_id: u64,
}

/// The events of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEvent {
    /// The outcome of a settlement is known.
    Settled {
        /// The id that [`Worker::settle`] returned.
        request_id: RequestId,
        /// Whether it was committed in the database, or why not.
        outcome: Result<(), Trouble>,
    },
    /// The outcome of an extension that the user requested is known.
    Extended {
        /// The id that [`Worker::extend`] returned.
        request_id: RequestId,
        /// What remains of the lease, or why it was not extended.
        outcome: Result<Duration, Trouble>,
    },
    /// The lease of a started job can no longer be trusted.
    LeaseLost(Lease),
    /// An error that the user should see.
    Failed(Trouble),
}

/// A job that was handed out to a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenJob {
    /// The job.
    pub job: ClaimedJob,
    /// The name of its queue when it was claimed.
    pub queue: Arc<str>,
}

/// The settings of a followed queue, as last read.
#[derive(Debug)]
struct Followed {
    name: Arc<str>,
    paused: bool,
    lease: Duration,
    backoff: Arc<Backoff>,
}

/// A job that was claimed and not started.
#[derive(Debug)]
struct Buffered {
    taken: TakenJob,
    /// When it is released, because no handler took it or its lease can no longer be trusted.
    until: Instant,
}

impl Worker {
    /// Returns a worker that polls its queues at once.
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
            maintenance: Maintenance::new(
                MaintenanceOptions { reaps: options.reaps, prune_every: None, look_every: None },
                now,
            ),
            requested_extensions: Vec::new(),
            due_extensions: Vec::new(),
            events: VecDeque::new(),
            timers,
            slots: RequestSlots::default(),
            taken: TakenMeter::default(),
            slow_start: SlowStart::default(),
            late_claims: 0,
            polled_at: now,
            poll_by: None,
            notified_until: now,
            waiting: false,
            draining: false,
            notified_idle_at: Instant::default(),
            listening: false,
            last_request_id: 0,
            options,
        }
    }

    /// Hands out and starts the next job. If there is none, or 10,000 settlements have no outcome, returns `None` and
    /// records that a handler waits.
    pub fn next_job(&mut self, now: Instant) -> Option<TakenJob> {
        while self.settles.len() < MAX_UNSETTLED
            && let Some(buffered) = self.buffer.pop_front()
        {
            let lease = buffered.taken.job.lease;
            if buffered.until <= now || !self.leases.start(lease, now, self.options.heartbeat) {
                self.release(&lease, now);
                continue;
            }
            self.taken.record(now);
            self.waiting = false;
            return Some(buffered.taken);
        }
        self.waiting = true;
        None
    }

    /// Returns whether [`Worker::next_job`] can hand out a job, provided that its lease can still be trusted.
    pub fn has_job(&self) -> bool {
        !self.buffer.is_empty() && self.settles.len() < MAX_UNSETTLED
    }

    /// Queues a settlement. A [`WorkerEvent::Settled`] with the returned request id reports its outcome.
    ///
    /// It is sent again after failures until 30 s after the lease's end. `random` spreads a retry over the jitter.
    pub fn settle(&mut self, lease: Lease, verdict: Verdict, now: Instant, random: u64) -> RequestId {
        let request_id = self.next_request_id();
        let Some(leased) = self.leases.remove(&lease) else {
            let outcome = Err(Trouble::Refused(Error::LeaseLost));
            self.events.push_back(WorkerEvent::Settled { request_id, outcome });
            return request_id;
        };
        let last = leased.ends_at().max(now) + SETTLE_AFTER_END;
        let item = leased.settlement(lease, verdict, random);
        self.settles.push(request_id, item, RetryDeadlines { unsent: last, sent: last });
        request_id
    }

    /// Suspends the extension of a lease while the caller's transaction settles it, until [`Worker::resume`]. After
    /// that it is extended late, so that a second transaction has most of the lease for itself.
    ///
    /// An extension in flight goes on; see [`Worker::is_extending`]. Extensions that were requested and not sent fail.
    pub fn rest(&mut self, lease: Lease) {
        self.leases.rest(lease);
        self.due_extensions.retain(|other| *other != lease);
        let (unsent, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.requested_extensions).into_iter().partition(|(other, _)| *other == lease);
        self.requested_extensions = others;
        for (_, request_id) in unsent {
            let outcome = Err(Trouble::Failed(Failure::locked()));
            self.events.push_back(WorkerEvent::Extended { request_id, outcome });
        }
    }

    /// Returns whether an extension of this lease is in flight.
    pub fn is_extending(&self, lease: &Lease) -> bool {
        self.leases.get(lease).is_some_and(Leased::is_extending)
    }

    /// Returns the settlement that the caller's transaction should send; `None` if this worker does not have the lease.
    pub fn settlement(&self, lease: Lease, verdict: Verdict, random: u64) -> Option<SettleItem> {
        self.leases.get(&lease).map(|leased| leased.settlement(lease, verdict, random))
    }

    /// Resumes the extension of a lease, because the caller's transaction has not committed, or may not have.
    pub fn resume(&mut self, lease: Lease) {
        self.leases.resume(lease);
    }

    /// Resumes the extension of a lease, and extends it at once if it has a heartbeat, so that the caller's next
    /// transaction has a full lease. A [`WorkerEvent::Extended`] with the returned request id reports the outcome.
    /// Returns `None` if the lease has no heartbeat.
    pub fn resume_and_extend(&mut self, lease: Lease, now: Instant) -> Option<RequestId> {
        self.leases.resume(lease);
        let has_heartbeat = self.leases.get(&lease).is_some_and(|leased| leased.has_heartbeat(now));
        has_heartbeat.then(|| self.extend(lease))
    }

    /// Records that the caller's transaction has settled a lease and committed.
    pub fn handle_settled_elsewhere(&mut self, item: &SettleItem, now: Instant) {
        self.leases.remove(&item.lease);
        self.schedule_returned([item], now);
    }

    /// Queues an extension of a lease. A [`WorkerEvent::Extended`] with the returned request id reports the outcome.
    pub fn extend(&mut self, lease: Lease) -> RequestId {
        let request_id = self.next_request_id();
        self.requested_extensions.push((lease, request_id));
        request_id
    }

    /// Adds and starts a job that was claimed outside this worker, with a statement that was sent at `sent_at`. `lease`
    /// is the length of its lease, and `backoff` that of its queue.
    pub fn adopt(&mut self, job: &ClaimedJob, sent_at: Instant, lease: Duration, backoff: &Backoff, now: Instant) {
        let backoff = Arc::new(job.retry.on(backoff));
        self.leases.insert(job.lease, Leased::new(sent_at, lease, job, backoff, now));
        self.leases.start(job.lease, now, self.options.heartbeat);
    }

    /// Records that the reply to a claim outside this worker was lost. The jobs with this lease number are released.
    pub fn handle_lost_claim(&mut self, lease: i64, now: Instant) {
        self.lost_claims.add(lease, now + self.options.statement_timeout, MAX_RELEASE_TIME, now);
    }

    /// Removes a lease that the caller has settled otherwise, or lets expire.
    pub fn forget(&mut self, lease: &Lease) {
        self.leases.remove(lease);
    }

    /// Records that a line has new jobs. Late, repeated and wrong calls are harmless.
    pub fn handle_wake_up(&mut self, queue: &str, priority: i32, now: Instant) {
        if self.draining || !self.options.queues.iter().any(|name| name.as_str() == queue) {
            return;
        }
        match self.queues.iter().find(|(_, followed)| &*followed.name == queue) {
            Some((id, followed)) if !followed.paused => self.lines.activate(*id, priority),
            _ => self.handle_change(now),
        }
    }

    /// Records that the queues have changed. They are polled within 20 ms, or after the pause that follows a failure.
    pub fn handle_change(&mut self, now: Instant) {
        if !self.draining && !self.options.queues.is_empty() && self.slots.poll.failures == 0 {
            self.poll_by(now.max(self.polled_at + CHANGE_PAUSE));
        }
    }

    /// Sends the next poll at `at` at the latest.
    fn poll_by(&mut self, at: Instant) {
        self.poll_by = Some(self.poll_by.map_or(at, |by| by.min(at)));
        self.timers.set_earlier(Timer::Poll, at);
    }

    /// Handles a notification of another process. Late, repeated and wrong notifications are harmless.
    pub fn handle_notification(&mut self, notification: Notification, now: Instant) {
        match (self.queues.get(&notification.queue_id), notification.priority) {
            (Some(followed), Some(priority)) if !followed.paused && !self.draining => {
                self.lines.activate(notification.queue_id, priority);
            }
            (Some(_), _) => self.handle_change(now),
            (None, _) => {}
        }
    }

    /// Records that the worker now receives notifications, so that `most` becomes the maximum poll interval; or, if
    /// `None`, that it no longer does.
    pub fn set_listening(&mut self, most: Option<Duration>, now: Instant) {
        self.listening = most.is_some();
        self.poll_interval.set_max(most.unwrap_or(self.options.poll_most));
        self.handle_change(now);
    }

    /// Stops claiming, and releases the jobs that have not started. Started jobs can still be settled.
    pub fn shut_down(&mut self, now: Instant) {
        self.draining = true;
        self.maintenance.stop();
        for timer in [Timer::Poll, Timer::Unstarted] {
            self.timers.set(timer, None);
        }
        for buffered in std::mem::take(&mut self.buffer) {
            self.release(&buffered.taken.job.lease, now);
        }
    }

    /// Returns whether it has stopped claiming: after [`Worker::shut_down`], or because none of its queues exist.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Returns whether it has stopped claiming, and every job that it handed out is settled.
    pub fn is_drained(&self) -> bool {
        self.is_quiet() && self.leases.len() == 0
    }

    /// Returns whether it has stopped claiming, and every job that it handed out is settled or its lease has ended.
    pub fn is_drained_or_ended(&self, now: Instant) -> bool {
        self.is_quiet() && self.leases.all_ended(now)
    }

    /// Returns whether this worker has the lease, and no other worker can have the job.
    pub fn is_trusted(&self, lease: &Lease, now: Instant) -> bool {
        self.leases.get(lease).is_some_and(|leased| leased.is_trusted(now))
    }

    /// Returns when the last of its leases will have ended.
    pub fn last_lease_end(&self) -> Option<Instant> {
        self.leases.last_end()
    }

    /// Returns how many requests in a row have failed, of the kind with the most failures.
    pub fn failures(&self) -> u32 {
        self.slots.failures().max(self.settles.failures()).max(self.maintenance.failures())
    }

    /// Returns the next event.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<WorkerEvent> {
        self.events.pop_front()
    }

    fn is_quiet(&self) -> bool {
        self.draining
            && self.settles.is_empty()
            && self.unacknowledged.is_none()
            && self.requested_extensions.is_empty()
            && self.lost_claims.is_empty()
            && self.timers.at(Timer::Notify).is_none()
            && !self.slots.notify_idle.busy
            && !(self.slots.claim.busy
                || self.slots.outcome.busy
                || self.slots.extend.busy
                || self.slots.release_claim.busy)
    }

    /// Schedules a notification of idle workers of other processes: there are new jobs that this worker may not take.
    fn notify_idle(&mut self, now: Instant) {
        self.timers.set_earlier(Timer::Notify, now.max(self.notified_idle_at + NOTIFY_PAUSE));
    }

    fn next_request_id(&mut self) -> RequestId {
        self.last_request_id += 1;
        RequestId(self.last_request_id)
    }
}
