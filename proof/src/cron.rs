//! Fuzzes cron expressions and time zones.

use pm_core::{Cron, Timestamp};

/// 1 January of the year -9000, in microseconds: earlier than any time in a database.
const LONG_AGO: i64 = -346_179_744_000_000_000;

/// Reads bytes as a point in time (eight bytes), a number of ticks (one byte), a line with a time zone, and an
/// expression; enumerates the ticks after that time, and the latest ones up to the last of them.
///
/// # Panics
///
/// If an expression does not round-trip, if ticks are not in order, or if the two enumerations differ.
pub fn cron(bytes: &[u8]) {
    let Some((time, [count, text @ ..])) = bytes.split_first_chunk() else { return };
    let text = String::from_utf8_lossy(text);
    let (zone, expression) = text.split_once('\n').unwrap_or(("UTC", &text));
    let Ok(cron) = Cron::new(expression, zone) else { return };
    assert_eq!(Cron::new(cron.expression(), cron.zone()).as_ref(), Ok(&cron));
    let start = Timestamp::from_unix_us(i64::from_be_bytes(*time));
    let ticks: Vec<_> =
        std::iter::successors(cron.next(start), |at| cron.next(*at)).take(usize::from(count % 8)).collect();
    assert!(ticks.is_sorted_by(|a, b| a < b) && ticks.first().is_none_or(|first| *first > start), "{ticks:?}");
    if let Some(last) = ticks.last() {
        assert_eq!(cron.latest(start, *last, ticks.len()), ticks, "{cron:?}");
    }
    let last = cron.latest(Timestamp::from_unix_us(LONG_AGO), Timestamp::INFINITY, 1);
    assert!(matches!(last[..], [last] if cron.next(last).is_none()), "{cron:?} ends at {last:?}");
}
