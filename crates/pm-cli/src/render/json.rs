//! JSON that is safe to print on a terminal.

use crate::text::is_unsafe;
use serde::Serialize;

/// Returns the value as indented JSON.
pub(super) fn pretty<T: Serialize + ?Sized>(value: &T) -> String {
    // Values contain only what JSON can represent, and writing to memory cannot fail.
    escaped(serde_json::to_string_pretty(value).expect("a value can be serialized"))
}

/// Returns the value as JSON on one line.
pub(super) fn line<T: Serialize + ?Sized>(value: &T) -> String {
    escaped(serde_json::to_string(value).expect("a value can be serialized"))
}

/// Escapes the characters that JSON allows but terminals interpret. Outside of strings only line breaks are such.
fn escaped(json: String) -> String {
    let is_unsafe = |c: char| c != '\n' && is_unsafe(c);
    if !json.contains(is_unsafe) {
        return json;
    }
    let mut safe = String::with_capacity(json.len() + 8);
    for c in json.chars() {
        match is_unsafe(c) {
            true => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| safe.push_str(&format!("\\u{unit:04x}"))),
            false => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_round_trip_and_are_safe_on_a_terminal() {
        let odd = "a\u{1b}[31m\u{9b}\u{7f}\u{202e}\u{e0001}\"\\\n日本";
        for text in [line(odd), pretty(&[odd])] {
            assert!(!text.chars().any(|c| is_unsafe(c) && c != '\n'), "{text}");
        }
        assert_eq!(serde_json::from_str::<String>(&line(odd)).unwrap(), odd);
    }
}
