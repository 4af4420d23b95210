//! Times as text.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// Parses a time; without an offset or zone it is in the local zone.
pub(crate) fn parse_time(text: &str) -> Result<pm_core::Timestamp, String> {
    parse_time_in(text, &TimeZone::system()).map(|time| pm_core::Timestamp::from_unix_us(time.as_microsecond()))
}

fn parse_time_in(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    const FORM: &str = "write a time like 2030-05-01T12:00, '2030-05-01 12:00:00' or 2030-05-01T12:00:00Z";
    let text = text.trim();
    let absolute = text.parse::<Zoned>().map(|zoned| zoned.timestamp()).or_else(|_| text.parse::<Timestamp>());
    if let Ok(time) = absolute {
        return Ok(time);
    }
    let local: DateTime = text.parse().map_err(|_| FORM.to_owned())?;
    local.to_zoned(zone.clone()).map(|zoned| zoned.timestamp()).map_err(|_| FORM.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::offset;

    #[test]
    fn times_with_and_without_an_offset() {
        let zone = TimeZone::fixed(offset(2));
        for (text, utc) in [
            ("2030-05-01T12:00:00Z", "2030-05-01T12:00:00Z"),
            ("2030-05-01T12:00:00+05:30", "2030-05-01T06:30:00Z"),
            ("2030-05-01 12:00:00", "2030-05-01T10:00:00Z"),
            ("2030-05-01T12:00", "2030-05-01T10:00:00Z"),
            ("2030-05-01", "2030-04-30T22:00:00Z"),
        ] {
            assert_eq!(parse_time_in(text, &zone).unwrap().to_string(), utc, "{text}");
        }
        for bad in ["", "tomorrow", "2030-13-01", "12:00"] {
            assert!(parse_time_in(bad, &zone).unwrap_err().contains("2030-05-01T12:00"), "{bad}");
        }
    }
}
