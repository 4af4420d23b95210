//! Claims: how many jobs to claim, what becomes of those that arrive, and handing them out.

use super::Worker;
use super::demand::{SlowStart, TakenMeter};
use super::leases::Leased;
use super::lines::{Lines, SentClaim};
use super::options::MAX_BATCH;
use crate::machine::chore::Chore;
use crate::machine::{Entropy, Reply, Timer, Trouble, interpret, retry_delay};
use crate::op::{Claim, ClaimReply, Notification};
use crate::{Backoff, ClaimedJob, Class, Error, Instant, Lease, Operation, RetryPolicy, TakenJob};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// For how long a claimed job may wait for a handler, from its arrival, before it is released; at most a quarter of its
/// lease.
const UNSTARTED_FOR: Duration = Duration::from_secs(5);
/// After this many claims in a row that took too long, the user gets an error.
const MIN_SLOW_CLAIMS: u32 = 3;

/// A job that was claimed and not started.
#[derive(Debug)]
struct Buffered {
    taken: TakenJob,
    /// When it is released, because no handler took it or its lease can no longer be trusted.
    until: Instant,
}

/// Where to claim jobs, and the jobs that were claimed and not started.
#[derive(Debug)]
pub(super) struct Claims {
    /// Its time is when a claim may be sent again after a failure.
    pub(super) chore: Chore,
    pub(super) lines: Lines,
    /// Highest priority first.
    buffer: VecDeque<Buffered>,
    /// When to release jobs of the buffer that no handler took.
    pub(super) unstarted_at: Option<Instant>,
    taken: TakenMeter,
    slow_start: SlowStart,
    /// Whether a handler waits for a job.
    waiting: bool,
    /// How many claims in a row returned jobs whose leases could no longer be trusted.
    late: u32,
}

impl Claims {
    pub(super) fn new() -> Self {
        Claims {
            chore: Chore::new(Timer::Claim, None),
            lines: Lines::default(),
            buffer: VecDeque::new(),
            unstarted_at: None,
            taken: TakenMeter::default(),
            slow_start: SlowStart::default(),
            waiting: false,
            late: 0,
        }
    }

    /// Returns when the next claim may be sent; `None` is at once.
    fn next_at(&self) -> Option<Instant> {
        self.lines.next_claim_at().max(self.chore.at())
    }

    fn buffered_bytes(&self) -> usize {
        self.buffer.iter().map(|job| job.taken.job.payload().len()).sum()
    }

    fn watch_buffer(&mut self) {
        self.unstarted_at = self.buffer.iter().map(|job| job.until).min();
    }
}

impl Worker {
    /// Hands out and starts the next job. If there is none, or 10,000 settlements have no outcome, returns `None` and
    /// records that a handler waits.
    pub fn next_job(&mut self, now: Instant) -> Option<TakenJob> {
        while !self.settlements.are_too_many()
            && let Some(buffered) = self.claims.buffer.pop_front()
        {
            let lease = buffered.taken.job.lease;
            if buffered.until <= now || !self.leases.start(lease, now, self.options.heartbeat) {
                self.release(&lease, now);
                continue;
            }
            self.claims.taken.record(now);
            self.watch_for_cancels(now);
            self.claims.waiting = false;
            return Some(buffered.taken);
        }
        self.claims.waiting = true;
        None
    }

    /// Returns whether [`Worker::next_job`] can hand out a job, provided that its lease can still be trusted.
    pub fn has_job(&self) -> bool {
        !self.claims.buffer.is_empty() && !self.settlements.are_too_many()
    }

    /// Adds and starts a job that was claimed outside this worker, with a statement that was sent at `sent_at`. `lease`
    /// is the length of its lease, and `backoff` that of its queue.
    pub fn adopt(&mut self, job: &ClaimedJob, sent_at: Instant, lease: Duration, backoff: &Backoff, now: Instant) {
        let backoff = Arc::new(job.retry.on(backoff));
        self.leases.insert(job.lease, Leased::new(sent_at, lease, job, backoff, now));
        self.leases.start(job.lease, now, self.options.heartbeat);
        self.watch_for_cancels(now);
        self.look_at_claimed(sent_at, now);
    }

    /// Records that a line has new jobs. Late, repeated and wrong calls are harmless.
    pub fn handle_wake_up(&mut self, queue: &str, priority: i32, now: Instant) {
        if self.draining || !self.options.queues.iter().any(|name| name.as_str() == queue) {
            return;
        }
        match self.queues.named(queue) {
            Some((id, followed)) if !followed.paused => self.claims.lines.activate(id, priority),
            _ => self.handle_change(now),
        }
    }

    /// Handles a notification of another process. Late, repeated and wrong notifications are harmless.
    pub fn handle_notification(&mut self, notification: Notification, now: Instant) {
        match (self.queues.get(notification.queue_id), notification.priority) {
            (Some(followed), Some(priority)) if !followed.paused && !self.draining => {
                self.claims.lines.activate(notification.queue_id, priority);
            }
            (Some(_), _) => self.handle_change(now),
            // A job of this worker may have been moved there.
            (None, None) => self.look_for_cancels_soon(now),
            (None, Some(_)) => {}
        }
    }

