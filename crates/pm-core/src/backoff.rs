//! The delays before retries.

use crate::Error;
use crate::time::{from_ms, whole_ms};
use std::time::Duration;

/// How often and how soon soft failures are retried.
///
/// After soft failure number n the job waits for `table[min(n, length)]`, counted from 1, plus a random part of
/// `jitter_percent` of that delay. For the first retry, and for one without a delay, the random part may be up to 2 s
/// even if the jitter is smaller, so that jobs that failed together are not retried together; a jitter of 0 % disables
/// that too. A job fails for good with soft failure number `max_retries` + 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    table: Vec<Duration>,
    max_retries: u32,
    jitter_percent: u8,
}

impl Backoff {
    /// The maximum number of delays in a table.
    pub const MAX_TABLE: usize = 64;

    /// Returns a backoff with these delays, this number of retries, and this jitter in percent.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an empty table or one of more than 64 delays, a delay over ten years, more than a million
    /// retries, or a jitter over 100 percent.
    pub fn new(table: Vec<Duration>, max_retries: u32, jitter_percent: u8) -> Result<Self, Error> {
        check(Some(&table), Some(max_retries), Some(jitter_percent))?;
        Ok(Backoff { table, max_retries, jitter_percent })
    }

    /// Returns a backoff with these values, each clamped to its valid range.
    pub(crate) fn nearest(mut table: Vec<Duration>, max_retries: u32, jitter_percent: u8) -> Self {
        table.truncate(Backoff::MAX_TABLE);
        table.iter_mut().for_each(|delay| *delay = (*delay).min(TEN_YEARS));
        if table.is_empty() {
            table.push(Duration::ZERO);
        }
        Backoff { table, max_retries: max_retries.min(MAX_RETRIES), jitter_percent: jitter_percent.min(100) }
    }

    /// Returns a table of `length` delays: `first`, then `base`, then each twice the one before.
    ///
    /// The default table is `exponential(0, 25 min, 8)`: 0, 25, 50, 100, 200, 400, 800, 1600 min, about 53 h.
    pub fn exponential(first: Duration, base: Duration, length: usize) -> Vec<Duration> {
        let doubled = std::iter::successors(Some(base), |delay| Some(delay.saturating_mul(2)));
        std::iter::once(first).chain(doubled).take(length).collect()
    }

    /// Returns the delay before the retry after soft failure number `failures`; `None` if no retry is left.
    ///
    /// The low 20 bits of `random` choose the jitter.
    pub fn delay(&self, failures: u32, random: u64) -> Option<Duration> {
        if failures > self.max_retries {
            return None;
        }
        let index = (failures.max(1) as usize).min(self.table.len()) - 1;
        let delay_ms = i128::from(whole_ms(self.table[index]));
        let mut spread_ms = delay_ms * i128::from(self.jitter_percent) / 100;
        if self.jitter_percent > 0 && (failures <= 1 || delay_ms == 0) {
            spread_ms = spread_ms.max(MIN_SPREAD_MS);
        }
        // The 20 random bits are a factor in [0, 1). The SQL of the reaper uses the same formula.
        let more_ms = (spread_ms * i128::from(random & 0xF_FFFF)) >> 20;
        Some(from_ms(i64::try_from(delay_ms + more_ms).unwrap_or(i64::MAX)))
    }

    /// Returns the table of delays.
    pub fn table(&self) -> &[Duration] {
        &self.table
    }

    /// Returns the number of soft failures that are retried.
    pub fn max_retries(&self) -> u32 {
        self.max_retries
    }

    /// Returns the jitter in percent.
    pub fn jitter_percent(&self) -> u8 {
        self.jitter_percent
    }
}

impl Default for Backoff {
    fn default() -> Self {
        let table = Backoff::exponential(Duration::ZERO, Duration::from_secs(25 * 60), 8);
        Backoff { table, max_retries: 8, jitter_percent: 10 }
    }
}

