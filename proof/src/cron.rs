//! Cron expressions on the clocks of time zones.

use pm_core::{Cron, Timestamp};

/// 1 January of the year -9000, in microseconds: well before anything that a database knows.
const LONG_AGO: i64 = -346_179_744_000_000_000;

/// Reads bytes as a point in time (eight bytes), a number of ticks (one), a time zone and, in another line, an
/// expression; asks for the ticks after that time and back again.
///
/// # Panics
///
/// When an expression does not read back, or ticks do not come in order and the same way from both ends.
pub fn cron(bytes: &[u8]) {
    let Some((time, [most, text @ ..])) = bytes.split_first_chunk() else { return };
    let text = String::from_utf8_lossy(text);
    let (zone, expression) = text.split_once('\n').unwrap_or(("UTC", &text));
    let Ok(cron) = Cron::new(expression, zone) else { return };
    assert_eq!(Cron::new(cron.expression(), cron.zone()).as_ref(), Ok(&cron));
    let start = Timestamp::from_unix_us(i64::from_be_bytes(*time));
    let ticks: Vec<_> =
        std::iter::successors(cron.next(start), |at| cron.next(*at)).take(usize::from(most % 8)).collect();
    assert!(ticks.is_sorted_by(|a, b| a < b) && ticks.first().is_none_or(|first| *first > start), "{ticks:?}");
    if let Some(last) = ticks.last() {
        assert_eq!(cron.latest(start, *last, ticks.len()), ticks, "{cron:?}");
    }
    let last = cron.latest(Timestamp::from_unix_us(LONG_AGO), Timestamp::INFINITY, 1);
    assert!(matches!(last[..], [last] if cron.next(last).is_none()), "{cron:?} ends at {last:?}");
}