    /// Returns whether lines of queues that are not paused may have ready jobs.
    pub(super) fn has_open_line(&self) -> bool {
        self.claims.lines.any_active(|id| self.queues.is_open(id))
    }

    fn may_claim(&self) -> bool {
        !self.settlements.are_too_many() && self.has_open_line()
    }

    /// Returns how many jobs to claim now; `None` for none.
    fn claim_limit(&mut self, now: Instant) -> Option<usize> {
        let taken = self.claims.taken.last_second(now).max(self.claims.slow_start.wanted());
        let wanted = taken.max(usize::from(self.claims.waiting)).min(self.options.prefetch.max(1));
        let available = self.claims.buffer.len();
        let is_stopped = self.draining || self.claims.chore.is_in_flight();
        let has_enough = available > wanted / 2 || available >= wanted;
        let must_wait = self.claims.next_at().is_some_and(|at| at > now);
        if is_stopped
            || has_enough
            || must_wait
            || !self.may_claim()
            || self.claims.buffered_bytes() >= Claim::MAX_BYTES
        {
            return None;
        }
        Some((wanted - available).min(MAX_BATCH))
    }

    pub(super) fn begin_claim(&mut self, now: Instant, entropy: &mut dyn Entropy) -> Option<SentClaim> {
        let limit = self.claim_limit(now)?;
        self.claims.chore.begin(now);
        let lease = Lease::number_from(entropy.next_u64());
        let (lines, from_start) = self.claims.lines.pick(now, |id| self.queues.is_open(id));
        let (worker, due_bound) = (self.options.worker.clone(), self.maintenance.due_bound());
        let claim = Claim { lines, limit, lease, worker, due_bound };
        let longest = self.queues.leases().max().unwrap_or_default();
        Some(SentClaim { claim, sent_at: now, longest, from_start })
    }

    /// Returns when to claim for a handler that waits.
    pub(super) fn next_claim(&self) -> Option<(Instant, Timer)> {
        let Claims { waiting, buffer, chore, .. } = &self.claims;
        let starving = *waiting && buffer.is_empty() && !self.draining && !chore.is_in_flight();
        self.claims.next_at().filter(|_| starving && self.may_claim()).map(|at| (at, Timer::Claim))
    }

    pub(super) fn handle_claim(&mut self, sent: SentClaim, reply: Reply, now: Instant, entropy: &mut dyn Entropy) {
        self.claims.chore.end(&reply);
        let timeout = self.options.statement_timeout;
        // A server that reports a failure no longer runs the claim; one that does not reply may begin to run it now.
        let may_run_for = match &reply {
            Ok(_) => Some(Duration::ZERO),
            Err(failure) if failure.class() != Class::Unknown => None,
            Err(failure) => Some(if failure.ends_session() { Duration::ZERO } else { timeout }),
        };
        match interpret(reply, |rows| sent.claim.interpret(rows)) {
            Ok(reply) => self.apply_claim(&sent, reply, now, entropy),
            Err(trouble) => {
                if let Some(may_run_for) = may_run_for {
                    self.lost_claims.add(sent.claim.lease, now + may_run_for, sent.longest, now);
                }
                if !self.draining {
                    self.claims.chore.retry(now, entropy);
                    self.claims.slow_start.reset();
                    self.report_repeated_timeouts(&sent, &trouble, now);
                    self.handle_trouble(trouble, now);
                }
            }
        }
    }

    /// Reports an error if claims of a single job are cancelled repeatedly, here or by the server, because they take
    /// too long, while other statements succeed.
    fn report_repeated_timeouts(&mut self, sent: &SentClaim, trouble: &Trouble, now: Instant) {
        let timeout = self.options.statement_timeout;
        let given_up = matches!(trouble, Trouble::Failed(failure) if failure.class() != Class::Permanent);
        let others_succeed = self.polls.chore.failures() == 0;
        let is_repeated = self.claims.chore.failures() >= MIN_SLOW_CLAIMS;
        let is_slow = now.since(sent.sent_at) >= timeout && sent.claim.limit == 1;
        if given_up && is_slow && others_succeed && is_repeated {
            self.events.failed(Trouble::Refused(Error::invalid(
                format!("a statement timeout of {timeout:?}"),
                "is too short for this link: claims of a single job timed out repeatedly. The transfer of the payload \
                 counts; raise the statement timeout, or fail the job",
            )));
        }
    }

