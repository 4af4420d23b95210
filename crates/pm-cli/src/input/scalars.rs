//! Checks of strings, numbers, members and nesting in JSON beyond the grammar.

use crate::json::first_value;
use serde::de::IgnoredAny;
use std::collections::BTreeSet;

/// Returns the strings, with their quotes, the numbers and the brackets of well-formed JSON, each with its byte offset.
fn tokens(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_start = |byte: &u8| matches!(byte, b'"' | b'-' | b'0'..=b'9' | b'[' | b'{' | b']' | b'}');
    let mut at = 0;
    std::iter::from_fn(move || {
        at += text.as_bytes()[at..].iter().position(is_start)?;
        let (start, rest) = (at, &text[at..]);
        at += match rest.as_bytes()[0] {
            b'[' | b'{' | b']' | b'}' => 1,
            _ => first_value::<IgnoredAny>(rest).map_or(rest.len(), |(_, length)| length),
        };
        Some((start, &text[start..at]))
    })
}

/// Checks that no string of this well-formed JSON has an unpaired surrogate: such strings cannot be decoded. Errors:
/// the position of the string.
pub(super) fn check_strings(text: &str) -> Result<(), String> {
    let is_broken = |token: &str| token.contains("\\u") && serde_json::from_str::<String>(token).is_err();
    match tokens(text).find(|(_, token)| is_broken(token)) {
        Some((at, _)) => Err(format!("the string at byte {} has an unpaired surrogate (\\ud800 to \\udfff)", at + 1)),
        None => Ok(()),
    }
}

/// The deepest nesting that serde_json, which workers use to decode, can read.
const MAX_DEPTH: usize = 127;

/// Checks that a JSON text is not nested deeper than workers can read. Errors: the position of the nesting.
pub(super) fn check_depth(json: &str) -> Result<(), String> {
    let mut depth = 0usize;
    for (at, token) in tokens(json) {
        match token {
            "[" | "{" => depth += 1,
            "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("at byte {} it is nested deeper than {MAX_DEPTH} levels", at + 1));
        }
    }
    Ok(())
}

