//! Types and values as SQL, to send a statement without a driver.

use pm_core::{Type, Value};
use uuid::Uuid;

/// Returns a type's name.
pub fn type_name(ty: Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::Int2 => "int2",
        Type::Int4 => "int4",
        Type::Int8 => "int8",
        Type::Text => "text",
        Type::Bytes => "bytea",
        Type::Uuid => "uuid",
        Type::Timestamp => "timestamptz",
        Type::BoolArray => "bool[]",
        Type::Int2Array => "int2[]",
        Type::Int4Array => "int4[]",
        Type::Int8Array => "int8[]",
        Type::TextArray => "text[]",
        Type::BytesArray => "bytea[]",
        Type::UuidArray => "uuid[]",
        Type::TimestampArray => "timestamptz[]",
    }
}

/// Returns a value as SQL.
///
/// # Panics
///
/// For a time, or for bytes outside an array.
pub fn literal(value: &Value<'_>) -> String {
    fn array<T>(items: &[Option<T>], text: impl Fn(&T) -> String) -> String {
        let items = items.iter().map(|item| item.as_ref().map_or_else(|| "null".to_owned(), &text));
        format!("'{{{}}}'", items.collect::<Vec<_>>().join(","))
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match value {
        Value::Null(_) => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int2(value) => value.to_string(),
        Value::Int4(value) => value.to_string(),
        Value::Int8(value) => value.to_string(),
        Value::Text(value) => format!("'{value}'"),
        Value::Uuid(value) => format!("'{value}'"),
        Value::BoolArray(items) => array(items, bool::to_string),
        Value::Int2Array(items) => array(items, i16::to_string),
        Value::Int4Array(items) => array(items, i32::to_string),
        Value::Int8Array(items) => array(items, i64::to_string),
        Value::TextArray(items) => array(items, |text| format!("\"{text}\"")),
        Value::BytesArray(items) => array(items, |bytes| format!("\"\\\\x{}\"", hex(bytes))),
        Value::UuidArray(items) => array(items, Uuid::to_string),
        Value::TimestampArray(items) => array(items, |_| unreachable!("no test uses a time")),
        Value::Bytes(_) | Value::Timestamp(_) => unreachable!("no test uses one"),
    }
}