/// The minimum of the maximum jitter of a first retry, and of one without a delay, unless the jitter is 0 %.
const MIN_SPREAD_MS: i128 = 2_000;
const MAX_RETRIES: u32 = 1_000_000;
/// The longest delay of a job.
pub(crate) const TEN_YEARS: Duration = Duration::from_secs(3_650 * 86_400);

/// How often and how soon soft failures are retried, as far as a job or a schedule sets it itself. What is `None`
/// follows the queue's [`Backoff`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetryPolicy {
    /// How many soft failures are retried.
    pub max_retries: Option<u32>,
    /// The delays before retries, 1 to 64 of them; the last one repeats.
    pub backoff: Option<Vec<Duration>>,
    /// The [jitter](Backoff) of the delays, 0 to 100 percent; 0 makes them exact.
    pub jitter_percent: Option<u8>,
}

impl RetryPolicy {
    /// Checks that the values are in their ranges.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for the first one that is not; see [`Backoff::new`].
    pub fn check(&self) -> Result<(), Error> {
        check(self.backoff.as_deref(), self.max_retries, self.jitter_percent)
    }

    /// Returns the backoff of a job with this policy on a queue with the backoff `queue`. Values out of range, which pm
    /// never writes, are ignored.
    pub fn on(&self, queue: &Backoff) -> Backoff {
        let table = self.backoff.clone().unwrap_or_else(|| queue.table.clone());
        let max_retries = self.max_retries.unwrap_or(queue.max_retries);
        let jitter = self.jitter_percent.unwrap_or(queue.jitter_percent);
        Backoff::new(table, max_retries, jitter).unwrap_or_else(|_| queue.clone())
    }
}

fn check(table: Option<&[Duration]>, max_retries: Option<u32>, jitter_percent: Option<u8>) -> Result<(), Error> {
    if let Some(table) = table {
        if table.is_empty() || table.len() > Backoff::MAX_TABLE {
            return Err(Error::invalid(format!("a backoff table of {} delays", table.len()), "must have 1 to 64"));
        }
        if let Some(delay) = table.iter().find(|delay| **delay > TEN_YEARS) {
            return Err(Error::invalid(format!("the backoff delay {delay:?}"), "is longer than ten years"));
        }
    }
    match (max_retries, jitter_percent) {
        (Some(retries), _) if retries > MAX_RETRIES => {
            Err(Error::invalid(format!("{retries} retries"), "are more than a million"))
        }
        (_, Some(jitter)) if jitter > 100 => Err(Error::invalid(format!("a jitter of {jitter}%"), "is over 100%")),
        _ => Ok(()),
    }
}

