//! How many jobs to claim ahead.

use crate::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// Counts the jobs that handlers took in the last second, in steps of 100 ms.
#[derive(Debug, Default)]
pub(super) struct TakenMeter {
    steps: VecDeque<(Instant, usize)>,
    sum: usize,
}

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
