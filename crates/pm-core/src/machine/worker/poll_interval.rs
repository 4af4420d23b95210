//! How often to poll.

use crate::machine::{Entropy, scatter};
use std::time::Duration;

/// The maximum of the interval, whatever is configured: the database adds it to the current time.
const MAX_INTERVAL: Duration = Duration::from_secs(86_400);
/// The minimum of the interval, whatever is configured: queues are not polled without pause.
const MIN_INTERVAL: Duration = Duration::from_millis(1);
/// The time between two polls while there are no jobs. It doubles from the minimum to the maximum, and is reset to the
/// minimum by new jobs.
#[derive(Debug)]
pub(super) struct PollInterval {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl PollInterval {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        let min = min.clamp(MIN_INTERVAL, MAX_INTERVAL);
        PollInterval { min, max: max.clamp(min, MAX_INTERVAL), next: min }
    }

    /// Resets the interval to its minimum.
    pub(super) fn reset_to_min(&mut self) {
        self.next = self.min;
    }

    /// Changes the maximum, when the worker begins or ceases to receive notifications.
    pub(super) fn set_max(&mut self, max: Duration) {
        self.max = max.clamp(self.min, MAX_INTERVAL);
        self.next = self.next.min(self.max);
    }

    /// Returns the maximum.
    pub(super) fn max(&self) -> Duration {
        self.max
    }

    /// Returns the time to wait now, and doubles the interval. Up to a fifth is subtracted at random, so that workers
    /// spread out.
    pub(super) fn wait(&mut self, entropy: &mut dyn Entropy) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(self.max);
        wait - scatter(wait / 5, entropy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Zero;

    impl Entropy for Zero {
        fn next_u64(&mut self) -> u64 {
            0
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_interval_of_zero_still_pauses() {
        let mut poll_interval = PollInterval::new(Duration::ZERO, Duration::ZERO);
        assert_eq!((poll_interval.wait(&mut Zero), poll_interval.max()), (ms(1), ms(1)));
        let mut poll_interval = PollInterval::new(Duration::MAX, Duration::MAX);
        assert_eq!(poll_interval.wait(&mut Zero), MAX_INTERVAL);
    }

    #[test]
    fn the_interval_doubles_to_its_maximum_and_is_reset() {
        let mut poll_interval = PollInterval::new(ms(100), ms(350));
        let waits: Vec<_> = (0..4).map(|_| poll_interval.wait(&mut Zero)).collect();
        assert_eq!(waits, [ms(100), ms(200), ms(350), ms(350)]);
        poll_interval.reset_to_min();
        assert_eq!(poll_interval.wait(&mut Zero), ms(100));
    }
}
