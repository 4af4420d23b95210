//! The instants at which a cron expression matches, across offset changes of the time zone.

use super::Cron;
use crate::Timestamp;
use jiff::ToSpan;
use jiff::civil::DateTime;
use jiff::tz::AmbiguousOffset;

/// No two ticks are this close to each other.
const MIN_DISTANCE_US: i64 = 1_000_000;

impl Cron {
    /// Returns the first tick after `after`; `None` if there is none before the year 10000.
    ///
    /// It takes a few microseconds, or hundreds of them for an expression that matches once in several years.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = jiff::Timestamp::from_microsecond(after.unix_us()).ok()?;
        let next = if self.fields.every_hour() { self.next_shown(after) } else { self.next_once(after) };
        next.map(|at| Timestamp::from_unix_us(at.as_microsecond()))
    }

    /// Returns the latest ticks from `from` to `upto` (both inclusive), at most `limit` of them, oldest first.
    ///
    /// It costs about 40 calls of [`Cron::next`] per returned tick, however many ticks the range contains.
    pub fn latest(&self, from: Timestamp, upto: Timestamp, limit: usize) -> Vec<Timestamp> {
        let mut ticks = Vec::new();
        let mut upto = upto.unix_us();
        while ticks.len() < limit
            && let Some(tick) = self.last(from.unix_us(), upto)
        {
            ticks.push(Timestamp::from_unix_us(tick));
            upto = tick - 1;
        }
        ticks.reverse();
        ticks
    }

    /// Returns the last tick from `from` to `upto`, by bisection of the time after the last known tick.
    fn last(&self, from: i64, upto: i64) -> Option<i64> {
        let next = |after| self.next(Timestamp::from_unix_us(after)).map(Timestamp::unix_us).filter(|at| *at <= upto);
        let mut last = next(from.checked_sub(1)?)?;
        // There is no tick after `end`. Up to the end of the calendar no sum overflows.
        let mut end = upto.min(jiff::Timestamp::MAX.as_microsecond());
        while end - last > MIN_DISTANCE_US {
            let middle = last + (end - last) / 2;
            match next(middle) {
                Some(tick) => last = tick,
                None => end = middle,
            }
        }
        Some(last)
    }

    /// Returns the next instant at which the wall clock shows a matching minute.
    fn next_shown(&self, after: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let zone = &self.time_zone;
        let (mut from, mut shown) = (after, zone.to_datetime(after));
        loop {
            let offset = zone.to_offset(from);
            let at = offset.to_timestamp(self.fields.next(shown)?).ok();
            let change = zone.following(from).next().map(|change| change.timestamp());
            match change.filter(|change| at.is_none_or(|at| *change <= at)) {
                None => return at,
                Some(change) => {
                    // From here on another offset applies. Its first minute may match.
                    from = change;
                    shown = zone.to_datetime(change).checked_sub(1.second()).ok()?;
                }
            }
        }
    }

    /// Returns the next instant of a matching minute, if every such minute happens exactly once.
    fn next_once(&self, after: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let mut minute = self.time_zone.to_datetime(after);
        loop {
            minute = self.fields.next(minute)?;
            let at = self.instant_of(minute)?;
            if at > after {
                return Some(at);
            }
        }
    }

    /// Returns the first instant at which the wall clock shows `minute`, or the end of the gap in which it is skipped.
    fn instant_of(&self, minute: DateTime) -> Option<jiff::Timestamp> {
        match self.time_zone.to_ambiguous_timestamp(minute).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(minute).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(minute).ok(),
            AmbiguousOffset::Gap { after, .. } => {
                // With the offset after the change, a skipped minute comes before the change.
                let before_change = after.to_timestamp(minute).ok()?;
                self.time_zone.following(before_change).next().map(|change| change.timestamp())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_unix_us(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    fn shown(tick: Timestamp) -> String {
        jiff::Timestamp::from_microsecond(tick.unix_us()).unwrap().to_string()
    }

    /// Returns the ticks after `from`, up to `upto`, in UTC.
    fn ticks(expression: &str, zone: &str, from: &str, upto: &str) -> Vec<String> {
        let cron = Cron::new(expression, zone).unwrap();
        let ticks = std::iter::successors(cron.next(at(from)), |tick| cron.next(*tick));
        ticks.take_while(|tick| *tick <= at(upto)).map(shown).collect()
    }

    // Berlin, 29 March 2026: from 02:00 (+1) to 03:00 (+2), at 01:00 UTC.
    const SPRING: (&str, &str) = ("2026-03-28T22:59:59Z", "2026-03-29T03:00:00Z");
    // Berlin, 25 October 2026: from 03:00 (+2) back to 02:00 (+1), at 01:00 UTC.
    const AUTUMN: (&str, &str) = ("2026-10-24T21:59:59Z", "2026-10-25T02:30:00Z");

    #[test]
    fn a_minute_of_a_fixed_hour_in_the_gap_happens_once_at_its_end() {
        let berlin = |expression| ticks(expression, "Europe/Berlin", SPRING.0, SPRING.1);
        assert_eq!(berlin("30 2 * * *"), ["2026-03-29T01:00:00Z"]);
        assert_eq!(berlin("0 2 * * *"), ["2026-03-29T01:00:00Z"]);
        assert_eq!(berlin("59 2 * * *"), ["2026-03-29T01:00:00Z"]);
        assert_eq!(berlin("59 1 * * *"), ["2026-03-29T00:59:00Z"]);
        assert_eq!(berlin("0 3 * * *"), ["2026-03-29T01:00:00Z"]);
        // Several skipped minutes are one tick, together with a match at the end of the gap.
        assert_eq!(berlin("*/15 2 * * *"), ["2026-03-29T01:00:00Z"]);
        assert_eq!(
            berlin("30 1-4 * * *"),
            ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:30:00Z"]
        );
        assert_eq!(berlin("0,30 2,3 * * *"), ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]);
    }

    #[test]
    fn a_minute_of_a_fixed_hour_that_is_repeated_happens_the_first_time() {
        let berlin = |expression| ticks(expression, "Europe/Berlin", AUTUMN.0, AUTUMN.1);
        assert_eq!(berlin("30 2 * * *"), ["2026-10-25T00:30:00Z"]);
        assert_eq!(berlin("0 2 * * *"), ["2026-10-25T00:00:00Z"]);
        assert_eq!(berlin("*/20 2 * * *"), ["2026-10-25T00:00:00Z", "2026-10-25T00:20:00Z", "2026-10-25T00:40:00Z"]);
        assert_eq!(berlin("0 1-3 * * *"), ["2026-10-24T23:00:00Z", "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"]);
        let berlin = Cron::new("30 2 * * *", "Europe/Berlin").unwrap();
        // Between the first and the second 02:30, and after the second.
        for late in ["2026-10-25T00:45:00Z", "2026-10-25T01:15:00Z", "2026-10-25T01:30:00Z", "2026-10-25T01:45:00Z"] {
            assert_eq!(berlin.next(at(late)).map(shown).unwrap(), "2026-10-26T01:30:00Z", "after {late}");
        }
    }

    #[test]
    fn with_every_hour_ticks_follow_the_wall_clock() {
        let berlin = |expression, (from, upto)| ticks(expression, "Europe/Berlin", from, upto);
        let half_past = |hours: &[&str]| hours.iter().map(|hour| format!("{hour}:30:00Z")).collect::<Vec<_>>();
        let spring = ["2026-03-28T23", "2026-03-29T00", "2026-03-29T01", "2026-03-29T02"];
        assert_eq!(berlin("30 * * * *", SPRING), half_past(&spring), "01:30 is followed by 03:30");
        let autumn = ["2026-10-24T22", "2026-10-24T23", "2026-10-25T00", "2026-10-25T01", "2026-10-25T02"];
        assert_eq!(berlin("30 * * * *", AUTUMN), half_past(&autumn), "02:30 happens twice");
        // 00:00 and 04:00: 02:00 is skipped; the next day has all.
        assert_eq!(berlin("0 */2 * * *", SPRING), ["2026-03-28T23:00:00Z", "2026-03-29T02:00:00Z"]);
        assert_eq!(
            berlin("0 */2 * * *", AUTUMN),
            ["2026-10-24T22:00:00Z", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"]
        );
        assert_eq!(berlin("* * * * *", SPRING).len(), 4 * 60 + 1);
        assert_eq!(berlin("* * * * *", AUTUMN).len(), 4 * 60 + 31);
    }

    #[test]
    fn new_york_changes_clocks_at_other_hours() {
        // 8 March 2026 at 07:00 UTC, 1 November 2026 at 06:00 UTC.
        let new_york = |expression, from, upto| ticks(expression, "America/New_York", from, upto);
        assert_eq!(new_york("30 2 * * *", "2026-03-08T05:00:00Z", "2026-03-09T05:00:00Z"), ["2026-03-08T07:00:00Z"]);
        assert_eq!(new_york("30 1 * * *", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"), ["2026-11-01T05:30:00Z"]);
        assert_eq!(
            new_york("15 * * * *", "2026-11-01T05:00:00Z", "2026-11-01T07:00:00Z"),
            ["2026-11-01T05:15:00Z", "2026-11-01T06:15:00Z"]
        );
    }

    #[test]
    fn lord_howe_changes_clocks_by_half_an_hour() {
        // From 02:00 (+10:30) to 02:30 (+11) on 4 October 2026 at 15:30 UTC of the 3rd; back on 5 April at 15:00 UTC of
        // the 4th.
        let lord_howe = |expression, from, upto| ticks(expression, "Australia/Lord_Howe", from, upto);
        let spring = ("2026-10-03T15:00:00Z", "2026-10-03T16:00:00Z");
        assert_eq!(lord_howe("15 2 * * *", spring.0, spring.1), ["2026-10-03T15:30:00Z"]);
        assert_eq!(lord_howe("45 2 * * *", spring.0, spring.1), ["2026-10-03T15:45:00Z"]);
        assert_eq!(lord_howe("*/15 * * * *", spring.0, spring.1).len(), 4);
        assert_eq!(lord_howe("0 * * * *", spring.0, spring.1), ["2026-10-03T16:00:00Z"], "02:00 is skipped");
        let autumn = ("2026-04-04T14:00:00Z", "2026-04-04T16:00:00Z");
        assert_eq!(lord_howe("45 1 * * *", autumn.0, autumn.1), ["2026-04-04T14:45:00Z"]);
        assert_eq!(lord_howe("45 * * * *", autumn.0, autumn.1), ["2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z"]);
    }

    #[test]
    fn a_skipped_day_happens_at_its_end() {
        // Samoa had no 30 December 2011.
        let samoa = ticks("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", "2011-12-31T00:00:00Z");
        assert_eq!(samoa, ["2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"]);
    }

    #[test]
    fn zones_are_found_in_any_case_and_unknown_ones_are_refused() {
        assert_eq!(Cron::new("@daily", "europe/berlin").unwrap().zone(), "Europe/Berlin");
        assert_eq!(Cron::new(" 0  0 * *\t* ", "UTC").unwrap().to_string(), "0 0 * * * UTC");
        for zone in ["", "Europe/Atlantis", "CEST", "+02:00", "Europe/Berlin ", "../etc/passwd"] {
            assert!(matches!(Cron::new("@daily", zone), Err(crate::Error::Invalid { .. })), "{zone}");
        }
        let february = Cron::new("0 0 30 2 *", "UTC").unwrap_err().to_string();
        assert!(february.contains("never fires"), "{february}");
        assert!(Cron::new(&"0".repeat(201), "UTC").unwrap_err().to_string().contains("200 bytes"));
    }

    #[test]
    fn there_is_no_tick_after_the_end_of_the_calendar() {
        let cron = Cron::new("@yearly", "Europe/Berlin").unwrap();
        let last = cron.next(at("9998-06-01T00:00:00Z")).unwrap();
        assert_eq!(shown(last), "9998-12-31T23:00:00Z");
        for late in [last, at("9999-12-30T00:00:00Z"), Timestamp::INFINITY, Timestamp::from_unix_us(i64::MAX - 1)] {
            assert_eq!(cron.next(late), None);
        }
        let ticks = cron.latest(Timestamp::NEG_INFINITY, Timestamp::INFINITY, 2);
        assert_eq!(ticks, [], "the calendar does not go back that far");
        for beginning in ["-009999-06-01T00:00:00Z", "1969-06-01T00:00:00Z", "1970-06-01T00:00:00Z"] {
            let ticks: Vec<_> = cron.latest(at(beginning), Timestamp::INFINITY, 2).into_iter().map(shown).collect();
            assert_eq!(ticks, ["9997-12-31T23:00:00Z", "9998-12-31T23:00:00Z"], "from {beginning}");
        }
    }

    #[test]
    fn latest_finds_the_last_of_many_ticks() {
        let cron = Cron::new("* * * * *", "Europe/Berlin").unwrap();
        let (from, upto) = (at("1990-01-01T00:00:00Z"), at("2026-11-22T16:30:00.5Z"));
        let found: Vec<_> = cron.latest(from, upto, 3).into_iter().map(shown).collect();
        assert_eq!(found, ["2026-11-22T16:28:00Z", "2026-11-22T16:29:00Z", "2026-11-22T16:30:00Z"]);
        assert_eq!(cron.latest(upto, upto, 3), []);
        let tick = at("2026-11-22T16:30:00Z");
        assert_eq!(cron.latest(tick, tick, 3), [tick]);
        assert_eq!(cron.latest(tick, at("2026-11-22T16:29:00Z"), 3), [], "backwards");
    }

    proptest! {
        #[test]
        fn latest_returns_the_end_of_an_enumeration(
            expression in prop::sample::select(&["*/7 * * * *", "30 2 * * *", "0,45 1-3 * * *", "0 */2 * * *", "15 2 L * 0"][..]),
            zone in prop::sample::select(&["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"][..]),
            from in 1_767_225_600i64..1_798_761_600, length in 0i64..40 * 86_400, limit in 0usize..8,
        ) {
            let cron = Cron::new(expression, zone).unwrap();
            let (from, upto) = (Timestamp::from_unix_us(from * 1_000_000), Timestamp::from_unix_us((from + length) * 1_000_000));
            let before = Timestamp::from_unix_us(from.unix_us() - 1);
            let ticks = std::iter::successors(cron.next(before), |tick| cron.next(*tick));
            let all: Vec<_> = ticks.take_while(|tick| *tick <= upto).collect();
            prop_assert!(all.is_sorted_by(|a, b| a < b), "every tick is later than the one before");
            prop_assert_eq!(cron.latest(from, upto, limit), &all[all.len().saturating_sub(limit)..]);
        }
    }
}
