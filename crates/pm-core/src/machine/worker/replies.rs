//! The replies to a worker's requests.

use super::lines::SentClaim;
use super::prefetch::is_open;
use super::{
    BUSY_POLL, Buffered, Followed, Leased, RELEASED_POLL, SentExtend, TakenJob, UNSTARTED_FOR, Worker, WorkerEvent,
};
use crate::machine::batch::Batch;
use crate::machine::maintenance::MaintenanceRequest;
use crate::machine::timer::Timer;
use crate::machine::{Entropy, RequestId, Trouble, interpret, retry_delay};
use crate::op::{
    ClaimReply, Extended, Outcome, Poll, PollReply, QueueReading, ReleaseClaim, Settle, SettleItem, Unsettled,
};
use crate::{ClaimedJob, Class, Error, Failure, Instant, Lease, Operation, RetryPolicy, Rows, State, Verdict};
use std::sync::Arc;
use std::time::Duration;

/// The pause before an extension is retried whose job another transaction has locked.
const LOCKED_PAUSE: Duration = Duration::from_millis(250);
/// After this many claims in a row that took too long, the user gets an error.
const MIN_SLOW_CLAIMS: u32 = 3;

impl Worker {
    pub(super) fn handle_poll(
        &mut self,
        poll: Poll,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.slots.poll.record_reply(&reply);
        if self.draining {
            return;
        }
        match interpret(reply, |rows| poll.clone().interpret(rows)) {
            Ok(reply) => self.apply_poll(&poll, reply, now, entropy),
            Err(trouble) => self.retry_after_failure(Timer::Poll, self.slots.poll.failures, trouble, now, entropy),
        }
    }

    fn apply_poll(&mut self, poll: &Poll, reply: PollReply, now: Instant, entropy: &mut dyn Entropy) {
        for name in &poll.queues {
            if reply.queues.iter().any(|queue| queue.name == name.as_str()) {
                self.missing.remove(name);
            } else if self.missing.insert(name.clone()) {
                self.report_failure(Trouble::Refused(Error::QueueNotFound(name.to_string())));
            }
        }
        let none_left = reply.queues.is_empty();
        self.queues.retain(|id, _| reply.queues.iter().any(|queue| queue.id == *id));
        for queue in reply.queues {
            for priority in &queue.priorities {
                self.lines.activate(queue.id, *priority);
            }
            let backoff = self.shared_backoff(queue.id, queue.backoff);
            let followed = Followed { name: queue.name.into(), paused: queue.paused, lease: queue.lease, backoff };
            self.queues.insert(queue.id, followed);
        }
        if none_left {
            self.shut_down(now);
            return;
        }
        self.release_paused(now);
        if let Some(sleep) = poll.sleep {
            self.notified_until = self.polled_at + sleep;
        }
        self.maintenance.learn(reply.next_due, reply.next_expiry, reply.next_tick, now, entropy);
        self.schedule_poll(now, entropy);
    }

    /// Returns the backoff in the allocation that the queue already has, if it has not changed.
    fn shared_backoff(&self, id: i32, backoff: crate::Backoff) -> Arc<crate::Backoff> {
        match self.queues.get(&id) {
            Some(followed) if *followed.backoff == backoff => followed.backoff.clone(),
            _ => Arc::new(backoff),
        }
    }

    /// Schedules the next poll: soon while there are jobs; ever later while there are none, provided that other
    /// processes notify this worker until then.
    fn schedule_poll(&mut self, now: Instant, entropy: &mut dyn Entropy) {
        let busy = self.lines.any_active(|id| is_open(&self.queues, id));
        let wait = if busy { BUSY_POLL } else { self.poll_interval.wait(entropy) };
        let is_notified = !self.listening || now + wait <= self.notified_until;
        self.timers.set_earlier(Timer::Poll, now + if is_notified { wait } else { wait.min(BUSY_POLL) });
    }

