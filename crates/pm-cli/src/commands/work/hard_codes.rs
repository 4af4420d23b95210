//! Exit codes that fail a job permanently.

use std::ops::RangeInclusive;

/// EX_TEMPFAIL of sysexits.h, which always means a retry.
pub(super) const TEMPORARY_FAILURE: i32 = 75;

/// A set of exit codes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct HardCodes(Vec<RangeInclusive<i32>>);

impl HardCodes {
    pub(super) fn contains(&self, code: i32) -> bool {
        code != TEMPORARY_FAILURE && self.0.iter().any(|range| range.contains(&code))
    }
}

/// Parses `65,100-110`, or `all`.
pub(super) fn parse_hard_codes(text: &str) -> Result<HardCodes, String> {
    let text = text.trim();
    match text {
        "" => return Ok(HardCodes::default()),
        "all" => return Ok(HardCodes(vec![1..=255])),
        _ => {}
    }
    text.split(',').map(parse_range).collect::<Result<_, _>>().map(HardCodes)
}

fn parse_range(text: &str) -> Result<RangeInclusive<i32>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let code = |text: &str| text.trim().parse::<u8>().ok().filter(|code| *code > 0).map(i32::from);
    match (code(first), code(last)) {
        (Some(first), Some(last)) if first <= last && !(first == last && first == TEMPORARY_FAILURE) => {
            Ok(first..=last)
        }
        (Some(TEMPORARY_FAILURE), Some(TEMPORARY_FAILURE)) => Err("exit code 75 always means a retry".to_owned()),
        _ => Err("write exit codes from 1 to 255 like 65,100-110, or `all`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_ranges_and_all_are_parsed() {
        let hard = |text: &str| (0..256).filter(|code| parse_hard_codes(text).unwrap().contains(*code)).count();
        assert_eq!((hard(""), hard("65"), hard("65,100-110"), hard(" 1 - 2 , 255 ")), (0, 1, 12, 3));
        assert_eq!((hard("all"), hard("70-80")), (254, 10), "75 is never hard");
        for bad in ["0", "256", "-1", "5-3", "x", ",", "1,,2", "75"] {
            assert!(parse_hard_codes(bad).is_err(), "{bad}");
        }
    }
}
