//! Reading JSON value by value.

use serde::Deserialize;
use serde::de::Error;

/// Reads the value at the beginning of a text, and returns it with its length in bytes. Errors: as serde_json: what is
/// not a value of this type, and where.
pub(crate) fn first_value<'a, T: Deserialize<'a>>(text: &'a str) -> serde_json::Result<(T, usize)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    match values.next() {
        Some(value) => Ok((value?, values.byte_offset())),
        None => Err(serde_json::Error::custom("a value is missing")),
    }
}
