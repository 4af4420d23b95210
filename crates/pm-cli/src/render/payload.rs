//! Decoding payloads of any codec.

use super::value::Value;
use crate::json::first_value;
use pm_core::Codec;
use pm_driver_tokio_postgres::RawPayload;
use serde::Deserialize;
use serde_json::value::RawValue;

/// JSON nested deeper than this is shown as text.
const MAX_DEPTH: usize = 100;

/// Decodes a payload. Errors: why it cannot be decoded, and its size.
pub(crate) fn decode(payload: &RawPayload) -> Result<Value, String> {
    let RawPayload { codec, bytes } = payload;
    let decoded = match codec {
        Codec::Json => serde_json::from_slice::<&RawValue>(bytes)
            .and_then(|raw| Json { rest: raw.get() }.value(0))
            .map_err(|error| error.to_string()),
        Codec::MessagePack => from_message_pack(bytes),
        Codec::Raw => Ok(Value::Bytes(bytes.to_vec())),
        Codec::Unknown(number) => Err(format!("this version of pm does not know codec {number}")),
    };
    decoded.map_err(|problem| format!("<{} bytes that are not valid {codec}: {problem}>", bytes.len()))
}

/// A parser of well-formed JSON.
struct Json<'a> {
    rest: &'a str,
}

impl<'a> Json<'a> {
    fn value(&mut self, depth: usize) -> serde_json::Result<Value> {
        Ok(match self.next_byte() {
            _ if depth > MAX_DEPTH => Value::text(self.scalar::<&RawValue>()?.get()),
            b'{' => Value::Map(self.parts(|json| {
                let key = Value::Text(json.scalar()?);
                json.skip(b':');
                Ok((key, json.value(depth + 1)?))
            })?),
            b'[' => Value::List(self.parts(|json| json.value(depth + 1))?),
            b'"' => Value::Text(self.scalar()?),
            b't' | b'f' => Value::Bool(self.scalar()?),
            b'n' => {
                self.scalar::<()>()?;
                Value::Null
            }
            _ => Value::Number(self.scalar::<&RawValue>()?.get().to_owned()),
        })
    }

    /// Parses the comma-separated parts between two brackets.
    fn parts<T>(&mut self, part: impl Fn(&mut Self) -> serde_json::Result<T>) -> serde_json::Result<Vec<T>> {
        let mut parts = Vec::new();
        self.rest = &self.rest[1..];
        while !matches!(self.next_byte(), b']' | b'}' | 0) {
            parts.push(part(self)?);
            self.skip(b',');
        }
        self.rest = self.rest.get(1..).unwrap_or_default();
        Ok(parts)
    }

    /// Parses a value as a whole.
    fn scalar<T: Deserialize<'a>>(&mut self) -> serde_json::Result<T> {
        let (value, length) = first_value(self.rest)?;
        self.rest = &self.rest[length..];
        Ok(value)
    }

    fn skip(&mut self, byte: u8) {
        if self.next_byte() == byte {
            self.rest = &self.rest[1..];
        }
    }

    /// Skips whitespace and returns the next byte; 0 at the end, which well-formed JSON does not reach.
    fn next_byte(&mut self) -> u8 {
        self.rest = self.rest.trim_ascii_start();
        self.rest.as_bytes().first().copied().unwrap_or(0)
    }
}

fn from_message_pack(bytes: &[u8]) -> Result<Value, String> {
    let mut rest = bytes;
    let value = rmpv::decode::read_value(&mut rest).map_err(|error| error.to_string())?;
    match rest.len() {
        0 => Ok(converted(value)),
        more => Err(format!("{more} bytes follow the value")),
    }
}

fn converted(value: rmpv::Value) -> Value {
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
        rmpv::Value::Array(elements) => Value::List(elements.into_iter().map(converted).collect()),
        rmpv::Value::Map(entries) => {
            Value::Map(entries.into_iter().map(|(key, value)| (converted(key), converted(value))).collect())
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
    fn the_depth_of_json_is_bounded() {
        let text = format!("{}{}", "[".repeat(5_000_000), "]".repeat(5_000_000));
        let mut value = decoded(Codec::Json, text.as_bytes()).unwrap();
        for _ in 0..=MAX_DEPTH {
            let Value::List(mut elements) = value else { panic!("{}", value.bytes_text().unwrap_or_default()) };
            value = elements.pop().unwrap();
        }
        assert!(value == Value::text(&text[MAX_DEPTH + 1..text.len() - MAX_DEPTH - 1]));
    }

    #[test]
    fn json_with_spaces_and_with_brackets_in_strings_is_decoded() {
        let text = r#" { "a]\\" : [ ] , "b" : [ { } , "\"}," , -1.5e3 , [ false ] ] , "" : { "ä" : null } } "#;
        let list = Value::List(vec![
            Value::Map(vec![]),
            Value::text("\"},"),
            Value::Number("-1.5e3".to_owned()),
            Value::List(vec![Value::Bool(false)]),
        ]);
        let expected = Value::Map(vec![
            (Value::text("a]\\"), Value::List(vec![])),
            (Value::text("b"), list),
            (Value::text(""), Value::Map(vec![(Value::text("ä"), Value::Null)])),
        ]);
        assert_eq!(decoded(Codec::Json, text.as_bytes()), Ok(expected));
        assert!(decoded(Codec::Json, br#"["\ud800"]"#).is_err());
    }

    #[test]
    fn message_pack_of_all_kinds_is_decoded() {
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
    fn undecodable_payloads_give_the_reason_and_the_size() {
        for (codec, bytes) in [
            (Codec::Json, &b"{\"a\""[..]),
            (Codec::Json, b"\xff"),
            (Codec::MessagePack, b"\x81\xa1a"),
            (Codec::MessagePack, b"\x01\x02"),
            (Codec::Unknown(9), b"abc"),
        ] {
            let problem = decoded(codec, bytes).unwrap_err();
            assert!(problem.contains(&format!("<{} bytes that are not valid {codec}", bytes.len())), "{problem}");
        }
    }
}
