//! Notices to other processes, at most one of a kind in 5 ms.

use crate::Instant;
use crate::op::{Notice, Notify};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A line is not spoken of more often than this; what comes meanwhile is told at the end of it.
const QUIET: Duration = Duration::from_millis(5);
/// A notification that failed is tried again after this.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// A notice that failed so often is given up: its listeners poll.
const MOST_FAILURES: u32 = 5;

/// Notices waiting to be sent.
#[derive(Debug)]
pub(super) struct Notices {
    channel: String,
    waiting: BTreeSet<Notice>,
    /// From when a notice may be sent again.
    quiet_until: BTreeMap<Notice, Instant>,
    in_flight: bool,
    failures: u32,
}

impl Notices {
    pub(super) fn new(channel: String) -> Self {
        Notices { channel, waiting: BTreeSet::new(), quiet_until: BTreeMap::new(), in_flight: false, failures: 0 }
    }

    pub(super) fn add(&mut self, notice: Notice) {
        self.waiting.insert(notice);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && !self.in_flight
    }

    /// Returns when the next notice may be sent; none while one is in flight.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let quiet_until = |notice| self.quiet_until.get(notice).copied().unwrap_or_default();
        self.waiting.iter().map(quiet_until).min().filter(|_| !self.in_flight)
    }

    /// Returns the notices that may be sent now, together.
    pub(super) fn poll_notify(&mut self, now: Instant) -> Option<Notify> {
        if self.next_at().is_none_or(|at| at > now) {
            return None;
        }
        self.quiet_until.retain(|_, until| *until > now);
        let (later, notices): (BTreeSet<_>, BTreeSet<_>) =
            self.waiting.iter().partition(|notice| self.quiet_until.contains_key(notice));
        self.waiting = later;
        self.quiet_until.extend(notices.iter().map(|notice| (*notice, now + QUIET)));
        self.in_flight = true;
        Some(Notify { channel: self.channel.clone(), notices: notices.into_iter().collect() })
    }

    pub(super) fn handle_sent(&mut self) {
        self.in_flight = false;
        self.failures = 0;
    }

    /// Takes note that a notification failed: it is tried again a few times.
    pub(super) fn handle_failure(&mut self, notify: Notify, now: Instant) {
        self.in_flight = false;
        self.failures += 1;
        if self.failures < MOST_FAILURES {
            self.quiet_until.extend(notify.notices.iter().map(|notice| (*notice, now + PAUSE_AFTER_FAILURE)));
            self.waiting.extend(notify.notices);
        } else {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTICE: Notice = Notice { queue_id: 1, priority: Some(0) };
    const OTHER: Notice = Notice { queue_id: 2, priority: None };

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    fn sent(notices: &mut Notices, now: Instant) -> Vec<Notice> {
        notices.poll_notify(now).map(|notify| notify.notices).unwrap_or_default()
    }

    #[test]
    fn a_burst_is_told_at_its_start_and_at_its_end() {
        let mut notices = Notices::new("pm_pm".to_owned());
        notices.add(NOTICE);
        assert_eq!(sent(&mut notices, at(10)), [NOTICE]);
        notices.add(NOTICE);
        notices.add(OTHER);
        assert_eq!(notices.next_at(), None, "one is in flight at a time");
        notices.handle_sent();
        assert_eq!(sent(&mut notices, at(11)), [OTHER]);
        notices.handle_sent();
        assert_eq!(notices.next_at(), Some(at(15)));
        assert_eq!(sent(&mut notices, at(15)), [NOTICE]);
        notices.handle_sent();
        assert!(notices.is_empty());
    }

    #[test]
    fn a_failed_notice_is_tried_a_few_times() {
        let mut notices = Notices::new("pm_pm".to_owned());
        notices.add(NOTICE);
        let mut tries = 0;
        while let Some(at) = notices.next_at() {
            let notify = notices.poll_notify(at).unwrap();
            notices.handle_failure(notify, at);
            tries += 1;
        }
        assert_eq!(tries, MOST_FAILURES);
    }
}
