//! How far to prefetch, and how often to look.

use crate::Instant;
use crate::machine::{Entropy, scatter};
use std::collections::VecDeque;
use std::time::Duration;

/// Counts what the handlers took in the last second, in steps of 100 ms.
#[derive(Debug, Default)]
pub(super) struct TakenMeter {
    steps: VecDeque<(Instant, usize)>,
    sum: usize,
}

/// The longest wait there can be, whatever is asked for: the database reckons with it.
const LONGEST: Duration = Duration::from_secs(86_400);
/// The shortest wait there can be: no one asks a dry queue without pause.
const SHORTEST: Duration = Duration::from_millis(1);
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

/// How many jobs are claimed for the handlers of a link so slow that what they took in the last second says little about
/// what they could take: four times what the last claim brought, while they take everything and wait for more.
#[derive(Debug, Default)]
pub(super) struct SlowStart(usize);

/// A claim that takes longer is slow.
const SLOW_CLAIM: Duration = Duration::from_secs(1);
const GROWTH: usize = 4;

impl SlowStart {
    /// Returns how many jobs are to be there for handlers; zero on a link that is not slow.
    pub(super) fn wanted(&self) -> usize {
        self.0
    }

    /// Records that a claim of `limit` jobs was answered after `took`; `starving` when it brought all of them and a
    /// handler had waited for nothing but this reply. The next one may be larger if it is in time for leases of
    /// `shortest` even when it takes so many times as long: bytes may be what takes time.
    pub(super) fn answered(&mut self, limit: usize, took: Duration, starving: bool, shortest: Duration) {
        if took <= SLOW_CLAIM {
            self.0 = 0;
        } else if starving && took < shortest / (GROWTH as u32 + 1) {
            self.0 = self.0.max(limit.saturating_mul(GROWTH));
        }
    }

    /// Starts from the beginning: a claim came too late, or handlers did not take what was claimed for them.
    pub(super) fn reset(&mut self) {
        self.0 = 0;
    }
}

/// The time between two looks at a dry queue: doubles from the least to the most, and snaps back when work appears.
#[derive(Debug)]
pub(super) struct PollInterval {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl PollInterval {
    pub(super) fn new(least: Duration, most: Duration) -> Self {
        let least = least.clamp(SHORTEST, LONGEST);
        PollInterval { least, most: most.clamp(least, LONGEST), next: least }
    }

    pub(super) fn snap_back(&mut self) {
        self.next = self.least;
    }

    /// Changes the most, when a listener comes or goes.
    pub(super) fn set_most(&mut self, most: Duration) {
        self.most = most.clamp(self.least, LONGEST);
        self.next = self.next.min(self.most);
    }

    /// Returns the longest wait there can be.
    pub(super) fn most(&self) -> Duration {
        self.most
    }

    /// Returns the time to wait now, with up to a fifth taken off at random so that workers spread out.
    pub(super) fn wait(&mut self, entropy: &mut dyn Entropy) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(self.most);
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
    fn claims_grow_on_a_slow_link_while_handlers_starve_and_leases_bear_it() {
        let minute = ms(60_000);
        let mut start = SlowStart::default();
        start.answered(1, ms(6_000), true, minute);
        assert_eq!(start.wanted(), 4);
        start.answered(4, ms(6_000), false, minute);
        assert_eq!(start.wanted(), 4, "nobody waits for more");
        start.answered(4, ms(6_000), true, minute);
        assert_eq!(start.wanted(), 16);
        start.answered(16, ms(13_000), true, minute);
        assert_eq!(start.wanted(), 16, "four times as much might take longer than the lease");
        start.answered(16, ms(900), true, minute);
        assert_eq!(start.wanted(), 0, "what was taken in a second is enough again");
    }

    #[test]
    fn a_pace_without_pauses_still_makes_one() {
        let mut poll_interval = PollInterval::new(Duration::ZERO, Duration::ZERO);
        assert_eq!((poll_interval.wait(&mut Zero), poll_interval.most()), (ms(1), ms(1)));
        let mut poll_interval = PollInterval::new(Duration::MAX, Duration::MAX);
        assert_eq!(poll_interval.wait(&mut Zero), LONGEST);
    }

    #[test]
    fn the_pace_doubles_to_its_bound_and_snaps_back() {
        let mut poll_interval = PollInterval::new(ms(100), ms(350));
        let waits: Vec<_> = (0..4).map(|_| poll_interval.wait(&mut Zero)).collect();
        assert_eq!(waits, [ms(100), ms(200), ms(350), ms(350)]);
        poll_interval.snap_back();
        assert_eq!(poll_interval.wait(&mut Zero), ms(100));
    }
}