    pub(super) fn handle_claim(
        &mut self,
        sent: SentClaim,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.slots.claim.record_reply(&reply);
        let timeout = self.options.statement_timeout;
        // A server that reports a failure no longer runs the claim; one that does not reply may begin to run it now.
        let may_run_for = match &reply {
            Ok(_) => Some(Duration::ZERO),
            Err(failure) if failure.class() != Class::Unknown => None,
            Err(failure) => Some(if failure.ends_session() { Duration::ZERO } else { timeout }),
        };
        let (lease, limit) = (sent.claim().lease, sent.claim().limit);
        let (sent_at, longest) = (sent.sent_at, sent.longest);
        match interpret(reply, |rows| sent.claim().clone().interpret(rows)) {
            Ok(reply) => self.apply_claim(sent, reply, now, entropy),
            Err(trouble) => {
                if let Some(may_run_for) = may_run_for {
                    self.lost_claims.add(lease, now + may_run_for, longest, now);
                }
                if !self.draining {
                    self.lines.retry_at(now + retry_delay(self.slots.claim.failures, entropy));
                    self.slow_start.reset();
                    self.report_repeated_timeouts(limit, now.since(sent_at), &trouble);
                    self.handle_trouble(trouble, now);
                }
            }
        }
    }

    /// Reports an error if claims of a single job are cancelled repeatedly, here or by the server, because they take
    /// too long, while other statements succeed.
    fn report_repeated_timeouts(&mut self, limit: usize, took: Duration, trouble: &Trouble) {
        let timeout = self.options.statement_timeout;
        let given_up = matches!(trouble, Trouble::Failed(failure) if failure.class() != Class::Permanent);
        let others_succeed = self.slots.poll.failures == 0;
        let is_repeated = self.slots.claim.failures >= MIN_SLOW_CLAIMS;
        if given_up && took >= timeout && limit == 1 && others_succeed && is_repeated {
            self.report_failure(Trouble::Refused(Error::invalid(
                format!("a statement timeout of {timeout:?}"),
                "is too short for this link: claims of a single job timed out repeatedly. The transfer of the payload \
                 counts; raise the statement timeout, or fail the job",
            )));
        }
    }

    fn apply_claim(&mut self, sent: SentClaim, reply: ClaimReply, now: Instant, entropy: &mut dyn Entropy) {
        self.lines.handle_claimed(&sent, &reply, now);
        for reading in reply.queues {
            self.apply_settings(reading);
        }
        let has_jobs = !reply.jobs.is_empty();
        let (limit, took) = (sent.claim().limit, now.since(sent.sent_at));
        let starving = self.waiting && self.buffer.is_empty() && reply.jobs.len() >= limit;
        let (mut in_time, mut late_queue) = (0, None);
        for job in reply.jobs {
            let queue_id = job.queue_id;
            match self.buffer_job(job, sent.sent_at, now) {
                true => in_time += 1,
                false => late_queue = Some(queue_id),
            }
        }
        if self.draining {
            self.shut_down(now);
            return;
        }
        match late_queue {
            None if !has_jobs => {}
            None => {
                let shortest = self.queues.values().map(|followed| followed.lease).min().unwrap_or_default();
                self.slow_start.record_claim(limit, took, starving, shortest);
                self.late_claims = 0;
            }
            Some(queue_id) => self.handle_late_jobs(queue_id, in_time == 0, limit, took, now, entropy),
        }
        self.release_paused(now);
        self.timers.set(Timer::Unstarted, self.buffer.iter().map(|job| job.until).min());
        if let Some(due) = reply.next_due {
            self.maintenance.promote_by(now + due);
        }
        if has_jobs {
            self.poll_interval.reset_to_min();
        }
        if !self.lines.any_active(|id| is_open(&self.queues, id)) && !self.timers.is_due(Timer::Poll, now) {
            self.timers.set(Timer::Poll, None);
            self.schedule_poll(now, entropy);
            // Frequent claims must not delay the poll for ever.
            let latest = self.polled_at + self.poll_interval.max();
            self.timers.set_earlier(Timer::Poll, self.poll_by.map_or(latest, |by| by.min(latest)));
        }
    }

    fn apply_settings(&mut self, reading: QueueReading) {
        let backoff = self.shared_backoff(reading.queue_id, reading.backoff);
        if let Some(followed) = self.queues.get_mut(&reading.queue_id) {
            (followed.paused, followed.lease, followed.backoff) = (reading.paused, reading.lease, backoff);
        }
    }

