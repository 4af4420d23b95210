//! Reading payloads of any codec for people.

use super::value::Value;
use pm_core::Codec;
use pm_driver_tokio_postgres::RawPayload;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// JSON nested deeper than this is shown as it is written.
const DEEPEST: usize = 100;

/// Returns what the payload holds.
///
/// # Errors
///
/// Says why it cannot be read, and its size.
pub(crate) fn decode(payload: &RawPayload) -> Result<Value, String> {
    let RawPayload { codec, bytes } = payload;
    let decoded = match codec {
        Codec::Json => serde_json::from_slice::<&RawValue>(bytes)
            .and_then(|raw| from_json(raw, 0))
            .map_err(|error| error.to_string()),
        Codec::MessagePack => from_message_pack(bytes),
        Codec::Raw => Ok(Value::Bytes(bytes.to_vec())),
        Codec::Unknown(number) => Err(format!("codec {number} is not known to this version of pm")),
    };
    decoded.map_err(|problem| format!("<{} bytes that are no {codec}: {problem}>", bytes.len()))
}

fn from_json(raw: &RawValue, depth: usize) -> serde_json::Result<Value> {
    let text = raw.get();
    if depth > DEEPEST {
        return Ok(Value::Text(text.to_owned()));
    }
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let Entries(entries) = serde_json::from_str(text)?;
            let read = |(key, value): (String, &RawValue)| Ok((Value::Text(key), from_json(value, depth + 1)?));
            Value::Map(entries.into_iter().map(read).collect::<serde_json::Result<_>>()?)
        }
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(text)?;
            let read = |element: &RawValue| from_json(element, depth + 1);
            Value::List(elements.into_iter().map(read).collect::<serde_json::Result<_>>()?)
        }
        Some(b'"') => Value::Text(serde_json::from_str(text)?),
        Some(b't' | b'f') => Value::Bool(serde_json::from_str(text)?),
        Some(b'n') => Value::Null,
        _ => Value::Number(text.to_owned()),
    })
}

/// The entries of an object in their order.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Entries<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

fn from_message_pack(bytes: &[u8]) -> Result<Value, String> {
    let mut rest = bytes;
    let value = rmpv::decode::read_value(&mut rest).map_err(|error| error.to_string())?;
    match rest.len() {
        0 => Ok(shown(value)),
        more => Err(format!("{more} bytes follow the value")),
    }
}

fn shown(value: rmpv::Value) -> Value {
    match value {
        rmpv::Value::Nil => Value::Null,
        rmpv::Value::Boolean(bool) => Value::Bool(bool),
        rmpv::Value::Integer(integer) => Value::Number(integer.to_string()),
        rmpv::Value::F32(float) => Value::Number(format!("{float:?}")),
        rmpv::Value::F64(float) => Value::Number(format!("{float:?}")),
        rmpv::Value::String(text) => match text.as_str() {
            Some(text) => Value::text(text),
            None => Value::Bytes(text.into_bytes()),
        },
        rmpv::Value::Binary(bytes) => Value::Bytes(bytes),
        rmpv::Value::Array(elements) => Value::List(elements.into_iter().map(shown).collect()),
        rmpv::Value::Map(entries) => {
            Value::Map(entries.into_iter().map(|(key, value)| (shown(key), shown(value))).collect())
        }
        rmpv::Value::Ext(tag, bytes) => Value::Extension(tag, bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(codec: Codec, bytes: &[u8]) -> Result<Value, String> {
        decode(&RawPayload { codec, bytes: bytes.to_vec().into() })
    }

    #[test]
    fn json_keeps_order_duplicates_and_numbers() {
        let value = decoded(Codec::Json, br#"{"b": 1.10, "a": [true, null, "\u00e9"], "b": 12345678901234567890123}"#);
        let expected = Value::Map(vec![
            (Value::text("b"), Value::Number("1.10".to_owned())),
            (Value::text("a"), Value::List(vec![Value::Bool(true), Value::Null, Value::text("é")])),
            (Value::text("b"), Value::Number("12345678901234567890123".to_owned())),
        ]);
        assert_eq!(value, Ok(expected));
    }

    #[test]
    fn deep_json_is_bounded() {
        let text = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(decoded(Codec::Json, text.as_bytes()).is_ok());
    }

    #[test]
    fn message_pack_of_all_kinds_is_read() {
        let bytes = b"\x84\xa1a\xc0\x01\xc4\x02\x00\xff\xa1f\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00\xa1e\xd4\x05\x00";
        let expected = Value::Map(vec![
            (Value::text("a"), Value::Null),
            (Value::Number("1".to_owned()), Value::Bytes(vec![0, 255])),
            (Value::text("f"), Value::Number("inf".to_owned())),
            (Value::text("e"), Value::Extension(5, 1)),
        ]);
        assert_eq!(decoded(Codec::MessagePack, bytes), Ok(expected));
    }

    #[test]
    fn what_cannot_be_read_says_so_with_its_size() {
        for (codec, bytes) in [
            (Codec::Json, &b"{\"a\""[..]),
            (Codec::Json, b"\xff"),
            (Codec::MessagePack, b"\x81\xa1a"),
            (Codec::MessagePack, b"\x01\x02"),
            (Codec::Unknown(9), b"abc"),
        ] {
            let said = decoded(codec, bytes).unwrap_err();
            assert!(said.contains(&format!("<{} bytes that are no {codec}", bytes.len())), "{said}");
        }
    }
}