/// Checks that no object of this well-formed JSON has two members of one name. Errors: the name and its position.
pub(super) fn check_members(text: &str) -> Result<(), String> {
    // The names in each open bracket; a list has none.
    let mut open: Vec<BTreeSet<String>> = Vec::new();
    for (at, token) in tokens(text) {
        let is_name = || text[at + token.len()..].trim_ascii_start().starts_with(':');
        match token {
            "[" | "{" => open.push(BTreeSet::new()),
            "]" | "}" => drop(open.pop()),
            token if is_name() => {
                let name: String = serde_json::from_str(token).unwrap_or_default();
                if open.last_mut().is_some_and(|names| !names.insert(name.clone())) {
                    return Err(format!("duplicate member {name:?} at byte {}", at + 1));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks that MessagePack, which has 64-bit integers and floats, can store each number of this well-formed JSON
/// without changing it. Errors: the number and its position.
pub(super) fn check_numbers(text: &str) -> Result<(), String> {
    let is_inexact = |token: &str| token.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && !fits(token);
    match tokens(text).find(|(_, token)| is_inexact(token)) {
        Some((at, number)) => {
            Err(format!("MessagePack cannot store the number {number} at byte {} without changing it", at + 1))
        }
        None => Ok(()),
    }
}

fn fits(number: &str) -> bool {
    let is_integer = !number.contains(['.', 'e', 'E']);
    if is_integer && (number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok()) {
        return true;
    }
    // The shortest decimal that parses to the same float. There may be two, and Rust and serde_json differ about some.
    let shortest = |float: f64| [format!("{float:e}"), serde_json::to_string(&float).unwrap_or_default()];
    let is_same = |text: String| decimal(&text) == decimal(number);
    let is_exact = |float: f64| float.is_finite() && shortest(float).into_iter().any(is_same);
    !is_integer && number.parse::<f64>().is_ok_and(is_exact)
}

/// Returns the digits of a decimal number, without leading and trailing zeros, and the exponent of the last digit.
fn decimal(number: &str) -> Option<(String, i64)> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) =
        mantissa.trim_start_matches('-').split_once('.').unwrap_or((mantissa.trim_start_matches('-'), ""));
    let digits = format!("{whole}{fraction}");
    let kept = digits.trim_end_matches('0');
    let exponent = exponent.parse::<i64>().ok()?.checked_sub(fraction.len() as i64)?;
    let kept_digits = kept.trim_start_matches('0');
    if kept_digits.is_empty() {
        return Some((String::new(), 0));
    }
    Some((kept_digits.to_owned(), exponent.checked_add((digits.len() - kept.len()) as i64)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unpaired_surrogates_are_found_in_values_and_keys() {
        for text in [
            r#""\ud800""#,
            r#""\udfff""#,
            r#"["fine", {"\uD83D": 1}]"#,
            r#"{"a": "\\\udc00\ud800"}"#,
            r#""\ud800\ud800""#,
            r#""\ud83dx\ude00""#,
        ] {
            assert!(serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok(), "{text}");
            assert!(check_strings(text).is_err(), "{text}");
        }
        for text in [r#""\ud83d\ude00""#, r#""\\ud800""#, r#"{"\"": "\u0000", "a\\": "d800"}"#, "7", "[]", "\"😀\""] {
            assert_eq!(check_strings(text), Ok(()), "{text}");
        }
        assert!(check_strings(r#"["a", "\ud800"]"#).unwrap_err().contains("byte 7"));
    }

    #[test]
    fn duplicate_members_are_found_at_any_depth() {
        for text in ["1", "null", "[{\"a\":1},{\"a\":2.5}]", "{\"a\":{\"a\":true},\"b\":\"a\"}"] {
            assert_eq!(check_members(text), Ok(()), "{text}");
        }
        for (text, at) in [("{\"a\":1,\"a\" :2}", 8), ("[0,{\"b\":[{\"a\":1,\"b\":2,\"\\u0061\":3}]}]", 23)] {
            assert_eq!(check_members(text), Err(format!("duplicate member \"a\" at byte {at}")), "{text}");
        }
    }

    #[test]
    fn numbers_that_message_pack_would_change_are_found() {
        for number in [
            "18446744073709551616",
            "-9223372036854775809",
            "12345678901234567890123",
            "0.12345678901234567891",
            "9007199254740993.0",
            "9007199254740993e0",
            "1e400",
            "1e-400",
            "1e99999999999999999999",
        ] {
            let text = format!("{{\"7\": [1, {number}]}}");
            assert!(check_numbers(&text).unwrap_err().contains(number), "{number}");
        }
        for number in [
            "0",
            "-0",
            "-0.0",
            "0e9",
            "18446744073709551615",
            "-9223372036854775808",
            "1.10",
            "0.1",
            "1e23",
            "1E+2",
            "100.0",
            "123.456e-7",
            "1.7976931348623157e308",
            "5e-324",
            "-919944363435402.2",
            "-919944363435402.3",
            "0.00000000000000000000001",
        ] {
            assert_eq!(check_numbers(number), Ok(()), "{number}");
        }
    }

    proptest! {
        #[test]
        fn every_64_bit_float_and_integer_fits(float: f64, signed: i64, unsigned: u64) {
            prop_assume!(float.is_finite());
            let text = serde_json::to_string(&(float, signed, unsigned)).unwrap();
            prop_assert_eq!(check_numbers(&text), Ok(()));
        }

        #[test]
        fn serialized_values_are_accepted(texts in proptest::collection::vec((any::<String>(), any::<f64>()), 0..5)) {
            let text = serde_json::to_string_pretty(&texts).unwrap();
            prop_assert_eq!(check_strings(&text), Ok(()));
            let expected = texts.len() * 2 - texts.iter().filter(|(_, float)| !float.is_finite()).count();
            let is_scalar = |token: &str| !token.starts_with(['[', '{', ']', '}']);
            prop_assert_eq!(tokens(&text).filter(|(_, token)| is_scalar(token)).count(), expected);
        }
    }
}