    /// Handles a reply with jobs of a queue that were released, because their leases could no longer be trusted. If
    /// these are `all` jobs of the reply, the next claim is sent after a pause and asks for fewer. If fewer cannot
    /// help, reports an error with the lease that is too short.
    fn handle_late_jobs(
        &mut self,
        queue_id: i32,
        all: bool,
        limit: usize,
        took: Duration,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.slow_start.reset();
        self.late_claims = self.late_claims.saturating_add(1);
        if all {
            self.lines.retry_at(now + retry_delay(self.late_claims, entropy));
        }
        let is_reported = self.late_claims >= MIN_SLOW_CLAIMS && (!all || limit == 1);
        if let Some(followed) = self.queues.get(&queue_id).filter(|_| is_reported) {
            let what = format!("the lease of queue {:?}, {:?},", followed.name, followed.lease);
            let problem = format!("is too short for this link: the claim of a job took {took:?}. Set a longer lease");
            self.report_failure(Trouble::Refused(Error::invalid(what, problem)));
        }
    }

    /// Keeps a job until a handler takes it, or it has waited too long. If its lease can no longer be trusted, releases
    /// it and returns `false`. Trust counts from when the claim was sent, because the server may have run it at once;
    /// the wait for a handler begins now.
    fn buffer_job(&mut self, job: ClaimedJob, sent_at: Instant, now: Instant) -> bool {
        let Some(followed) = self.queues.get(&job.queue_id) else {
            // Its queue was renamed or deleted between two statements.
            self.leases.insert(job.lease, Leased::new(sent_at, Duration::ZERO, &job, Arc::default(), now));
            self.release(&job.lease, now);
            return true;
        };
        let backoff = match job.retry != RetryPolicy::default() {
            true => Arc::new(job.retry.on(&followed.backoff)),
            false => followed.backoff.clone(),
        };
        let mut leased = Leased::new(sent_at, followed.lease, &job, backoff, now);
        let until = leased.trusted_until().min(now + UNSTARTED_FOR.min(followed.lease / 4));
        if self.options.heartbeat.is_some() && leased.extend_if_due(now) {
            self.due_extensions.push(job.lease);
        }
        self.leases.insert(job.lease, leased);
        if until <= now {
            // Released here and not by `release_unstarted`, because the handler that waits still does.
            self.release(&job.lease, now);
            return false;
        }
        let index = self.buffer.partition_point(|other| other.taken.job.priority >= job.priority);
        self.buffer.insert(index, Buffered { taken: TakenJob { job, queue: followed.name.clone() }, until });
        true
    }

    /// Releases unstarted jobs of queues that were paused.
    fn release_paused(&mut self, now: Instant) {
        let queues = &self.queues;
        let is_paused = |job: &Buffered| !is_open(queues, job.taken.job.queue_id);
        if !self.buffer.iter().any(is_paused) {
            return;
        }
        let (paused, open): (Vec<_>, Vec<_>) = self.buffer.drain(..).partition(is_paused);
        self.buffer = open.into();
        for buffered in paused {
            self.release(&buffered.taken.job.lease, now);
        }
    }

    pub(super) fn handle_settle(
        &mut self,
        batch: Batch<SettleItem>,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        match interpret(reply, |rows| Settle { items: &batch.items, passes: batch.passes }.interpret(rows)) {
            Ok(unsettled) => self.handle_settle_reply(batch, unsettled, now, entropy),
            Err(Trouble::Failed(failure)) => self.handle_settle_failure(batch, failure, now, entropy),
            Err(refused) => {
                self.settles.handle_done();
                self.report_settled(batch, &Err(refused));
            }
        }
    }

    fn handle_settle_reply(
        &mut self,
        batch: Batch<SettleItem>,
        unsettled: Unsettled,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.settles.handle_done();
        let [applied, unacknowledged, locked, ..] = batch.divide([&unsettled.missed, &unsettled.locked, &[], &[]]);
        self.unacknowledged = (!unacknowledged.items.is_empty()).then_some(unacknowledged);
        let given_up = self.settles.set_aside(locked, now, entropy);
        self.report_settled(given_up, &Err(Trouble::Failed(Failure::locked())));
        self.apply_settled(applied, now);
    }

