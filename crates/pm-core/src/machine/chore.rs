//! One kind of request: its timer, what is in flight, and its pause after a failure.

use super::timer::Timer;
use super::{Entropy, Reply, retry_delay};
use crate::Instant;

/// One kind of request, of which at most one is in flight.
#[derive(Debug)]
pub(super) struct Chore {
    timer: Timer,
    /// When to send the next one; `None` until something asks for it.
    at: Option<Instant>,
    in_flight: bool,
    /// When the last one was sent.
    sent_at: Instant,
    /// How many in a row have failed.
    failures: u32,
}

impl Chore {
    /// Returns a kind of request whose first one is sent at `at`.
    pub(super) fn new(timer: Timer, at: Option<Instant>) -> Self {
        Chore { timer, at, in_flight: false, sent_at: Instant::default(), failures: 0 }
    }

    /// If a request is due and none is in flight, records that one is sent. Returns whether that is so.
    pub(super) fn begin_if_due(&mut self, now: Instant) -> bool {
        let begins = self.is_due(now) && self.begin(now);
        if begins {
            self.at = None;
        }
        begins
    }

    /// Unless a request is in flight, records that one is sent for another reason than its time, which stays. Returns
    /// whether that is so.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let begins = !self.in_flight;
        if begins {
            (self.in_flight, self.sent_at) = (true, now);
        }
        begins
    }

    /// Records a reply or a failure.
    pub(super) fn end(&mut self, reply: &Reply) {
        self.in_flight = false;
        self.failures = if reply.is_ok() { 0 } else { self.failures.saturating_add(1) };
    }

    /// Sends the next request after a pause that grows with the failures in a row; returns when.
    pub(super) fn retry(&mut self, now: Instant, entropy: &mut dyn Entropy) -> Instant {
        let at = now + retry_delay(self.failures, entropy);
        self.at = Some(at);
        at
    }

    /// Sends the next request at `at`, or not until something asks for it.
    pub(super) fn set(&mut self, at: Option<Instant>) {
        self.at = at;
    }

    /// Sends the next request at `at`, unless it is due earlier.
    pub(super) fn set_earlier(&mut self, at: Instant) {
        self.at = Some(self.at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Returns when the next request is due, also while one is in flight.
    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Returns whether the next request is due, also while one is in flight.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    /// Returns when the last request was sent.
    pub(super) fn sent_at(&self) -> Instant {
        self.sent_at
    }

    /// Returns whether a request is in flight.
    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight
    }

    /// Returns how many requests in a row have failed.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns when the next request is sent, and of which kind; `None` while one is in flight.
    pub(super) fn next(&self) -> Option<(Instant, Timer)> {
        self.at.filter(|_| !self.in_flight).map(|at| (at, self.timer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rows;
    use std::time::Duration;

    #[test]
    fn a_request_is_sent_at_the_earliest_time_it_was_set_to_and_not_while_one_is_in_flight() {
        let at = |ms| Instant::from_start(Duration::from_millis(ms));
        let mut chore = Chore::new(Timer::Reap, None);
        assert!(!chore.begin_if_due(at(1_000)));
        chore.set_earlier(at(50));
        chore.set_earlier(at(70));
        assert_eq!(chore.next(), Some((at(50), Timer::Reap)));
        assert!(!chore.begin_if_due(at(49)) && chore.begin_if_due(at(50)));
        chore.set_earlier(at(60));
        assert_eq!((chore.next(), chore.begin(at(60))), (None, false));
        chore.end(&Ok(Rows::builder(1).finish()));
        assert_eq!(chore.next(), Some((at(60), Timer::Reap)));
        chore.set(None);
        assert_eq!(chore.next(), None);
    }
}
