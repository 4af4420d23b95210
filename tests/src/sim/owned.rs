//! Parameters that outlive the statement's future: the server runs it even if the client has dropped it.

use pm_queue::driver::Value;

/// One parameter.
#[derive(Debug, Clone)]
pub(super) enum Owned {
    Text(String),
    Bytes(Vec<u8>),
    BytesArray(Vec<Option<Vec<u8>>>),
    Other(Value<'static>),
}

impl Owned {
    pub(super) fn of(value: &Value<'_>) -> Owned {
        let texts = |texts: &Vec<Option<std::borrow::Cow<'_, str>>>| {
            texts.iter().map(|text| text.as_ref().map(|text| text.to_string().into())).collect()
        };
        match value {
            Value::Text(text) => Owned::Text((*text).to_owned()),
            Value::Bytes(bytes) => Owned::Bytes(bytes.to_vec()),
            Value::BytesArray(values) => {
                Owned::BytesArray(values.iter().map(|bytes| bytes.map(<[u8]>::to_vec)).collect())
            }
            Value::TextArray(values) => Owned::Other(Value::TextArray(texts(values))),
            Value::Null(ty) => Owned::Other(Value::Null(*ty)),
            Value::Bool(value) => Owned::Other(Value::Bool(*value)),
            Value::Int2(value) => Owned::Other(Value::Int2(*value)),
            Value::Int4(value) => Owned::Other(Value::Int4(*value)),
            Value::Int8(value) => Owned::Other(Value::Int8(*value)),
            Value::Uuid(value) => Owned::Other(Value::Uuid(*value)),
            Value::Timestamp(value) => Owned::Other(Value::Timestamp(*value)),
            Value::BoolArray(values) => Owned::Other(Value::BoolArray(values.clone())),
            Value::Int2Array(values) => Owned::Other(Value::Int2Array(values.clone())),
            Value::Int4Array(values) => Owned::Other(Value::Int4Array(values.clone())),
            Value::Int8Array(values) => Owned::Other(Value::Int8Array(values.clone())),
            Value::UuidArray(values) => Owned::Other(Value::UuidArray(values.clone())),
            Value::TimestampArray(values) => Owned::Other(Value::TimestampArray(values.clone())),
        }
    }

    pub(super) fn borrow(&self) -> Value<'_> {
        match self {
            Owned::Text(text) => Value::Text(text),
            Owned::Bytes(bytes) => Value::Bytes(bytes),
            Owned::BytesArray(values) => Value::BytesArray(values.iter().map(Option::as_deref).collect()),
            Owned::Other(value) => value.clone(),
        }
    }
}

/// Returns the leases that a statement names in its first two parameters; empty for other parameters.
pub(super) fn leases_of(params: &[Value<'_>]) -> Vec<(uuid::Uuid, i64)> {
    match params {
        [Value::UuidArray(ids), Value::Int8Array(leases), ..] => {
            ids.iter().flatten().copied().zip(leases.iter().flatten().copied()).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns the values of an array that has no nulls.
pub(super) fn column<T: Copy>(values: &[Option<T>]) -> Vec<T> {
    values.iter().map(|value| value.expect("there are no nulls")).collect()
}
