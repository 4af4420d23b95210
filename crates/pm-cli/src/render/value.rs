//! Schemaless values: payloads of any codec, and the documents of commands.

use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

/// More bytes than this are shown as their number.
const MAX_SHOWN_BYTES: usize = 32;
/// An array of at least this many numbers from 0 to 255 is taken for bytes.
const MIN_BYTE_ARRAY: usize = 10_000;

/// A value without a schema.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Null.
    Null,
    /// True or false.
    Bool(bool),
    /// A number as written in JSON.
    Number(String),
    /// pm's own text that needs no quotes: an id, a time, a status.
    Plain(String),
    /// The user's text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A MessagePack extension: its type and its size.
    Extension(i8, usize),
    /// Values in order.
    List(Vec<Value>),
    /// Keys and values in order; keys may be duplicate.
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// Returns a map with these names as keys.
    pub(crate) fn named<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        Value::Map(entries.into_iter().map(|(name, value)| (Value::plain(name), value)).collect())
    }

    /// Returns a map with these names as keys, without those whose value is null.
    pub(crate) fn present<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        Self::named(entries.into_iter().filter(|(_, value)| *value != Value::Null))
    }

    /// Adds the entries of another map to this map.
    pub(crate) fn and(mut self, more: Value) -> Self {
        if let (Value::Map(entries), Value::Map(more)) = (&mut self, more) {
            entries.extend(more);
        }
        self
    }

    /// Returns a number.
    pub(crate) fn number(number: impl ToString) -> Self {
        Value::Number(number.to_string())
    }

    /// Returns a list.
    pub(crate) fn list<T: Into<Value>>(elements: impl IntoIterator<Item = T>) -> Self {
        Value::List(elements.into_iter().map(Into::into).collect())
    }

    /// Returns pm's own text, which needs no quotes.
    pub(crate) fn plain(text: impl ToString) -> Self {
        Value::Plain(text.to_string())
    }

    /// Returns the user's text.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Value::Text(text.into())
    }

    /// Returns the text that represents bytes: `0x…` for a few, `<N bytes>` for many; `None` for other values.
    pub(super) fn bytes_text(&self) -> Option<String> {
        match self {
            Value::Bytes(bytes) if bytes.len() <= MAX_SHOWN_BYTES => Some(hex(bytes)),
            Value::Bytes(bytes) => Some(format!("<{} bytes>", bytes.len())),
            Value::Extension(tag, size) => Some(format!("<ext {tag}: {size} bytes>")),
            Value::List(elements) if elements.len() >= MIN_BYTE_ARRAY && elements.iter().all(Value::is_byte) => {
                Some(format!("<{} bytes>", elements.len()))
            }
            _ => None,
        }
    }

    fn is_byte(&self) -> bool {
        matches!(self, Value::Number(number) if number.parse::<u8>().is_ok())
    }
}

impl From<bool> for Value {
    fn from(bool: bool) -> Self {
        Value::Bool(bool)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// JSON: numbers as written, bytes as the text that represents them, keys other than strings as their JSON.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written { value: self, is_exact: false }.serialize(serializer)
    }
}

/// JSON of a value.
pub(super) struct Written<'a> {
    pub(super) value: &'a Value,
    /// Whether all bytes are `0x…`, also many.
    pub(super) is_exact: bool,
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let of = |value| Written { value, is_exact: self.is_exact };
        match self.value {
            Value::Bytes(bytes) if self.is_exact => serializer.serialize_str(&hex(bytes)),
            Value::List(elements) if self.is_exact => serializer.collect_seq(elements.iter().map(of)),
            value if let Some(text) = value.bytes_text() => serializer.serialize_str(&text),
            Value::Null | Value::Bytes(_) | Value::Extension(..) => serializer.serialize_unit(),
            Value::Bool(bool) => serializer.serialize_bool(*bool),
            Value::Number(number) => match RawValue::from_string(number.clone()) {
                Ok(raw) => raw.serialize(serializer),
                Err(_) => serializer.serialize_str(number),
            },
            Value::Plain(text) | Value::Text(text) => serializer.serialize_str(text),
            Value::List(elements) => serializer.collect_seq(elements.iter().map(of)),
            Value::Map(entries) => {
                serializer.collect_map(entries.iter().map(|(key, value)| (key_text(key), of(value))))
            }
        }
    }
}

/// Returns bytes like `0x00ff`.
fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

/// Returns a key as text, for JSON and YAML.
pub(super) fn key_text(key: &Value) -> String {
    match key {
        Value::Plain(text) | Value::Text(text) | Value::Number(text) => text.clone(),
        other => other.bytes_text().unwrap_or_else(|| super::json::line(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_to_32_bytes_are_shown_and_more_are_counted() {
        assert_eq!(Value::Bytes(vec![0, 255]).bytes_text().as_deref(), Some("0x00ff"));
        assert_eq!(Value::Bytes(vec![]).bytes_text().as_deref(), Some("0x"));
        assert_eq!(Value::Bytes(vec![1; 32]).bytes_text().map(|text| text.len()), Some(66));
        assert_eq!(Value::Bytes(vec![1; 33]).bytes_text().as_deref(), Some("<33 bytes>"));
        let numbers = |count| Value::List(vec![Value::Number("7".to_owned()); count]);
        assert_eq!(numbers(9_999).bytes_text(), None);
        assert_eq!(numbers(10_000).bytes_text().as_deref(), Some("<10000 bytes>"));
        assert_eq!(Value::Extension(-1, 8).bytes_text().as_deref(), Some("<ext -1: 8 bytes>"));
    }

    #[test]
    fn json_keeps_numbers_as_written() {
        let value = Value::Map(vec![
            (Value::text("n"), Value::Number("123456789012345678901234567890.10".to_owned())),
            (Value::Number("1".to_owned()), Value::List(vec![Value::Null, Value::Bytes(vec![1])])),
            (Value::List(vec![Value::Null]), Value::Number("NaN".to_owned())),
        ]);
        let line = super::super::json::line(&value);
        assert_eq!(line, r#"{"n":123456789012345678901234567890.10,"1":[null,"0x01"],"[null]":"NaN"}"#);
    }
}
