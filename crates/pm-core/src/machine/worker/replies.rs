//! What a worker makes of replies.

use super::claims::SentClaim;
use super::prefetch::is_open;
use super::{
    BUSY_POLL, Buffered, Followed, Held, LONGEST_REAP, MAX_BATCH, MAX_PROMOTED, RELEASED_POLL, SHORTEST_REAP,
    SentExtend, TakenJob, UNSTARTED_FOR, Worker, WorkerEvent,
};
use crate::machine::batch::Batch;
use crate::machine::timer::Timer;
use crate::machine::{Entropy, RequestId, Trouble, retry_delay, scatter};
use crate::op::{
    ClaimReply, Extended, Outcome, Poll, PollReply, Promote, QueueReading, Reap, ReleaseClaim, Settle, SettleItem,
    Unsettled,
};
use crate::{ClaimedJob, Class, Error, Failure, Instant, Lease, Operation, Rows, State, Verdict};
use std::sync::Arc;
use std::time::Duration;

/// An extension that met a locked row is tried again after so long.
const LOCKED_PAUSE: Duration = Duration::from_millis(250);
/// After so many claims in a row that took too long the stream says so.
const SLOW_CLAIMS_TO_TELL: u32 = 3;

impl Worker {
    pub(super) fn handle_poll(
        &mut self,
        poll: Poll,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.slots.poll.answered(&reply);
        if self.draining {
            return;
        }
        match read(reply, |rows| poll.clone().interpret(rows)) {
            Ok(reply) => self.take_in_poll(&poll, reply, now, entropy),
            Err(trouble) => self.try_again(Timer::Poll, self.slots.poll.failures, trouble, now, entropy),
        }
    }

    fn take_in_poll(&mut self, poll: &Poll, reply: PollReply, now: Instant, entropy: &mut dyn Entropy) {
        for name in &poll.queues {
            if reply.queues.iter().any(|queue| queue.name == name.as_str()) {
                self.missing.remove(name);
            } else if self.missing.insert(name.clone()) {
                self.fail(Trouble::Refused(Error::QueueNotFound(name.to_string())));
            }
        }
        let none_left = reply.queues.is_empty();
        self.queues.retain(|id, _| reply.queues.iter().any(|queue| queue.id == *id));
        for queue in reply.queues {
            for priority in &queue.priorities {
                self.lines.wake(queue.id, *priority);
            }
            let backoff = self.known_backoff(queue.id, queue.backoff);
            let followed = Followed { name: queue.name.into(), paused: queue.paused, lease: queue.lease, backoff };
            self.queues.insert(queue.id, followed);
        }
        if none_left {
            self.shut_down(now);
            return;
        }
        self.give_back_paused(now);
        if let Some(sleep) = poll.sleep {
            self.noticed_until = self.polled_at + sleep;
        }
        self.due_bound = None;
        self.set_promote(reply.next_due, now, entropy);
        self.set_reap(reply.next_expiry, now, entropy);
        self.set_fire(reply.next_tick, now, entropy);
        self.schedule_poll(now, entropy);
    }

    /// Keeps one allocation while a queue's backoff stays as it is.
    fn known_backoff(&self, id: i32, backoff: crate::Backoff) -> Arc<crate::Backoff> {
        match self.queues.get(&id) {
            Some(followed) if *followed.backoff == backoff => followed.backoff.clone(),
            _ => Arc::new(backoff),
        }
    }

    /// Looks again soon while there is work, ever later while there is none and others would tell.
    fn schedule_poll(&mut self, now: Instant, entropy: &mut dyn Entropy) {
        let busy = self.lines.any_active(|id| is_open(&self.queues, id));
        let wait = if busy { BUSY_POLL } else { self.poll_interval.wait(entropy) };
        let told_till_then = !self.listening || now + wait <= self.noticed_until;
        self.timers.set_earlier(Timer::Poll, now + if told_till_then { wait } else { wait.min(BUSY_POLL) });
    }

