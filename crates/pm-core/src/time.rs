//! Points in time on two clocks: two types, with no conversion between them.

use std::time::Duration;

/// A point in time on the program's monotonic clock.
///
/// The façade measures it from an arbitrary start, on a clock that continues while the machine is suspended. Timers and
/// the trust in leases are computed with it; it is never sent to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(Duration);

impl Instant {
    /// Returns the instant `since_start` after the start of the clock.
    pub const fn from_start(since_start: Duration) -> Self {
        Instant(since_start)
    }

    /// Returns the time from `earlier` to this instant, or zero if `earlier` is later.
    pub fn since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(duration))
    }
}

impl std::ops::Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_sub(duration))
    }
}

/// A point in time on the database's clock, in microseconds since 1970-01-01 00:00 UTC.
///
/// Due times and the ends of leases are stored as timestamps. Only the database's clock decides about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// Microseconds from 1970-01-01 to 2000-01-01, the epoch of Postgres.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

impl Timestamp {
    /// Later than every other timestamp; Postgres calls it `infinity`.
    pub const INFINITY: Timestamp = Timestamp(i64::MAX);
    /// Earlier than every other timestamp; Postgres calls it `-infinity`.
    pub const NEG_INFINITY: Timestamp = Timestamp(i64::MIN);

    /// Returns the timestamp `us` microseconds after 1970-01-01 00:00 UTC.
    pub const fn from_unix_us(us: i64) -> Self {
        Timestamp(us)
    }

    /// Returns the microseconds since 1970-01-01 00:00 UTC.
    pub const fn unix_us(self) -> i64 {
        self.0
    }

    pub(crate) fn to_postgres(self) -> i64 {
        match self {
            Timestamp::INFINITY | Timestamp::NEG_INFINITY => self.0,
            Timestamp(us) => us.saturating_sub(POSTGRES_EPOCH_US).max(i64::MIN + 1),
        }
    }

    pub(crate) fn from_postgres(us: i64) -> Self {
        match us {
            i64::MAX | i64::MIN => Timestamp(us),
            us => Timestamp(us.saturating_add(POSTGRES_EPOCH_US).min(i64::MAX - 1)),
        }
    }
}

/// The maximum duration that is sent. Added to or subtracted from the present, it gives a valid time in Postgres.
pub(crate) const THOUSAND_YEARS: Duration = Duration::from_secs(1_000 * 366 * 86_400);

/// Returns `duration` in whole milliseconds, at most a thousand years.
pub(crate) fn whole_ms(duration: Duration) -> i64 {
    i64::try_from(duration.min(THOUSAND_YEARS).as_millis()).unwrap_or(i64::MAX)
}

/// Returns a duration of `ms` milliseconds, or zero if `ms` is negative.
pub(crate) fn from_ms(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn timestamps_round_trip(us in (i64::MIN / 2)..(i64::MAX / 2)) {
            let timestamp = Timestamp::from_unix_us(us);
            prop_assert_eq!(Timestamp::from_postgres(timestamp.to_postgres()), timestamp);
        }
    }

    #[test]
    fn infinities_round_trip() {
        for timestamp in [Timestamp::INFINITY, Timestamp::NEG_INFINITY] {
            assert_eq!(Timestamp::from_postgres(timestamp.to_postgres()), timestamp);
        }
    }
}
