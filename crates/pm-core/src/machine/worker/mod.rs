//! The machine that claims jobs, extends their leases and settles them.
//!
//! Each concern has a file with its requests, what their replies change, and when the next one is sent: [`poll`],
//! [`claim`], [`settle`], [`extend`], [`cancels`], [`progress`] and [`lost_claims`]. [`Maintenance`] is a machine of
//! its own.

mod cancels;
mod claim;
mod demand;
mod events;
mod extend;
mod leases;
mod lines;
mod lost_claims;
mod options;
mod poll;
mod poll_interval;
mod progress;
mod queues;
mod settle;

pub use events::WorkerEvent;
pub use extend::SentExtend;
pub use lines::SentClaim;
pub use options::WorkerOptions;

use super::batch::Batch;
use super::chore::Chore;
use super::maintenance::{Maintenance, MaintenanceOptions, MaintenanceRequest};
use super::timer::Timer;
use super::{Entropy, Machine, Reply, Request, Trouble};
use crate::op::{CancelRequests, NotifyIdle, Outcome, Poll, ReleaseClaim, SetProgress, SettleItem};
use crate::{Class, Instant, Lease, Operation, Plan};
use cancels::CancelLooks;
use claim::Claims;
use events::Events;
use extend::Extensions;
use leases::Leases;
use lost_claims::LostClaims;
use poll::Polls;
use progress::Progresses;
use queues::Queues;
use settle::Settlements;
use std::time::Duration;

/// The minimum time between two notifications of idle workers of other processes.
const NOTIFY_PAUSE: Duration = Duration::from_millis(100);

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
    queues: Queues,
    leases: Leases,
    events: Events,
    polls: Polls,
    claims: Claims,
    lost_claims: LostClaims,
    settlements: Settlements,
    extensions: Extensions,
    cancel_looks: CancelLooks,
    progresses: Progresses,
    /// Notifies idle workers of other processes of jobs that this worker may not take.
    notify_idle: Chore,
    maintenance: Maintenance,
    /// Whether it has stopped claiming.
    draining: bool,
}

/// The requests of a worker. The driver passes them back with the replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerRequest {
    /// Read what there is to do.
    Poll(Poll),
    /// Claim jobs.
    Claim(SentClaim),
    /// Settle leases.
    Settle(Batch<SettleItem>),
    /// Look up whether these settlements were applied before.
    Outcome(Batch<SettleItem>),
    /// Extend leases.
    Extend(SentExtend),
    /// Look which running jobs are to be cancelled.
    CancelRequests(CancelRequests),
    /// Store how far jobs have come.
    SetProgress(SetProgress),
    /// Promote, reap or fire schedules.
    Maintain(MaintenanceRequest),
    /// Release the jobs of a claim with a lost reply.
    ReleaseClaim(ReleaseClaim),
    /// Notify idle workers of other processes.
    NotifyIdle(NotifyIdle),
}

impl Request for WorkerRequest {
    fn plan(&self) -> Plan<'_> {
        match self {
            WorkerRequest::Poll(poll) => poll.plan(),
            WorkerRequest::Claim(sent) => sent.claim.plan(),
            WorkerRequest::Settle(batch) => settle::settle_plan(batch),
            WorkerRequest::Outcome(batch) => Outcome::plan_of(&batch.items),
            WorkerRequest::Extend(sent) => sent.extend.plan(),
            WorkerRequest::CancelRequests(look) => look.plan(),
            WorkerRequest::SetProgress(set) => set.plan(),
            WorkerRequest::Maintain(request) => request.plan(),
            WorkerRequest::ReleaseClaim(release) => release.plan(),
            WorkerRequest::NotifyIdle(notify) => notify.plan(),
        }
    }
}

impl Worker {
    /// Returns a worker that polls its queues at once.
    pub fn new(options: WorkerOptions, now: Instant) -> Self {
        let maintenance = MaintenanceOptions { reaps: options.reaps, prune_every: None, look_every: None };
        Worker {
            queues: Queues::default(),
            leases: Leases::default(),
            events: Events::default(),
            polls: Polls::new(&options, now),
            claims: Claims::new(),
            lost_claims: LostClaims::new(),
            settlements: Settlements::new(),
            extensions: Extensions::new(),
            cancel_looks: CancelLooks::new(),
            progresses: Progresses::new(),
            notify_idle: Chore::new(Timer::Notify, None),
            maintenance: Maintenance::new(maintenance, now),
            draining: false,
            options,
        }
    }

    /// From now on also reports what was claimed and reaped, as [`WorkerEvent::Claimed`] and [`WorkerEvent::Reaped`].
    pub fn report_activity(&mut self) {
        self.events.reports_activity = true;
    }

