//! Timestamps from and to the standard library's times.

#![expect(clippy::disallowed_types, reason = "it converts times and reads no clock")]

use crate::Timestamp;
use std::time::{Duration, SystemTime};

impl Timestamp {
    /// Returns the time as one of the standard library, which `chrono`, `jiff` and `time` convert to theirs: `None` for
    /// the infinities, and for times that the platform cannot represent.
    ///
    /// ```
    /// # use pm_core::Timestamp;
    /// # use std::time::{Duration, SystemTime};
    /// let at = Timestamp::from_unix_us(1_500_000);
    /// assert_eq!(at.to_system_time(), Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500)));
    /// ```
    pub fn to_system_time(self) -> Option<SystemTime> {
        let since_epoch = Duration::from_micros(self.unix_us().unsigned_abs());
        match self {
            Timestamp::INFINITY | Timestamp::NEG_INFINITY => None,
            _ if self.unix_us() >= 0 => SystemTime::UNIX_EPOCH.checked_add(since_epoch),
            _ => SystemTime::UNIX_EPOCH.checked_sub(since_epoch),
        }
    }
}

/// Rounds down to a whole microsecond. Times beyond what a timestamp can hold become its earliest or latest.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let us = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Timestamp::from_unix_us(us(after).min(i64::MAX - 1)),
            // Rounding down is away from zero here.
            Err(before) => {
                Timestamp::from_unix_us((-us(before.duration() + Duration::from_nanos(999))).max(i64::MIN + 1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn system_times_round_trip(us in (i64::MIN / 2)..(i64::MAX / 2)) {
            let timestamp = Timestamp::from_unix_us(us);
            prop_assert_eq!(timestamp.to_system_time().map(Timestamp::from), Some(timestamp));
        }
    }

    #[test]
    fn system_times_are_rounded_down_and_clamped() {
        let nanosecond = Duration::from_nanos(1);
        assert_eq!(Timestamp::from(SystemTime::UNIX_EPOCH + nanosecond), Timestamp::from_unix_us(0));
        assert_eq!(Timestamp::from(SystemTime::UNIX_EPOCH - nanosecond), Timestamp::from_unix_us(-1));
        let far = Duration::from_secs(1 << 60);
        let [late, early] = [SystemTime::UNIX_EPOCH.checked_add(far), SystemTime::UNIX_EPOCH.checked_sub(far)];
        assert_eq!(late.map(Timestamp::from), Some(Timestamp::from_unix_us(i64::MAX - 1)));
        assert_eq!(early.map(Timestamp::from), Some(Timestamp::from_unix_us(i64::MIN + 1)));
        assert_eq!(Timestamp::INFINITY.to_system_time().or(Timestamp::NEG_INFINITY.to_system_time()), None);
    }
}