    fn apply_claim(&mut self, sent: &SentClaim, reply: ClaimReply, now: Instant, entropy: &mut dyn Entropy) {
        self.claims.lines.handle_claimed(sent, &reply, now);
        self.claims.chore.set(None);
        let (limit, took) = (sent.claim.limit, now.since(sent.sent_at));
        self.events.claimed(&reply, &self.queues, took);
        reply.queues.into_iter().for_each(|reading| self.queues.update(reading));
        let has_jobs = !reply.jobs.is_empty();
        let starving = self.claims.waiting && self.claims.buffer.is_empty() && reply.jobs.len() >= limit;
        let (mut in_time, mut late_queue) = (0, None);
        for job in reply.jobs {
            let queue_id = job.queue_id;
            match self.buffer_job(job, sent.sent_at, now) {
                true => in_time += 1,
                false => late_queue = Some(queue_id),
            }
        }
        self.look_at_claimed(sent.sent_at, now);
        if self.draining {
            self.shut_down(now);
            return;
        }
        match late_queue {
            None if !has_jobs => {}
            None => {
                let shortest = self.queues.leases().min().unwrap_or_default();
                self.claims.slow_start.record_claim(limit, took, starving, shortest);
                self.claims.late = 0;
            }
            Some(queue_id) => self.handle_late_jobs(queue_id, in_time == 0, sent, now, entropy),
        }
        self.release_paused(now);
        self.claims.watch_buffer();
        if let Some(due) = reply.next_due {
            self.maintenance.promote_by(now + due);
        }
        self.polls.handle_claimed(has_jobs, self.has_open_line(), now, entropy);
    }

    /// Handles a reply with jobs of a queue that were released, because their leases could no longer be trusted. If
    /// these are `all` jobs of the reply, the next claim is sent after a pause and asks for fewer. If fewer cannot
    /// help, reports an error with the lease that is too short.
    fn handle_late_jobs(
        &mut self,
        queue_id: i32,
        all: bool,
        sent: &SentClaim,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.claims.slow_start.reset();
        self.claims.late = self.claims.late.saturating_add(1);
        if all {
            self.claims.chore.set(Some(now + retry_delay(self.claims.late, entropy)));
        }
        let is_reported = self.claims.late >= MIN_SLOW_CLAIMS && (!all || sent.claim.limit == 1);
        if let Some(followed) = self.queues.get(queue_id).filter(|_| is_reported) {
            let took = now.since(sent.sent_at);
            let what = format!("the lease of queue {:?}, {:?},", followed.name, followed.lease);
            let problem = format!("is too short for this link: the claim of a job took {took:?}. Set a longer lease");
            self.events.failed(Trouble::Refused(Error::invalid(what, problem)));
        }
    }

    /// Keeps a job until a handler takes it, or it has waited too long. If its lease can no longer be trusted, releases
    /// it and returns `false`. Trust counts from when the claim was sent, because the server may have run it at once;
    /// the wait for a handler begins now.
    fn buffer_job(&mut self, job: ClaimedJob, sent_at: Instant, now: Instant) -> bool {
        let Some(followed) = self.queues.get(job.queue_id) else {
            // Its queue was renamed or deleted between two statements.
            self.leases.insert(job.lease, Leased::new(sent_at, Duration::ZERO, &job, Arc::default(), now));
            self.release(&job.lease, now);
            return true;
        };
        let backoff = match job.retry != RetryPolicy::default() {
            true => Arc::new(job.retry.on(&followed.backoff)),
            false => followed.backoff.clone(),
        };
        let max_retries = backoff.max_retries();
        let mut leased = Leased::new(sent_at, followed.lease, &job, backoff, now);
        let until = leased.trusted_until().min(now + UNSTARTED_FOR.min(leased.length() / 4));
        if self.options.heartbeat.is_some() && leased.extend_if_due(now) {
            self.extensions.add_due(job.lease);
        }
        self.leases.insert(job.lease, leased);
        if until <= now {
            // Released here and not by `release_unstarted`, because the handler that waits still does.
            self.release(&job.lease, now);
            return false;
        }
        let index =
            self.claims.buffer.partition_point(|other| other.taken.job.columns.priority >= job.columns.priority);
        let taken = TakenJob { job, queue: followed.name.clone(), max_retries };
        self.claims.buffer.insert(index, Buffered { taken, until });
        true
    }

    /// Releases unstarted jobs of queues that were paused.
    pub(super) fn release_paused(&mut self, now: Instant) {
        let queues = &self.queues;
        if self.claims.buffer.iter().any(|job| !queues.is_open(job.taken.job.queue_id)) {
            let (open, paused) = self.claims.buffer.drain(..).partition(|job| queues.is_open(job.taken.job.queue_id));
            self.claims.buffer = open;
            self.release_all(paused, now);
        }
    }

    /// Releases jobs that have waited too long for a handler. The handlers that waited for them apparently no longer
    /// do.
    pub(super) fn release_unstarted(&mut self, now: Instant) {
        if self.claims.unstarted_at.is_none_or(|at| at > now) {
            return;
        }
        let (late, fresh): (VecDeque<_>, _) = self.claims.buffer.drain(..).partition(|job| job.until <= now);
        self.claims.buffer = fresh;
        if !late.is_empty() {
            self.claims.waiting = false;
            self.claims.slow_start.reset();
        }
        self.release_all(late, now);
        self.claims.watch_buffer();
    }

    /// Releases all jobs that have not started.
    pub(super) fn release_buffer(&mut self, now: Instant) {
        self.claims.unstarted_at = None;
        let buffer = std::mem::take(&mut self.claims.buffer);
        self.release_all(buffer, now);
    }

    fn release_all(&mut self, jobs: VecDeque<Buffered>, now: Instant) {
        jobs.into_iter().for_each(|job| self.release(&job.taken.job.lease, now));
    }
}