    /// Reports the settlements whose deadline passed while they waited to be sent again.
    pub(super) fn give_up_settles(&mut self, now: Instant) {
        while let Some((batch, failure)) = self.settles.poll_given_up(now) {
            self.report_settled(batch, &Err(Trouble::Failed(failure.unwrap_or_else(Failure::locked))));
        }
    }

    fn handle_settle_failure(
        &mut self,
        batch: Batch<SettleItem>,
        failure: Failure,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        let given_up = self.settles.handle_failure(batch, &failure, now, entropy);
        self.report_settled(given_up, &Err(Trouble::Failed(failure)));
    }

    /// Reports applied settlements, and schedules the search for the jobs that they made ready or due later.
    fn apply_settled(&mut self, done: Batch<SettleItem>, now: Instant) {
        self.schedule_returned(&done.items, now);
        self.report_settled(done, &Ok(()));
    }

    /// Schedules polls, promotions and notifications for the jobs that settlements made ready, or due later.
    pub(super) fn schedule_returned<'a>(
        &mut self,
        settled: impl IntoIterator<Item = &'a SettleItem> + Clone,
        now: Instant,
    ) {
        let settled = || settled.clone().into_iter();
        if settled().any(|item| item.state == State::Pending) {
            self.notify_idle(now);
        }
        if !self.draining && !self.options.queues.is_empty() {
            let retried = settled().filter(|item| item.state == State::Pending && item.verdict.reason().is_some());
            let (later, at_once): (Vec<_>, Vec<_>) = retried.partition(|item| item.delay.is_some());
            if let Some(delay) = later.into_iter().filter_map(|item| item.delay).min() {
                self.maintenance.promote_by(now + delay);
            }
            if settled().any(|item| item.verdict == Verdict::Release) {
                self.poll_by(now + RELEASED_POLL);
            }
            if !at_once.is_empty() && !self.lines.any_active(|id| is_open(&self.queues, id)) {
                self.poll_by(now);
            }
        }
    }

    fn report_settled(&mut self, batch: Batch<SettleItem>, outcome: &Result<(), Trouble>) {
        let events =
            batch.into_entries().map(|(request_id, _)| WorkerEvent::Settled { request_id, outcome: outcome.clone() });
        self.events.extend(events);
    }

    pub(super) fn handle_outcome(
        &mut self,
        batch: Batch<SettleItem>,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.slots.outcome.record_reply(&reply);
        match interpret(reply, |rows| Outcome { items: &batch.items }.interpret(rows)) {
            Ok(applied) => {
                let indexes: Vec<_> =
                    applied.iter().enumerate().filter(|(_, applied)| **applied).map(|(index, _)| index).collect();
                let (applied, lost) = batch.partition(&indexes);
                self.report_settled(applied, &Ok(()));
                self.report_settled(lost, &Err(Trouble::Refused(Error::LeaseLost)));
            }
            // The settlement is sent again: it is fenced, changes nothing as before, and is looked up again.
            Err(Trouble::Failed(failure)) => {
                let given_up = self.settles.handle_follow_up_failure(batch, &failure, now, entropy);
                self.report_settled(given_up, &Err(Trouble::Failed(failure)));
            }
            Err(refused) => self.report_settled(batch, &Err(refused)),
        }
    }

    pub(super) fn handle_extend(
        &mut self,
        sent: SentExtend,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.slots.extend.record_reply(&reply);
        let SentExtend { extend, sent_at, request_ids } = sent;
        let leases = extend.leases.clone();
        leases.iter().for_each(|lease| self.leases.set_extending(lease, false));
        match interpret(reply, |rows| extend.interpret(rows)) {
            Ok(extended) => {
                for (lease, extended) in leases.iter().zip(&extended) {
                    self.record_extended(*lease, sent_at, *extended, now);
                }
                let (locked, decided): (Vec<_>, Vec<_>) =
                    request_ids.into_iter().partition(|(index, _)| extended[*index] == Extended::Locked);
                for (index, request_id) in decided {
                    let outcome = match extended[index] {
                        Extended::Remains(remaining) => Ok(remaining),
                        Extended::Locked | Extended::Lost => Err(Trouble::Refused(Error::LeaseLost)),
                    };
                    self.events.push_back(WorkerEvent::Extended { request_id, outcome });
                }
                let locked: Vec<_> =
                    locked.into_iter().map(|(index, request_id)| (leases[index], request_id)).collect();
                if !locked.is_empty() {
                    self.retry_extensions(locked, &Trouble::Failed(Failure::locked()), now + LOCKED_PAUSE, now);
                }
            }
            Err(trouble) => {
                let at = now + retry_delay(self.slots.extend.failures, entropy);
                let may_have_run = matches!(&trouble, Trouble::Failed(failure) if failure.class() == Class::Unknown);
                for lease in &leases {
                    self.leases.postpone(*lease, at);
                    if may_have_run {
                        self.leases.may_be_extended(*lease, now + self.options.statement_timeout);
                    }
                }
                let extensions =
                    request_ids.into_iter().map(|(index, request_id)| (leases[index], request_id)).collect();
                self.retry_extensions(extensions, &trouble, at, now);
            }
        }
    }

    fn record_extended(&mut self, lease: Lease, sent_at: Instant, extended: Extended, now: Instant) {
        let remaining = match extended {
            Extended::Remains(remaining) => Some(remaining),
            Extended::Lost => None,
            Extended::Locked => return self.leases.postpone(lease, now + LOCKED_PAUSE),
        };
        if self.leases.extended(lease, sent_at, remaining, now) {
            self.events.push_back(WorkerEvent::LeaseLost(lease));
        }
    }

    /// Retries extensions at `at` after an error that may pass. Reports the error for the others, and for leases that
    /// have ended.
    fn retry_extensions(&mut self, extensions: Vec<(Lease, RequestId)>, trouble: &Trouble, at: Instant, now: Instant) {
        self.timers.set(Timer::Lease, Some(at));
        let may_pass = matches!(trouble, Trouble::Failed(failure) if failure.class() != Class::Permanent);
        for (lease, request_id) in extensions {
            match self.leases.get(&lease).is_some_and(|leased| may_pass && leased.ends_at() > now) {
                true => self.requested_extensions.push((lease, request_id)),
                false => {
                    self.events.push_back(WorkerEvent::Extended { request_id, outcome: Err(trouble.clone()) });
                }
            }
        }
    }

    pub(super) fn handle_maintained(
        &mut self,
        request: MaintenanceRequest,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        match self.maintenance.handle_reply(request, reply, now, entropy) {
            Ok(done) if done.ready() > 0 => {
                self.handle_change(now);
                self.notify_idle(now);
            }
            Ok(_) => {}
            Err(trouble) => self.handle_trouble(trouble, now),
        }
    }

    pub(super) fn handle_release_claim(
        &mut self,
        release: ReleaseClaim,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.slots.release_claim.record_reply(&reply);
        match interpret(reply, |rows| release.interpret(rows)) {
            Ok(released) => {
                self.lost_claims.handle_released(release.lease, now);
                if released > 0 {
                    self.handle_change(now);
                    self.notify_idle(now);
                }
            }
            Err(Trouble::Failed(failure)) if failure.class() != Class::Permanent => {
                let pause = retry_delay(self.slots.release_claim.failures, entropy);
                self.lost_claims.postpone(release.lease, pause, now, self.draining);
            }
            Err(_) => self.lost_claims.give_up(release.lease),
        }
    }

    /// Sets the timer of a request that has failed this many times in a row, so that it is sent again after a pause.
    pub(super) fn retry_after_failure(
        &mut self,
        timer: Timer,
        failures: u32,
        trouble: Trouble,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.timers.set(timer, Some(now + retry_delay(failures, entropy)));
        self.handle_trouble(trouble, now);
    }

    /// Reports an error to the user, unless it may pass. Shuts down if the schema is missing or does not fit.
    fn handle_trouble(&mut self, trouble: Trouble, now: Instant) {
        match &trouble {
            Trouble::Failed(failure) if failure.is_schema() => {
                self.report_failure(trouble);
                self.shut_down(now);
            }
            Trouble::Failed(failure) if failure.class() != Class::Permanent => {}
            _ => self.report_failure(trouble),
        }
    }

    fn report_failure(&mut self, trouble: Trouble) {
        self.events.push_back(WorkerEvent::Failed(trouble));
    }
}
