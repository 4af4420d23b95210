//! The value at a path.

use super::value::{Value, key_text};
use crate::path::{Path, Step};

impl Value {
    /// Returns the value at a path; of a duplicate key the last one. Errors: how much of the path exists, and the kind
    /// of value found there.
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