    pub(super) fn handle_claim(
        &mut self,
        sent: SentClaim,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.slots.claim.answered(&reply);
        let timeout = self.options.statement_timeout;
        // A server that reports anything has stopped working on the claim; one that is silent may begin with it now.
        let may_run_for = match &reply {
            Ok(_) => Some(Duration::ZERO),
            Err(failure) if failure.class() != Class::Unknown => None,
            Err(failure) => Some(if failure.ends_session() { Duration::ZERO } else { timeout }),
        };
        let (lease, limit) = (sent.claim().lease, sent.claim().limit);
        let (sent_at, longest) = (sent.sent_at, sent.longest);
        match read(reply, |rows| sent.claim().clone().interpret(rows)) {
            Ok(reply) => self.take_in_claim(sent, reply, now, entropy),
            Err(trouble) => {
                if let Some(may_run_for) = may_run_for {
                    self.lost_claims.add(lease, now + may_run_for, longest, now);
                }
                if !self.draining {
                    self.lines.retry_at(now + retry_delay(self.slots.claim.failures, entropy));
                    self.slow_start.reset();
                    self.tell_of_timeouts(limit, now.since(sent_at), &trouble);
                    self.handle_trouble(trouble, now);
                }
            }
        }
    }

    /// Tells the user when claims of one job are given up again and again, here or by the server, because they take too
    /// long, while others are answered.
    fn tell_of_timeouts(&mut self, limit: usize, took: Duration, trouble: &Trouble) {
        let timeout = self.options.statement_timeout;
        let given_up = matches!(trouble, Trouble::Failed(failure) if failure.class() != Class::Permanent);
        let others_pass = self.slots.poll.failures == 0;
        let again = self.slots.claim.failures >= SLOW_CLAIMS_TO_TELL;
        if given_up && took >= timeout && limit == 1 && others_pass && again {
            self.fail(Trouble::Refused(Error::invalid(
                format!("a statement timeout of {timeout:?}"),
                "is too short for this link: claims of one job were given up again and again. Sending its payload counts; \
                 raise the statement timeout, or fail the job",
            )));
        }
    }

