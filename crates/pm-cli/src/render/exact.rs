//! Complete values for programs: bytes are never abbreviated.

use super::value::{Value, key_text};
use crate::path::{Path, Step};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// JSON of a value, with all bytes as `0x…`.
pub(super) struct Exact<'a>(pub(super) &'a Value);

impl Serialize for Exact<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Bytes(bytes) => {
                let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                serializer.serialize_str(&format!("0x{digits}"))
            }
            Value::List(elements) => {
                let mut list = serializer.serialize_seq(Some(elements.len()))?;
                elements.iter().try_for_each(|element| list.serialize_element(&Exact(element)))?;
                list.end()
            }
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                entries.iter().try_for_each(|(key, value)| map.serialize_entry(&key_text(key), &Exact(value)))?;
                map.end()
            }
            simple => simple.serialize(serializer),
        }
    }
}

impl Value {
    /// Returns the value at a path; of a duplicate key the last one.
    ///
    /// # Errors
    ///
    /// How much of the path exists, and the kind of value found there.
    pub(crate) fn at(&self, path: &Path) -> Result<&Value, String> {
        let mut value = self;
        for (depth, step) in path.0.iter().enumerate() {
            let next = match (value, step) {
                (Value::List(elements), Step::Index(index)) => elements.get(*index),
                (Value::Map(entries), step) => {
                    let wanted = match step {
                        Step::Key(key) => key.clone(),
                        Step::Index(index) => index.to_string(),
                    };
                    entries.iter().rev().find(|(key, _)| key_text(key) == wanted).map(|(_, value)| value)
                }
                _ => None,
            };
            value = next.ok_or_else(|| {
                let parent = Path(path.0[..depth].to_vec());
                format!("no value at {path}: {parent} is {}", value.kind())
            })?;
        }
        Ok(value)
    }

    /// Returns the kind of value, like "a list of 3".
    fn kind(&self) -> String {
        match self {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "a boolean".to_owned(),
            Value::Number(_) => "a number".to_owned(),
            Value::Plain(_) | Value::Text(_) => "a string".to_owned(),
            Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
            Value::Extension(..) => "a MessagePack extension".to_owned(),
            Value::List(elements) => format!("a list of {}", elements.len()),
            Value::Map(entries) => {
                const MAX_LISTED: usize = 10;
                let keys: Vec<_> = entries.iter().take(MAX_LISTED).map(|(key, _)| key_text(key)).collect();
                let more = if entries.len() > MAX_LISTED { ", …" } else { "" };
                format!("a map with the keys {}{more}", keys.join(", "))
            }
        }
    }
}
