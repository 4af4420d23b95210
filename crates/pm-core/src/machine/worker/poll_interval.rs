//! How much to prefetch, and how often to poll.

use crate::Instant;
use crate::machine::{Entropy, scatter};
use std::collections::VecDeque;
use std::time::Duration;

/// Counts the jobs that handlers took in the last second, in steps of 100 ms.
#[derive(Debug, Default)]
pub(super) struct TakenMeter {
    steps: VecDeque<(Instant, usize)>,
    sum: usize,
}

/// The maximum of the interval, whatever is configured: the database adds it to the current time.
const MAX_INTERVAL: Duration = Duration::from_secs(86_400);
/// The minimum of the interval, whatever is configured: queues are not polled without pause.
const MIN_INTERVAL: Duration = Duration::from_millis(1);
const STEP: Duration = Duration::from_millis(100);
const WINDOW: Duration = Duration::from_secs(1);

impl TakenMeter {
    pub(super) fn record(&mut self, now: Instant) {
        match self.steps.back_mut() {
            Some((start, count)) if now.since(*start) < STEP => *count += 1,
            _ => self.steps.push_back((now, 1)),
        }
        self.sum += 1;
        self.forget(now);
    }

    /// Returns how many jobs were taken in the second before `now`.
    pub(super) fn last_second(&mut self, now: Instant) -> usize {
        self.forget(now);
        self.sum
    }

    fn forget(&mut self, now: Instant) {
        while let Some((start, count)) = self.steps.front()
            && now.since(*start) > WINDOW
        {
            self.sum -= count;
            self.steps.pop_front();
        }
    }
}

/// How many jobs are claimed ahead on a link so slow that what handlers took in the last second does not show what they
/// could take: four times what the last claim returned, while they take everything and wait for more.
#[derive(Debug, Default)]
pub(super) struct SlowStart(usize);

/// A claim that takes longer than this is slow.
const SLOW_CLAIM: Duration = Duration::from_secs(1);
const GROWTH: usize = 4;

impl SlowStart {
    /// Returns how many jobs should be available to handlers; zero on a link that is not slow.
    pub(super) fn wanted(&self) -> usize {
        self.0
    }

    /// Records that a claim of `limit` jobs took `took`. `starving` is whether it returned all of them while a handler
    /// waited and no other job was available. The next claim may be four times as large, if it would be in time for
    /// leases of length `shortest` even if it took four times as long, as it may if the transfer of payloads takes the
    /// time.
    pub(super) fn record_claim(&mut self, limit: usize, took: Duration, starving: bool, shortest: Duration) {
        if took <= SLOW_CLAIM {
            self.0 = 0;
        } else if starving && took < shortest / (GROWTH as u32 + 1) {
            self.0 = self.0.max(limit.saturating_mul(GROWTH));
        }
    }

    /// Starts again, because a claim came too late, or handlers did not take the jobs that were claimed for them.
    pub(super) fn reset(&mut self) {
        self.0 = 0;
    }
}

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
    fn the_meter_forgets_after_a_second() {
        let mut meter = TakenMeter::default();
        for n in 0..10 {
            meter.record(Instant::from_start(ms(n * 50)));
        }
        assert_eq!(meter.last_second(Instant::from_start(ms(900))), 10);
        assert_eq!(meter.last_second(Instant::from_start(ms(1_250))), 4);
        assert_eq!(meter.last_second(Instant::from_start(ms(9_000))), 0);
    }

    #[test]
    fn claims_grow_on_a_slow_link_while_handlers_starve_and_leases_are_long_enough() {
        let minute = ms(60_000);
        let mut start = SlowStart::default();
        start.record_claim(1, ms(6_000), true, minute);
        assert_eq!(start.wanted(), 4);
        start.record_claim(4, ms(6_000), false, minute);
        assert_eq!(start.wanted(), 4, "no handler waits for more");
        start.record_claim(4, ms(6_000), true, minute);
        assert_eq!(start.wanted(), 16);
        start.record_claim(16, ms(13_000), true, minute);
        assert_eq!(start.wanted(), 16, "four times as much might take longer than the lease");
        start.record_claim(16, ms(900), true, minute);
        assert_eq!(start.wanted(), 0, "on a fast link the number taken in a second suffices");
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