    /// Stops claiming, and releases the jobs that have not started. Started jobs can still be settled.
    pub fn shut_down(&mut self, now: Instant) {
        self.draining = true;
        self.maintenance.stop();
        self.polls.chore.set(None);
        self.release_buffer(now);
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

    /// Returns how many requests in a row have failed, of the kind with the most failures; notifications do not count.
    pub fn failures(&self) -> u32 {
        let chores = [&self.polls.chore, &self.claims.chore, &self.lost_claims.chore, &self.extensions.chore];
        let batched_or_apart = self.settlements.failures().max(self.maintenance.failures());
        chores.into_iter().map(Chore::failures).fold(batched_or_apart, u32::max)
    }

    /// Returns the next event.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<WorkerEvent> {
        self.events.pop()
    }

    fn is_quiet(&self) -> bool {
        self.draining
            && !self.claims.chore.is_in_flight()
            && self.lost_claims.is_idle()
            && self.settlements.is_empty()
            && self.extensions.is_idle()
            && !self.progresses.chore.is_in_flight()
            && self.notify_idle.at().is_none()
            && !self.notify_idle.is_in_flight()
    }

    /// Schedules a notification of idle workers of other processes.
    fn notify_idle_workers(&mut self, now: Instant) {
        self.notify_idle.set_earlier(now.max(self.notify_idle.sent_at() + NOTIFY_PAUSE));
    }

    fn handle_maintained(
        &mut self,
        request: MaintenanceRequest,
        reply: Reply,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        match self.maintenance.handle_reply(request, reply, now, entropy) {
            Ok(done) if done.ready() > 0 => {
                self.events.reaped(done.reaped);
                self.handle_change(now);
                self.notify_idle_workers(now);
            }
            Ok(_) => {}
            Err(trouble) => self.handle_trouble(trouble, now),
        }
    }

    /// Reports an error to the user, unless it may pass. Shuts down if the schema is missing or does not fit.
    fn handle_trouble(&mut self, trouble: Trouble, now: Instant) {
        match &trouble {
            Trouble::Failed(failure) if failure.is_schema() => {
                self.events.failed(trouble);
                self.shut_down(now);
            }
            Trouble::Failed(failure) if failure.class() != Class::Permanent => {}
            _ => self.events.failed(trouble),
        }
    }
}

impl Machine for Worker {
    type Request = WorkerRequest;

    fn poll_request(&mut self, now: Instant, entropy: &mut dyn Entropy) -> Option<WorkerRequest> {
        self.check_leases(now);
        let notify_idle = |channel: &String| WorkerRequest::NotifyIdle(NotifyIdle { channel: channel.clone() });
        (self.begin_release_claim(now).map(WorkerRequest::ReleaseClaim))
            .or_else(|| self.begin_outcome(now).map(WorkerRequest::Outcome))
            .or_else(|| self.begin_settle(now).map(WorkerRequest::Settle))
            .or_else(|| self.begin_extend(now).map(WorkerRequest::Extend))
            .or_else(|| self.begin_cancel_requests(now).map(WorkerRequest::CancelRequests))
            .or_else(|| self.begin_set_progress(now).map(WorkerRequest::SetProgress))
            .or_else(|| self.begin_poll(now).map(WorkerRequest::Poll))
            .or_else(|| self.begin_claim(now, entropy).map(WorkerRequest::Claim))
            .or_else(|| self.notify_idle.begin_if_due(now).then(|| notify_idle(&self.options.channel)))
            .or_else(|| self.maintenance.poll_request(now, entropy).map(WorkerRequest::Maintain))
    }

    fn handle_reply(&mut self, request: WorkerRequest, reply: Reply, now: Instant, entropy: &mut dyn Entropy) {
        match request {
            WorkerRequest::Poll(poll) => self.handle_poll(poll, reply, now, entropy),
            WorkerRequest::Claim(sent) => self.handle_claim(sent, reply, now, entropy),
            WorkerRequest::Settle(batch) => self.handle_settle(batch, reply, now, entropy),
            WorkerRequest::Outcome(batch) => self.handle_outcome(batch, reply, now, entropy),
            WorkerRequest::Extend(sent) => self.handle_extend(sent, reply, now, entropy),
            WorkerRequest::CancelRequests(look) => self.handle_cancel_requests(look, reply, now, entropy),
            WorkerRequest::SetProgress(sent) => self.handle_set_progress(sent, reply),
            WorkerRequest::Maintain(request) => self.handle_maintained(request, reply, now, entropy),
            WorkerRequest::ReleaseClaim(release) => self.handle_release_claim(release, reply, now, entropy),
            // A failure is not retried: idle workers also poll.
            WorkerRequest::NotifyIdle(_) => self.notify_idle.end(&reply),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.release_unstarted(now);
    }

    fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let concerns = [
            self.leases.next_due().map(|at| (at, Timer::Lease)),
            self.polls.chore.next(),
            self.claims.unstarted_at.map(|at| (at, Timer::Unstarted)),
            self.next_claim(),
            self.lost_claims.next(),
            self.settlements.next(),
            self.extensions.next(),
            self.next_cancel_look(),
            self.next_progress(),
            self.notify_idle.next(),
            self.maintenance.poll_timeout(),
        ];
        concerns.into_iter().flatten().min()
    }

    fn is_gathering(&self) -> bool {
        self.settlements.is_gathering()
    }
}