    fn take_in_claim(&mut self, sent: SentClaim, reply: ClaimReply, now: Instant, entropy: &mut dyn Entropy) {
        self.lines.handle_claimed(&sent, &reply, now);
        for reading in reply.queues {
            self.take_in_reading(reading);
        }
        let brought_jobs = !reply.jobs.is_empty();
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
            None if !brought_jobs => {}
            None => {
                let shortest = self.queues.values().map(|followed| followed.lease).min().unwrap_or_default();
                self.slow_start.answered(limit, took, starving, shortest);
                self.claims_too_late = 0;
            }
            Some(queue_id) => self.take_in_late(queue_id, in_time == 0, limit, took, now, entropy),
        }
        self.give_back_paused(now);
        self.timers.set(Timer::Unstarted, self.buffer.iter().map(|job| job.until).min());
        if let Some(due) = reply.next_due {
            self.timers.set_earlier(Timer::Promote, now + due);
        }
        if brought_jobs {
            self.poll_interval.snap_back();
        }
        if !self.lines.any_active(|id| is_open(&self.queues, id)) && !self.timers.is_due(Timer::Poll, now) {
            self.timers.set(Timer::Poll, None);
            self.schedule_poll(now, entropy);
            // However often claims come back, they do not put the poll off for ever.
            let latest = self.polled_at + self.poll_interval.most();
            self.timers.set_earlier(Timer::Poll, self.poll_by.map_or(latest, |by| by.min(latest)));
        }
    }

    fn take_in_reading(&mut self, reading: QueueReading) {
        let backoff = self.known_backoff(reading.queue_id, reading.backoff);
        if let Some(followed) = self.queues.get_mut(&reading.queue_id) {
            (followed.paused, followed.lease, followed.backoff) = (reading.paused, reading.lease, backoff);
        }
    }

    /// Acts on a reply that brought jobs of a queue when their leases could not be trusted any longer: they were given
    /// back. When those are `all` jobs, the next claim comes after a pause and asks for less; when less cannot help, the
    /// user is told which lease is too short.
    fn take_in_late(
        &mut self,
        queue_id: i32,
        all: bool,
        limit: usize,
        took: Duration,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.slow_start.reset();
        self.claims_too_late = self.claims_too_late.saturating_add(1);
        if all {
            self.lines.retry_at(now + retry_delay(self.claims_too_late, entropy));
        }
        let is_told = self.claims_too_late >= SLOW_CLAIMS_TO_TELL && (!all || limit == 1);
        if let Some(followed) = self.queues.get(&queue_id).filter(|_| is_told) {
            let what = format!("the lease of queue {:?}, {:?},", followed.name, followed.lease);
            let problem = format!("is too short for this link: the claim of a job took {took:?}. Set a longer lease");
            self.fail(Trouble::Refused(Error::invalid(what, problem)));
        }
    }

    /// Keeps a job for a handler, until nobody asked for it for a while; gives it back, and returns `false`, if its
    /// lease can no longer be trusted. That is reckoned from when the claim was sent, since the server may have run it
    /// at once; waiting for a handler only begins now.
    fn buffer_job(&mut self, job: ClaimedJob, sent_at: Instant, now: Instant) -> bool {
        let Some(followed) = self.queues.get(&job.queue_id) else {
            // Its queue was renamed or deleted between two statements.
            self.leases.insert(job.lease, Held::new(sent_at, Duration::ZERO, &job, Arc::default()));
            self.give_back(&job.lease, now);
            return true;
        };
        let backoff = match job.has_own_backoff() {
            true => Arc::new(job.effective_backoff(&followed.backoff)),
            false => followed.backoff.clone(),
        };
        let mut held = Held::new(sent_at, followed.lease, &job, backoff);
        let until = held.trusted_until().min(now + UNSTARTED_FOR.min(followed.lease / 4));
        if self.options.heartbeat.is_some() && held.extend_if_due(now) {
            self.due_extensions.push(job.lease);
        }
        self.leases.insert(job.lease, held);
        if until <= now {
            // Given back here, and not as one that nobody wanted: whoever waits still does.
            self.give_back(&job.lease, now);
            return false;
        }
        let place = self.buffer.partition_point(|other| other.taken.job.priority >= job.priority);
        self.buffer.insert(place, Buffered { taken: TakenJob { job, queue: followed.name.clone() }, until });
        true
    }

    /// Gives back unstarted jobs of queues that were paused.
    fn give_back_paused(&mut self, now: Instant) {
        let queues = &self.queues;
        let is_held = |job: &Buffered| !is_open(queues, job.taken.job.queue_id);
        if !self.buffer.iter().any(is_held) {
            return;
        }
        let (held, open): (Vec<_>, Vec<_>) = self.buffer.drain(..).partition(is_held);
        self.buffer = open.into();
        for buffered in held {
            self.give_back(&buffered.taken.job.lease, now);
        }
    }

    pub(super) fn handle_settle(
        &mut self,
        batch: Batch<SettleItem>,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        match read(reply, |rows| Settle { items: &batch.items, passes: batch.passes }.interpret(rows)) {
            Ok(unsettled) => self.settle_answered(batch, unsettled, now, entropy),
            Err(Trouble::Failed(failure)) => self.settle_failed(batch, failure, now, entropy),
            Err(refused) => {
                self.settles.handle_done();
                self.tell_settled(batch, &Err(refused));
            }
        }
    }

    fn settle_answered(
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
        self.tell_settled(given_up, &Err(Trouble::Failed(Failure::locked())));
        self.take_in_settled(applied, now);
    }

    /// Answers the settlements whose deadline has passed while they waited to be sent again.
    pub(super) fn give_up_settles(&mut self, now: Instant) {
        while let Some((batch, failure)) = self.settles.poll_given_up(now) {
            self.tell_settled(batch, &Err(Trouble::Failed(failure.unwrap_or_else(Failure::locked))));
        }
    }

    fn settle_failed(&mut self, batch: Batch<SettleItem>, failure: Failure, now: Instant, entropy: &mut dyn Entropy) {
        let given_up = self.settles.handle_failure(batch, &failure, now, entropy);
        self.tell_settled(given_up, &Err(Trouble::Failed(failure)));
    }

    /// Tells the waiters, and looks for jobs that are back in line or due later.
    fn take_in_settled(&mut self, done: Batch<SettleItem>, now: Instant) {
        self.look_for_returned(&done.items, now);
        self.tell_settled(done, &Ok(()));
    }

    /// Sees to it that jobs which settlements put back in line, or made due later, are looked for in time.
    pub(super) fn look_for_returned<'a>(
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
                self.timers.set_earlier(Timer::Promote, now + delay);
            }
            if settled().any(|item| item.verdict == Verdict::Release) {
                self.poll_by(now + RELEASED_POLL);
            }
            if !at_once.is_empty() && !self.lines.any_active(|id| is_open(&self.queues, id)) {
                self.poll_by(now);
            }
        }
    }

    fn tell_settled(&mut self, batch: Batch<SettleItem>, outcome: &Result<(), Trouble>) {
        let told =
            batch.into_entries().map(|(request_id, _)| WorkerEvent::Settled { request_id, outcome: outcome.clone() });
        self.events.extend(told);
    }

    pub(super) fn handle_outcome(
        &mut self,
        batch: Batch<SettleItem>,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.slots.outcome.answered(&reply);
        match read(reply, |rows| Outcome { items: &batch.items }.interpret(rows)) {
            Ok(applied) => {
                let places: Vec<_> =
                    applied.iter().enumerate().filter(|(_, applied)| **applied).map(|(place, _)| place).collect();
                let (already, lost) = batch.partition(&places);
                self.tell_settled(already, &Ok(()));
                self.tell_settled(lost, &Err(Trouble::Refused(Error::LeaseLost)));
            }
            // The settle is sent again: it is fenced, misses as before, and leads back here.
            Err(Trouble::Failed(failure)) => {
                let given_up = self.settles.handle_follow_up_failure(batch, &failure, now, entropy);
                self.tell_settled(given_up, &Err(Trouble::Failed(failure)));
            }
            Err(refused) => self.tell_settled(batch, &Err(refused)),
        }
    }

    pub(super) fn handle_extend(
        &mut self,
        sent: SentExtend,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.slots.extend.answered(&reply);
        let SentExtend { extend, sent_at, request_ids } = sent;
        let leases = extend.leases.clone();
        leases.iter().for_each(|lease| self.leases.set_extending(lease, false));
        match read(reply, |rows| extend.interpret(rows)) {
            Ok(extended) => {
                for (lease, extended) in leases.iter().zip(&extended) {
                    self.record_extended(*lease, sent_at, *extended, now);
                }
                let (locked, told): (Vec<_>, Vec<_>) =
                    request_ids.into_iter().partition(|(place, _)| extended[*place] == Extended::Locked);
                for (place, request_id) in told {
                    let outcome = match extended[place] {
                        Extended::Remains(remaining) => Ok(remaining),
                        Extended::Locked | Extended::Lost => Err(Trouble::Refused(Error::LeaseLost)),
                    };
                    self.events.push_back(WorkerEvent::Extended { request_id, outcome });
                }
                let locked: Vec<_> =
                    locked.into_iter().map(|(place, request_id)| (leases[place], request_id)).collect();
                if !locked.is_empty() {
                    self.ask_again(locked, &Trouble::Failed(Failure::locked()), now + LOCKED_PAUSE, now);
                }
            }
            Err(trouble) => {
                let at = now + retry_delay(self.slots.extend.failures, entropy);
                leases.iter().for_each(|lease| self.leases.postpone(*lease, at));
                let asked = request_ids.into_iter().map(|(place, request_id)| (leases[place], request_id)).collect();
                self.ask_again(asked, &trouble, at, now);
            }
        }
    }

    fn record_extended(&mut self, lease: Lease, sent_at: Instant, extended: Extended, now: Instant) {
        let remaining = match extended {
            Extended::Remains(remaining) => Some(remaining),
            Extended::Lost => None,
            Extended::Locked => return self.leases.postpone(lease, now + LOCKED_PAUSE),
        };
        if self.leases.extended(lease, sent_at, remaining) {
            self.events.push_back(WorkerEvent::LeaseLost(lease));
        }
    }

    /// Asks at `at` again for extensions that met a trouble which may pass, and tells of it where it will not in time.
    fn ask_again(&mut self, asked: Vec<(Lease, RequestId)>, trouble: &Trouble, at: Instant, now: Instant) {
        self.timers.set(Timer::Lease, Some(at));
        let passing = matches!(trouble, Trouble::Failed(failure) if failure.class() != Class::Permanent);
        for (lease, request_id) in asked {
            match self.leases.get(&lease).is_some_and(|held| passing && held.ends_at() > now) {
                true => self.asked.push((lease, request_id)),
                false => {
                    self.events.push_back(WorkerEvent::Extended { request_id, outcome: Err(trouble.clone()) });
                }
            }
        }
    }

    pub(super) fn handle_reap(
        &mut self,
        reap: Reap,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.slots.reap.answered(&reply);
        if self.draining {
            return;
        }
        match read(reply, |rows| reap.interpret(rows)) {
            Ok(reply) if reply.reaped == MAX_BATCH as u64 => self.timers.set(Timer::Reap, Some(now)),
            Ok(reply) => {
                let in_vain = reply.reaped == 0 && reply.next_expiry.is_some_and(|next| next.is_zero());
                self.reaps_in_vain = if in_vain { self.reaps_in_vain.saturating_add(1) } else { 0 };
                let doubled = SHORTEST_REAP * (1 << self.reaps_in_vain.saturating_sub(1).min(8));
                self.no_reap_before = now + doubled.min(LONGEST_REAP);
                self.set_reap(reply.next_expiry, now, entropy);
                if reply.reaped > 0 {
                    self.handle_change(now);
                    self.notify_idle(now);
                }
            }
            Err(trouble) => self.try_again(Timer::Reap, self.slots.reap.failures, trouble, now, entropy),
        }
    }

    fn set_reap(&mut self, next_expiry: Option<Duration>, now: Instant, entropy: &mut dyn Entropy) {
        let next = next_expiry.filter(|_| self.options.reaps);
        // Reapers of many processes spread over 50 ms.
        let next = next.map(|next| (now + next).max(self.no_reap_before) + scatter(Duration::from_millis(50), entropy));
        self.timers.set(Timer::Reap, next);
    }

    pub(super) fn handle_promote(
        &mut self,
        promote: Promote,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.slots.promote.answered(&reply);
        if self.draining {
            return;
        }
        match read(reply, |rows| promote.interpret(rows)) {
            Ok(reply) => {
                let full = reply.promoted == MAX_PROMOTED as u64;
                self.due_bound = reply.upto.filter(|_| full);
                match full {
                    true => self.timers.set(Timer::Promote, Some(now)),
                    false => self.set_promote(reply.next_due, now, entropy),
                }
                if reply.promoted > 0 {
                    self.handle_change(now);
                    self.notify_idle(now);
                }
            }
            Err(trouble) => self.try_again(Timer::Promote, self.slots.promote.failures, trouble, now, entropy),
        }
    }

    fn set_promote(&mut self, next_due: Option<Duration>, now: Instant, entropy: &mut dyn Entropy) {
        let Some(next) = next_due else { return };
        // Promoters of many processes spread over 10 ms. What was learned since the reply was made stands.
        self.timers.set_earlier(Timer::Promote, now + next + scatter(Duration::from_millis(10), entropy));
    }

    pub(super) fn handle_release_claim(
        &mut self,
        release: ReleaseClaim,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.slots.release_claim.answered(&reply);
        match read(reply, |rows| release.interpret(rows)) {
            Ok(released) => {
                self.lost_claims.handle_given_back(release.lease, now);
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

    /// Sets the timer of a request that failed so many times in a row, so that it is sent again after a pause.
    pub(super) fn try_again(
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

    /// Tells the user, unless the connection alone is in trouble, which heals by itself.
    fn handle_trouble(&mut self, trouble: Trouble, now: Instant) {
        match &trouble {
            Trouble::Failed(failure) if failure.is_schema() => {
                self.fail(trouble);
                self.shut_down(now);
            }
            Trouble::Failed(failure) if failure.class() != Class::Permanent => {}
            _ => self.fail(trouble),
        }
    }

    fn fail(&mut self, trouble: Trouble) {
        self.events.push_back(WorkerEvent::Failed(trouble));
    }
}

/// Returns what `interpret` makes of a reply.
pub(super) fn read<T>(
    reply: Result<Rows, Failure>,
    interpret: impl FnOnce(&Rows) -> Result<T, Error>,
) -> Result<T, Trouble> {
    let rows = reply.map_err(Trouble::Failed)?;
    interpret(&rows).map_err(Trouble::Refused)
}
