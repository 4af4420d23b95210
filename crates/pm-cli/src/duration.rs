//! Durations as text: `90s`, `5m`, `1h30m`, `7d`.

use jiff::{Span, SpanRelativeTo};
use std::time::Duration;

/// The units of [`show_duration`] in milliseconds, largest first.
const UNITS: [(u128, &str); 5] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];

/// Parses a duration like `90s`, `5m`, `1h30m`, `250ms` or `7d`. A day has 24 hours.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    const FORM: &str = "write a duration like 90s, 5m, 1h30m or 7d";
    if text.trim().parse::<f64>().is_ok() {
        return Err(format!("the unit is missing; {FORM}"));
    }
    let span: Span = text.trim().parse().map_err(|_| FORM.to_owned())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours());
    let duration = duration.map_err(|_| format!("months and years have no fixed length; {FORM}"))?;
    Duration::try_from(duration).map_err(|_| format!("a duration cannot be negative; {FORM}"))
}

/// Parses a timeout: a duration that is neither rejected by the server or libpq nor means "no timeout" to them.
pub(crate) fn parse_timeout(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(24 * 86_400);
    let timeout = parse_duration(text)?;
    match (Duration::from_millis(1)..=LONGEST).contains(&timeout) {
        true => Ok(timeout),
        false => Err("a timeout must be between 1ms and 24d".to_owned()),
    }
}

/// Returns the duration in milliseconds, for JSON.
pub(crate) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Formats a duration as [`parse_duration`] reads it: `1h30m`. Fractions of a millisecond are left out.
pub(crate) fn show_duration(duration: Duration) -> String {
    let mut rest_ms = duration.as_millis();
    let mut text = String::new();
    for (unit_ms, unit) in UNITS {
        if rest_ms >= unit_ms {
            text.push_str(&format!("{}{unit}", rest_ms / unit_ms));
            rest_ms %= unit_ms;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Formats a duration in whole seconds: `19m 59s`.
pub(crate) fn show_seconds(duration: Duration) -> String {
    let compact = show_duration(Duration::from_secs(duration.as_secs()));
    let mut text = String::new();
    for c in compact.chars() {
        if c.is_ascii_digit() && text.ends_with(|last: char| last.is_alphabetic()) {
            text.push(' ');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_parsed() {
        for (text, ms) in [
            ("0s", 0),
            ("250ms", 250),
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("7d", 604_800_000),
            ("2w", 1_209_600_000),
            ("1.5h", 5_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn seconds_are_shown_with_spaces() {
        for (ms, text) in [(999, "0s"), (1_199_999, "19m 59s"), (90_061_000, "1d 1h 1m 1s"), (3_600_000, "1h")] {
            assert_eq!(show_seconds(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn errors_of_durations_give_the_reason() {
        for (text, why) in
            [("5", "unit"), ("", "like 90s"), ("soon", "like 90s"), ("-5m", "negative"), ("1mo", "months")]
        {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn timeouts_out_of_range_are_refused() {
        for text in ["0s", "0.5ms", "24d1ms", "1000w"] {
            assert!(parse_timeout(text).is_err_and(|error| error.contains("between")), "{text}");
        }
        assert_eq!(parse_timeout("1ms"), Ok(Duration::from_millis(1)));
        assert_eq!(parse_timeout("24d"), Ok(Duration::from_secs(24 * 86_400)));
        assert!(parse_timeout("soon").is_err());
    }

    proptest! {
        #[test]
        fn formatted_durations_can_be_parsed(ms in 0u64..100_000_000_000) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }
    }
}
