//! The five fields of a cron expression: parsing, and the next matching minute on a wall clock without offset changes.

use jiff::ToSpan;
use jiff::civil::{Date, DateTime, Time, date};

/// How many years to search. Every expression that ever matches does so within 40: 29 February on a given weekday,
/// across a century year that is not a leap year.
const YEARS: i16 = 50;

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const MINUTE: Field = Field { name: "minute", min: 0, max: 59, names: &[] };
const HOUR: Field = Field { name: "hour", min: 0, max: 23, names: &[] };
const DAY: Field = Field { name: "day", min: 1, max: 31, names: &[] };
const MONTH: Field = Field { name: "month", min: 1, max: 12, names: &MONTHS };
const WEEKDAY: Field = Field { name: "weekday", min: 0, max: 7, names: &WEEKDAYS };

/// The values that one field allows.
struct Field {
    name: &'static str,
    min: u8,
    max: u8,
    /// Names of its values, starting with `min`.
    names: &'static [&'static str],
}

/// A parsed expression: the matching values of each field, as bit sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    /// Whether the last day of a month matches.
    last_day: bool,
    months: u64,
    weekdays: u64,
    /// Whether day and weekday must both match; otherwise one suffices.
    both_days: bool,
    /// Whether the hour field begins with `*`.
    every_hour: bool,
}

impl Fields {
    /// Parses an expression; the error is a message like `is empty`.
    pub(super) fn parse(expression: &str) -> Result<Fields, String> {
        let expression = match expression.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<_> = expression.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(match fields.len() {
                0 => "is empty".to_owned(),
                6 => "has 6 fields instead of five, none for seconds: minute hour day month weekday".to_owned(),
                1 if expression.starts_with('@') => {
                    "is not one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually".to_owned()
                }
                count => format!("has {count} fields instead of five: minute hour day month weekday"),
            });
        };
        let (plain_days, last_day) = without_last_day(day);
        let weekdays = WEEKDAY.parse(weekday)?;
        Ok(Fields {
            minutes: MINUTE.parse(minute)?,
            hours: HOUR.parse(hour)?,
            days: if plain_days.is_empty() && last_day { 0 } else { DAY.parse(&plain_days)? },
            last_day,
            months: MONTH.parse(month)?,
            // Both 0 and 7 are Sunday.
            weekdays: (weekdays | weekdays >> 7) & 0x7F,
            both_days: day.starts_with('*') || weekday.starts_with('*'),
            every_hour: hour.starts_with('*'),
        })
    }

    pub(super) fn every_hour(&self) -> bool {
        self.every_hour
    }

    /// Returns whether any minute matches.
    pub(super) fn ever_match(&self) -> bool {
        self.next(date(2000, 1, 1).at(0, 0, 0, 0)).is_some()
    }

    /// Returns the first matching whole minute after `after`; `None` if there is none before the year 10000.
    pub(super) fn next(&self, after: DateTime) -> Option<DateTime> {
        let start_of_minute = after.date().at(after.hour(), after.minute(), 0, 0);
        let first = start_of_minute.checked_add(1.minute()).ok()?;
        let mut day = first.date();
        if self.has_day(day)
            && let Some(time) = self.time_from(first.hour(), first.minute())
        {
            return Some(day.to_datetime(time));
        }
        let last_year = day.year().saturating_add(YEARS);
        loop {
            day = day.tomorrow().ok().filter(|day| day.year() <= last_year)?;
            if !has(self.months, day.month()) {
                day = day.last_of_month();
            } else if self.has_day(day) {
                return self.time_from(0, 0).map(|time| day.to_datetime(time));
            }
        }
    }

    fn has_day(&self, day: Date) -> bool {
        let in_month = has(self.days, day.day()) || (self.last_day && day.day() == day.days_in_month());
        let in_week = has(self.weekdays, day.weekday().to_sunday_zero_offset());
        has(self.months, day.month()) && if self.both_days { in_month && in_week } else { in_month || in_week }
    }

    /// Returns the first matching time of day from this minute on.
    fn time_from(&self, hour: i8, minute: i8) -> Option<Time> {
        let minute_from = |from: i8| (from..60).find(|minute| has(self.minutes, *minute));
        let this_hour = has(self.hours, hour).then(|| minute_from(minute)).flatten().map(|minute| (hour, minute));
        let later_hour = || Some(((hour + 1..24).find(|hour| has(self.hours, *hour))?, minute_from(0)?));
        let (hour, minute) = this_hour.or_else(later_hour)?;
        Time::new(hour, minute, 0, 0).ok()
    }
}

