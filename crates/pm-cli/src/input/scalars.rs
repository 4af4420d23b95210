//! Checks of strings and numbers in JSON that a parser of its grammar lets pass.

/// Returns the strings, with their quotes, and the numbers of well-formed JSON, each with the position of its first byte.
fn scalars(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += text.as_bytes()[at..].iter().position(|byte| matches!(byte, b'"' | b'-' | b'0'..=b'9'))?;
        let (start, rest) = (at, &text.as_bytes()[at..]);
        at += if rest[0] == b'"' { string_length(rest) } else { number_length(rest) };
        Some((start, &text[start..at]))
    })
}

fn string_length(text: &[u8]) -> usize {
    let mut is_escaped = false;
    let end = text.iter().skip(1).position(|&byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |end| end + 2)
}

fn number_length(text: &[u8]) -> usize {
    let end = text.iter().position(|byte| !matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E' | b'0'..=b'9'));
    end.unwrap_or(text.len())
}

/// Checks that no string of this well-formed JSON has half of a surrogate pair: no program can decode such a string.
///
/// # Errors
///
/// Says where the string begins.
pub(super) fn check_strings(text: &str) -> Result<(), String> {
    let is_broken = |scalar: &str| scalar.contains("\\u") && serde_json::from_str::<String>(scalar).is_err();
    match scalars(text).find(|(_, scalar)| is_broken(scalar)) {
        Some((at, _)) => Err(format!(
            "the string at byte {} has one half of a surrogate pair (\\ud800 to \\udfff) without the other",
            at + 1
        )),
        None => Ok(()),
    }
}

/// So many arrays and objects may stand in each other: serde_json, with which workers decode, reads no more.
const MOST_LEVELS: usize = 127;

/// Checks that a JSON text is not nested deeper than workers can read.
///
/// # Errors
///
/// Says where it is.
pub(crate) fn check_depth(json: &str) -> Result<(), String> {
    let (mut depth, mut is_string, mut is_escaped) = (0usize, false, false);
    for (at, byte) in json.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b'[' | b'{' if !is_string => depth += 1,
            b']' | b'}' if !is_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MOST_LEVELS {
            return Err(format!("at byte {} it is nested deeper than {MOST_LEVELS} levels", at + 1));
        }
    }
    Ok(())
}

/// Checks that MessagePack, which has integers of 64 bits and floats of 64 bits, can hold each number of this
/// well-formed JSON exactly as it is written.
///
/// # Errors
///
/// Names the number.
pub(super) fn check_numbers(text: &str) -> Result<(), String> {
    let is_inexact = |scalar: &str| !scalar.starts_with('"') && !fits(scalar);
    match scalars(text).find(|(_, scalar)| is_inexact(scalar)) {
        Some((at, number)) => {
            Err(format!("the number {number} at byte {} would be stored in MessagePack as another number", at + 1))
        }
        None => Ok(()),
    }
}

fn fits(number: &str) -> bool {
    let is_integer = !number.contains(['.', 'e', 'E']);
    if is_integer && (number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok()) {
        return true;
    }
    // Rust writes the shortest decimal that reads back as the same float.
    let is_same = |float: f64| float.is_finite() && decimal(&format!("{float:e}")) == decimal(number);
    !is_integer && number.parse::<f64>().is_ok_and(is_same)
}

/// Returns a decimal number as its digits, without zeros at either end, and the power of ten of its last digit.
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
    fn half_a_surrogate_pair_is_found_in_values_and_keys_and_a_whole_one_is_not() {
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
    fn numbers_that_would_change_are_found() {
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
            "0.00000000000000000000001",
        ] {
            assert_eq!(check_numbers(number), Ok(()), "{number}");
        }
    }

    proptest! {
        #[test]
        fn each_float_and_each_integer_of_64_bits_fits(float: f64, signed: i64, unsigned: u64) {
            prop_assume!(float.is_finite());
            let text = serde_json::to_string(&(float, signed, unsigned)).unwrap();
            prop_assert_eq!(check_numbers(&text), Ok(()));
        }

        #[test]
        fn no_written_value_is_refused(texts in proptest::collection::vec((any::<String>(), any::<f64>()), 0..5)) {
            let text = serde_json::to_string_pretty(&texts).unwrap();
            prop_assert_eq!(check_strings(&text), Ok(()));
            let expected = texts.len() * 2 - texts.iter().filter(|(_, float)| !float.is_finite()).count();
            prop_assert_eq!(scalars(&text).count(), expected);
        }
    }
}
