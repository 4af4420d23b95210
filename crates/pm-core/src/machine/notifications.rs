//! Notifications to other processes, each sent at most once in 5 ms.

use crate::Instant;
use crate::op::{Notification, Notify};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The minimum interval between two equal notifications. Those added in the meantime are sent as one at its end.
const MIN_INTERVAL: Duration = Duration::from_millis(5);
/// The pause before a failed notification is sent again.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Notifications are given up after this many failures in a row: their listeners poll.
const MAX_FAILURES: u32 = 5;

/// Notifications waiting to be sent.
#[derive(Debug)]
pub(super) struct Notifications {
    channel: String,
    waiting: BTreeSet<Notification>,
    /// When a notification may be sent again.
    not_before: BTreeMap<Notification, Instant>,
    in_flight: bool,
    failures: u32,
}

impl Notifications {
    pub(super) fn new(channel: String) -> Self {
        Notifications { channel, waiting: BTreeSet::new(), not_before: BTreeMap::new(), in_flight: false, failures: 0 }
    }

    pub(super) fn add(&mut self, notification: Notification) {
        self.waiting.insert(notification);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && !self.in_flight
    }

    /// Returns when the next notification may be sent; `None` while one is in flight.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let not_before = |notification| self.not_before.get(notification).copied().unwrap_or_default();
        self.waiting.iter().map(not_before).min().filter(|_| !self.in_flight)
    }

    /// Returns all notifications that may be sent now, in one request.
    pub(super) fn poll_notify(&mut self, now: Instant) -> Option<Notify> {
        if self.next_at().is_none_or(|at| at > now) {
            return None;
        }
        self.not_before.retain(|_, at| *at > now);
        let (later, notifications): (BTreeSet<_>, BTreeSet<_>) =
            self.waiting.iter().partition(|notification| self.not_before.contains_key(notification));
        self.waiting = later;
        self.not_before.extend(notifications.iter().map(|notification| (*notification, now + MIN_INTERVAL)));
        self.in_flight = true;
        Some(Notify { channel: self.channel.clone(), notifications: notifications.into_iter().collect() })
    }

    pub(super) fn handle_sent(&mut self) {
        self.in_flight = false;
        self.failures = 0;
    }

    /// Records that a request failed: its notifications are sent again a few times.
    pub(super) fn handle_failure(&mut self, notify: Notify, now: Instant) {
        self.in_flight = false;
        self.failures += 1;
        if self.failures < MAX_FAILURES {
            self.not_before
                .extend(notify.notifications.iter().map(|notification| (*notification, now + PAUSE_AFTER_FAILURE)));
            self.waiting.extend(notify.notifications);
        } else {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTIFICATION: Notification = Notification { queue_id: 1, priority: Some(0) };
    const OTHER: Notification = Notification { queue_id: 2, priority: None };

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    fn sent(notifications: &mut Notifications, now: Instant) -> Vec<Notification> {
        notifications.poll_notify(now).map(|notify| notify.notifications).unwrap_or_default()
    }

    #[test]
    fn a_burst_is_notified_at_its_start_and_at_its_end() {
        let mut notifications = Notifications::new("pm_pm".to_owned());
        notifications.add(NOTIFICATION);
        assert_eq!(sent(&mut notifications, at(10)), [NOTIFICATION]);
        notifications.add(NOTIFICATION);
        notifications.add(OTHER);
        assert_eq!(notifications.next_at(), None, "one request is in flight at a time");
        notifications.handle_sent();
        assert_eq!(sent(&mut notifications, at(11)), [OTHER]);
        notifications.handle_sent();
        assert_eq!(notifications.next_at(), Some(at(15)));
        assert_eq!(sent(&mut notifications, at(15)), [NOTIFICATION]);
        notifications.handle_sent();
        assert!(notifications.is_empty());
    }

    #[test]
    fn a_failed_notification_is_sent_again_a_few_times() {
        let mut notifications = Notifications::new("pm_pm".to_owned());
        notifications.add(NOTIFICATION);
        let mut tries = 0;
        while let Some(at) = notifications.next_at() {
            let notify = notifications.poll_notify(at).unwrap();
            notifications.handle_failure(notify, at);
            tries += 1;
        }
        assert_eq!(tries, MAX_FAILURES);
    }
}
