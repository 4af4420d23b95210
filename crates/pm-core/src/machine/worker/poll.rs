//! Polls: they read the settings of the queues, which lines have jobs, and when maintenance is due.

use super::Worker;
use super::options::WorkerOptions;
use super::poll_interval::PollInterval;
use crate::machine::chore::Chore;
use crate::machine::{Entropy, Reply, Timer, Trouble, interpret};
use crate::op::{Poll, PollReply};
use crate::{Error, Instant, Operation, QueueName};
use std::collections::BTreeSet;
use std::time::Duration;

/// The minimum time between two polls, however many changes are reported.
const CHANGE_PAUSE: Duration = Duration::from_millis(20);
/// The time between two polls while lines have jobs.
const BUSY_POLL: Duration = Duration::from_secs(2);
/// How much longer than its maximum poll interval an idle worker asks to be notified.
const IDLE_SLACK: Duration = Duration::from_secs(5);

/// When the followed queues are polled.
#[derive(Debug)]
pub(super) struct Polls {
    pub(super) chore: Chore,
    interval: PollInterval,
    /// When the next poll is due at the latest, whatever claims return, because only a poll finds what has changed.
    latest: Option<Instant>,
    /// Whether the worker receives notifications of other processes.
    listening: bool,
    /// Until when producers of other processes notify this worker.
    notified_until: Instant,
    /// Names that no queue had at the last poll, and that were reported.
    missing: BTreeSet<QueueName>,
}

impl Polls {
    /// Returns polls of which the first is sent at once, if there are queues to follow.
    pub(super) fn new(options: &WorkerOptions, now: Instant) -> Self {
        Polls {
            chore: Chore::new(Timer::Poll, (!options.queues.is_empty()).then_some(now)),
            interval: PollInterval::new(options.poll_least, options.poll_most),
            latest: None,
            listening: false,
            notified_until: now,
            missing: BTreeSet::new(),
        }
    }

    /// Sends the next poll at `at` at the latest.
    pub(super) fn poll_by(&mut self, at: Instant) {
        self.latest = Some(self.latest.map_or(at, |latest| latest.min(at)));
        self.chore.set_earlier(at);
    }

    /// Reschedules the next poll after a claim that returned jobs, or none. `busy` is whether lines may have more.
    pub(super) fn handle_claimed(&mut self, has_jobs: bool, busy: bool, now: Instant, entropy: &mut dyn Entropy) {
        if has_jobs {
            self.interval.reset_to_min();
        }
        if !busy && !self.chore.is_due(now) {
            self.chore.set(None);
            self.schedule(busy, now, entropy);
            // Frequent claims must not delay the poll for ever.
            let latest = self.chore.sent_at() + self.interval.max();
            self.chore.set_earlier(self.latest.map_or(latest, |by| by.min(latest)));
        }
    }

    /// Schedules the next poll: soon while there are jobs; ever later while there are none, provided that other
    /// processes notify this worker until then.
    fn schedule(&mut self, busy: bool, now: Instant, entropy: &mut dyn Entropy) {
        let wait = if busy { BUSY_POLL } else { self.interval.wait(entropy) };
        let is_notified = !self.listening || now + wait <= self.notified_until;
        self.chore.set_earlier(now + if is_notified { wait } else { wait.min(BUSY_POLL) });
    }

    /// Returns the queues to report as missing: those that a poll did not find, and the one before did.
    fn newly_missing(&mut self, poll: &Poll, reply: &PollReply) -> Vec<QueueName> {
        let exists = |name: &QueueName| reply.queues.iter().any(|queue| queue.name == name.as_str());
        self.missing.retain(|name| !exists(name));
        poll.queues.iter().filter(|name| !exists(name) && self.missing.insert((*name).clone())).cloned().collect()
    }
}

impl Worker {
    /// Records that the queues have changed. They are polled within 20 ms, or after the pause that follows a failure.
    /// Late, repeated and wrong calls cost a poll at most.
    pub fn handle_change(&mut self, now: Instant) {
        self.look_for_cancels_soon(now);
        if !self.draining && !self.options.queues.is_empty() && self.polls.chore.failures() == 0 {
            self.polls.poll_by(now.max(self.polls.chore.sent_at() + CHANGE_PAUSE));
        }
    }

    /// Records that the worker now receives notifications, so that `most` becomes the maximum poll interval; or, if
    /// `None`, that it no longer does.
    pub fn set_listening(&mut self, most: Option<Duration>, now: Instant) {
        self.polls.listening = most.is_some();
        self.polls.interval.set_max(most.unwrap_or(self.options.poll_most));
        self.handle_change(now);
    }

    pub(super) fn is_listening(&self) -> bool {
        self.polls.listening
    }

    pub(super) fn begin_poll(&mut self, now: Instant) -> Option<Poll> {
        if !self.polls.chore.begin_if_due(now) {
            return None;
        }
        self.polls.latest = None;
        let idle = self.polls.listening && !self.has_open_line();
        let sleep = idle.then(|| self.polls.interval.max() + IDLE_SLACK);
        Some(Poll { queues: self.options.queues.clone(), sleep })
    }

    pub(super) fn handle_poll(&mut self, poll: Poll, reply: Reply, now: Instant, entropy: &mut dyn Entropy) {
        self.polls.chore.end(&reply);
        if self.draining {
            return;
        }
        match interpret(reply, |rows| poll.interpret(rows)) {
            Ok(reply) => self.apply_poll(&poll, reply, now, entropy),
            Err(trouble) => {
                self.polls.chore.retry(now, entropy);
                self.handle_trouble(trouble, now);
            }
        }
    }

    fn apply_poll(&mut self, poll: &Poll, reply: PollReply, now: Instant, entropy: &mut dyn Entropy) {
        for name in self.polls.newly_missing(poll, &reply) {
            self.events.failed(Trouble::Refused(Error::QueueNotFound(name.to_string())));
        }
        let none_left = reply.queues.is_empty();
        for queue in &reply.queues {
            queue.priorities.iter().for_each(|priority| self.claims.lines.activate(queue.id, *priority));
        }
        self.queues.replace(reply.queues);
        if none_left {
            self.shut_down(now);
            return;
        }
        self.release_paused(now);
        if let Some(sleep) = poll.sleep {
            self.polls.notified_until = self.polls.chore.sent_at() + sleep;
        }
        self.maintenance.learn(reply.next_due, reply.next_expiry, reply.next_tick, now, entropy);
        self.polls.schedule(self.has_open_line(), now, entropy);
    }
}
