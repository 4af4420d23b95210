//! Schemaless values: payloads of any codec, and the documents of commands.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
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
    pub(crate) fn named(entries: Vec<(&str, Value)>) -> Self {
        Value::Map(entries.into_iter().map(|(name, value)| (Value::Plain(name.to_owned()), value)).collect())
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
            Value::Bytes(bytes) if bytes.len() <= MAX_SHOWN_BYTES => {
                let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                Some(format!("0x{digits}"))
            }
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

/// JSON: numbers as written, bytes as the text that represents them, keys other than strings as their JSON.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(text) = self.bytes_text() {
            return serializer.serialize_str(&text);
        }
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(bool) => serializer.serialize_bool(*bool),
            Value::Number(number) => match RawValue::from_string(number.clone()) {
                Ok(raw) => raw.serialize(serializer),
                Err(_) => serializer.serialize_str(number),
            },
            Value::Plain(text) | Value::Text(text) => serializer.serialize_str(text),
            Value::Bytes(_) | Value::Extension(..) => serializer.serialize_unit(),
            Value::List(elements) => {
                let mut list = serializer.serialize_seq(Some(elements.len()))?;
                elements.iter().try_for_each(|element| list.serialize_element(element))?;
                list.end()
            }
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                entries.iter().try_for_each(|(key, value)| map.serialize_entry(&key_text(key), value))?;
                map.end()
            }
        }
    }
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