/// Removes `L` from a list of days; returns the rest, and whether `L` was in it.
fn without_last_day(field: &str) -> (String, bool) {
    let (last, rest): (Vec<_>, Vec<_>) = field.split(',').partition(|item| item.eq_ignore_ascii_case("L"));
    (rest.join(","), !last.is_empty())
}

fn has(set: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| set.checked_shr(value).is_some_and(|rest| rest & 1 == 1))
}

impl Field {
    fn parse(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |set, item| Ok(set | self.item(item)?))
    }

    /// Parses `*`, a number, a name or a range, with or without a step.
    fn item(&self, item: &str) -> Result<u64, String> {
        let Field { name, min, max, .. } = self;
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (*min, *max),
            Some((from, to)) => (self.value(from)?, self.value(to)?),
            None if step.is_some() => {
                return Err(format!("has a step after a single {name}, {item:?}; write a range: {range}-{max}/…"));
            }
            None => (self.value(range)?, self.value(range)?),
        };
        if from > to {
            return Err(format!("has the {name} range {range:?}, which ends before it begins"));
        }
        let step = match step.map(str::parse::<u8>) {
            None => 1,
            Some(Ok(step)) if step > 0 && step <= *max => step,
            Some(_) => return Err(format!("has the {name} step {item:?}, which is not between 1 and {max}")),
        };
        Ok((from..=to).step_by(usize::from(step)).fold(0, |set, value| set | 1 << value))
    }

    fn value(&self, text: &str) -> Result<u8, String> {
        let named = self.names.iter().zip(self.min..).find(|(name, _)| name.eq_ignore_ascii_case(text));
        let digits = || text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let value = named.map(|(_, value)| value).or_else(digits);
        value.filter(|value| (self.min..=self.max).contains(value)).ok_or_else(|| {
            let Field { name, min, max, .. } = self;
            format!("has the {name} {text:?}, which is not between {min} and {max}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(expression: &str, from: &str, count: usize) -> Vec<String> {
        let fields = Fields::parse(expression).unwrap_or_else(|problem| panic!("{expression}: {problem}"));
        let first = from.parse::<DateTime>().unwrap();
        let next = |from: &DateTime| fields.next(*from);
        std::iter::successors(next(&first), next).take(count).map(|at| at.to_string()).collect()
    }

    #[test]
    fn each_kind_of_field_is_parsed() {
        for (expression, expected) in [
            ("* * * * *", ["2026-01-01T00:01:00", "2026-01-01T00:02:00"]),
            ("*/20 * * * *", ["2026-01-01T00:20:00", "2026-01-01T00:40:00"]),
            ("0 9-17/4 * * *", ["2026-01-01T09:00:00", "2026-01-01T13:00:00"]),
            ("30 2 * * *", ["2026-01-01T02:30:00", "2026-01-02T02:30:00"]),
            ("0,30 0 * * *", ["2026-01-01T00:30:00", "2026-01-02T00:00:00"]),
            ("0 0 31 * *", ["2026-01-31T00:00:00", "2026-03-31T00:00:00"]),
            ("0 0 L * *", ["2026-01-31T00:00:00", "2026-02-28T00:00:00"]),
            ("0 0 1,l feb *", ["2026-02-01T00:00:00", "2026-02-28T00:00:00"]),
            ("0 0 29 2 *", ["2028-02-29T00:00:00", "2032-02-29T00:00:00"]),
            ("0 0 * * mon", ["2026-01-05T00:00:00", "2026-01-12T00:00:00"]),
            ("0 0 * * 7", ["2026-01-04T00:00:00", "2026-01-11T00:00:00"]),
            ("0 0 * * 5-7", ["2026-01-02T00:00:00", "2026-01-03T00:00:00"]),
            ("0 0 * JAN-mar,12 1", ["2026-01-05T00:00:00", "2026-01-12T00:00:00"]),
            // Day or weekday; day and weekday when one of them begins with a star.
            ("0 0 13 * FRI", ["2026-01-02T00:00:00", "2026-01-09T00:00:00"]),
            ("0 0 */13 * FRI", ["2026-02-27T00:00:00", "2026-03-27T00:00:00"]),
            ("@hourly", ["2026-01-01T01:00:00", "2026-01-01T02:00:00"]),
            ("@daily", ["2026-01-02T00:00:00", "2026-01-03T00:00:00"]),
            ("@weekly", ["2026-01-04T00:00:00", "2026-01-11T00:00:00"]),
            ("@monthly", ["2026-02-01T00:00:00", "2026-03-01T00:00:00"]),
            ("@annually", ["2027-01-01T00:00:00", "2028-01-01T00:00:00"]),
        ] {
            assert_eq!(after(expression, "2026-01-01T00:00:00", 2), expected, "{expression}");
        }
    }

    #[test]
    fn errors_name_the_problem() {
        for (expression, why) in [
            ("", "is empty"),
            ("  ", "is empty"),
            ("* * * *", "has 4 fields instead of five"),
            ("0 * * * * *", "none for seconds"),
            ("* * * * * * *", "has 7 fields instead of five"),
            ("@reboot", "is not one of @hourly"),
            ("60 * * * *", "minute \"60\""),
            ("* 24 * * *", "hour \"24\""),
            ("* * 0 * *", "day \"0\""),
            ("* * 32 * *", "day \"32\""),
            ("* * * 13 *", "month \"13\""),
            ("* * * * 8", "weekday \"8\""),
            ("* * * * FREITAG", "weekday \"FREITAG\""),
            ("*/0 * * * *", "step"),
            ("*/61 * * * *", "step"),
            ("5/15 * * * *", "5-59/…"),
            ("30-10 * * * *", "ends before it begins"),
            ("1,,2 * * * *", "minute \"\""),
            ("+5 * * * *", "minute \"+5\""),
            ("1-2-3 * * * *", "minute \"2-3\""),
            ("* * L-3 * *", "day \"L\""),
            ("* L * * *", "hour \"L\""),
        ] {
            let problem = Fields::parse(expression).unwrap_err();
            assert!(problem.contains(why), "{expression}: {problem}");
        }
    }

    #[test]
    fn rare_expressions_are_not_mistaken_for_impossible_ones() {
        for never in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "* * 30,31 feb */7"] {
            assert!(!Fields::parse(never).unwrap().ever_match(), "{never}");
        }
        for rare in ["0 0 29 2 *", "0 0 29 2 */7", "0 0 30 2 MON", "59 23 L 2 *"] {
            assert!(Fields::parse(rare).unwrap().ever_match(), "{rare}");
        }
        // 29 February on a Sunday, from one century to the next.
        assert_eq!(after("0 0 29 2 */7", "2088-02-29T00:00:00", 1), ["2128-02-29T00:00:00"]);
    }

    #[test]
    fn the_calendar_ends_in_9999() {
        assert_eq!(after("0 0 1 1 *", "9998-06-01T00:00:00", 3), ["9999-01-01T00:00:00"]);
        assert_eq!(after("* * * * *", "9999-12-31T23:59:00", 1), [""; 0]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*", fields in "[-*/,0-9LA-C ]{0,40}") {
            // An error is fine; only a panic fails the test.
            for text in [text, fields] {
                drop(Fields::parse(&text).map(|fields| fields.ever_match()));
            }
        }

        #[test]
        fn next_returns_the_first_later_match(minute in 0u8..60, hour in 0u8..24, day in 1u8..32, at in 0i64..4_000_000) {
            let fields = Fields::parse(&format!("{minute} {hour} {day} * *")).unwrap();
            let from = date(2020, 1, 1).at(0, 0, 0, 0).checked_add(at.minutes()).unwrap();
            let next = fields.next(from).unwrap();
            prop_assert!(next > from);
            let parts = |at: DateTime| (at.minute() as u8, at.hour() as u8, at.day() as u8);
            prop_assert_eq!(parts(next), (minute, hour, day));
            let mut between = from.checked_add(1.minute()).unwrap();
            while between < next {
                prop_assert!(parts(between) != (minute, hour, day));
                between = between.checked_add(1.minute()).unwrap();
            }
        }
    }
}
