//! Times: human-readable ones in the local zone, and UTC for programs.

use jiff::tz::TimeZone;
use pm_core::Timestamp;
use std::time::Duration;

/// Returns the time in the local zone with its offset: `2030-05-01 12:00:00+02:00`.
pub(super) fn local(time: Timestamp) -> String {
    local_in(time, TimeZone::system())
}

/// Returns the time in UTC, RFC 3339 with microseconds; `None` for times that the calendar cannot represent.
pub(super) fn utc(time: Timestamp) -> Option<String> {
    let time = jiff::Timestamp::from_microsecond(time.unix_us()).ok()?;
    Some(format!("{time:.6}"))
}

/// Returns the distance from `now`: `3m ago`, `in 24m`, `now`.
pub(super) fn relative(time: Timestamp, now: Timestamp) -> String {
    if [Timestamp::INFINITY, Timestamp::NEG_INFINITY].contains(&time) {
        return "never".to_owned();
    }
    let seconds = time.unix_us().saturating_sub(now.unix_us()) / 1_000_000;
    if seconds == 0 {
        return "now".to_owned();
    }
    let length = length(Duration::from_secs(seconds.unsigned_abs()));
    if seconds < 0 { format!("{length} ago") } else { format!("in {length}") }
}

/// Returns the duration in one unit: `47m`.
pub(crate) fn length(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ ..60 => format!("{seconds}s"),
        seconds @ ..3_600 => format!("{}m", seconds / 60),
        seconds @ ..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// Returns both: `2030-05-01 12:00:00+02:00 (in 24m)`.
pub(super) fn local_and_relative(time: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", local(time), relative(time, now))
}

fn local_in(time: Timestamp, zone: TimeZone) -> String {
    match jiff::Timestamp::from_microsecond(time.unix_us()) {
        Ok(time) => time.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S%:z").to_string(),
        Err(_) if time == Timestamp::INFINITY => "infinity".to_owned(),
        Err(_) if time == Timestamp::NEG_INFINITY => "-infinity".to_owned(),
        Err(_) => format!("{} us after 1970", time.unix_us()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::offset;

    const NOON: Timestamp = Timestamp::from_unix_us(1_903_867_200_000_000);

    fn later(seconds: i64) -> Timestamp {
        Timestamp::from_unix_us(NOON.unix_us() + seconds * 1_000_000)
    }

    #[test]
    fn local_times_carry_their_offset() {
        assert_eq!(local_in(NOON, TimeZone::UTC), "2030-05-01 12:00:00+00:00");
        assert_eq!(local_in(NOON, TimeZone::fixed(offset(-3))), "2030-05-01 09:00:00-03:00");
        assert_eq!(utc(NOON).as_deref(), Some("2030-05-01T12:00:00.000000Z"));
    }

    #[test]
    fn relative_times_use_one_unit() {
        for (seconds, text) in [
            (0, "now"),
            (1, "in 1s"),
            (-59, "59s ago"),
            (-60, "1m ago"),
            (-3_600, "1h ago"),
            (3_600 * 47, "in 47h"),
            (-86_400 * 2, "2d ago"),
        ] {
            assert_eq!(relative(later(seconds), NOON), text);
        }
    }

    #[test]
    fn infinite_times_are_formatted() {
        for time in [Timestamp::INFINITY, Timestamp::NEG_INFINITY, Timestamp::from_unix_us(i64::MAX - 1)] {
            assert!(!local_and_relative(time, NOON).is_empty());
            assert_eq!(utc(time), None);
        }
    }
}