impl From<Backoff> for RetryPolicy {
    fn from(Backoff { table, max_retries, jitter_percent }: Backoff) -> Self {
        RetryPolicy { max_retries: Some(max_retries), backoff: Some(table), jitter_percent: Some(jitter_percent) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_table_is_as_documented() {
        let backoff = Backoff::default();
        let minutes: Vec<_> = (1..=9).map(|n| backoff.delay(n, 0).map(|delay| delay.as_secs() / 60)).collect();
        let expected = [0, 25, 50, 100, 200, 400, 800, 1600].map(Some);
        assert_eq!(minutes[..8], expected, "the delays are lower bounds");
        assert_eq!(minutes[8], None, "the 9th failure is final");
        let total: u64 = expected.iter().flatten().sum();
        assert_eq!(total, 53 * 60 - 5, "about 53 h: 52 h 55 min");
    }

    #[test]
    fn retries_of_jobs_that_failed_together_are_spread() {
        let backoff = Backoff::default();
        for (failures, spread) in [(1, 2_000), (2, 150_000), (8, 9_600_000)] {
            let base = Backoff { jitter_percent: 0, ..backoff.clone() }.delay(failures, 0).unwrap();
            let more = |part: u64| (backoff.delay(failures, part).unwrap() - base).as_millis();
            assert_eq!((more(0), more(0x8_0000)), (0, spread / 2), "retry {failures}");
            assert_eq!(more(0xF_FFFF), spread - spread.div_ceil(1 << 20), "retry {failures}");
        }
        let at_once = Backoff::new(vec![Duration::ZERO], 5, 1).unwrap();
        assert_eq!(at_once.delay(5, 0x8_0000), Some(Duration::from_secs(1)), "a later retry without a delay as well");
        let exact = Backoff::new(vec![Duration::ZERO], 5, 0).unwrap();
        assert_eq!(exact.delay(1, 0x8_0000), Some(Duration::ZERO));
    }

    #[test]
    fn values_out_of_range_are_refused() {
        assert!(Backoff::new(vec![], 1, 0).is_err());
        assert!(Backoff::new(vec![Duration::ZERO; 65], 1, 0).is_err());
        assert!(Backoff::new(vec![Duration::MAX], 1, 0).is_err());
        assert!(Backoff::new(vec![Duration::ZERO], 1_000_001, 0).is_err());
        assert!(Backoff::new(vec![Duration::ZERO], 1, 101).is_err());
    }

    /// Delays of whole milliseconds, up to the maximum of ten years.
    fn any_backoff() -> impl Strategy<Value = Backoff> {
        let delays = prop::collection::vec((0..=TEN_YEARS.as_millis() as u64).prop_map(Duration::from_millis), 1..=64);
        (delays, 0u32..80, 0u8..=100).prop_map(|(table, retries, jitter)| Backoff::new(table, retries, jitter).unwrap())
    }

    proptest! {
        #[test]
        fn a_short_table_repeats_its_last_delay(seconds in 1u64..1000, retries in 1u32..100, failures in 1u32..200) {
            let backoff = Backoff::new(vec![Duration::from_secs(seconds)], retries, 0).unwrap();
            let expected = (failures <= retries).then(|| Duration::from_secs(seconds));
            prop_assert_eq!(backoff.delay(failures, 7), expected);
        }

        #[test]
        fn jitter_stays_within_its_bounds_at_every_failure(
            backoff in any_backoff(),
            failures in 1u32..100,
            random: u64,
        ) {
            let plain = Backoff { jitter_percent: 0, ..backoff.clone() };
            let (delay, base) = (backoff.delay(failures, random), plain.delay(failures, random));
            prop_assert_eq!(delay.is_some(), failures <= backoff.max_retries);
            if let (Some(delay), Some(base)) = (delay, base) {
                let more = delay.checked_sub(base).expect("jitter never shortens a delay");
                let share = base * u32::from(backoff.jitter_percent) / 100;
                let is_early = backoff.jitter_percent > 0 && (failures <= 1 || base.is_zero());
                let min_spread = if is_early { Duration::from_secs(2) } else { Duration::ZERO };
                prop_assert!(more <= share.max(min_spread), "{delay:?} for {base:?}");
            }
        }

        #[test]
        fn delays_grow_with_failures_and_stay_at_the_last_one(backoff in any_backoff(), random: u64) {
            let mut table = backoff.table.clone();
            table.sort();
            let last = *table.last().unwrap();
            let backoff = Backoff { table, max_retries: u32::MAX, jitter_percent: 0 };
            let delays: Vec<_> = (0..70).chain([u32::MAX]).map(|n| backoff.delay(n, random).unwrap()).collect();
            prop_assert!(delays.is_sorted(), "{delays:?}");
            prop_assert_eq!(delays[backoff.table.len()..].iter().max(), Some(&last));
        }

        #[test]
        fn exponential_tables_double_and_saturate(first: u64, base: u64, length in 1usize..=64) {
            let table = Backoff::exponential(Duration::from_millis(first), Duration::from_millis(base), length);
            prop_assert_eq!(table[0], Duration::from_millis(first));
            for pair in table[1..].windows(2) {
                prop_assert_eq!(pair[1], pair[0].saturating_mul(2));
            }
            prop_assert_eq!(table.len(), length);
            prop_assert!(table[1..].is_sorted());
        }
    }
}
