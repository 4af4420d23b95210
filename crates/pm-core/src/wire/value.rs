//! Parameters of statements.

use crate::Timestamp;
use crate::time::whole_ms;
use bytes::{BufMut, BytesMut};
use postgres_protocol::IsNull;
use postgres_protocol::types as pg;
use std::borrow::Cow;
use std::error::Error as StdError;
use std::time::Duration;
use uuid::Uuid;

/// The types of parameters and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named after the SQL types
pub enum Type {
    Bool,
    Int2,
    Int4,
    Int8,
    Text,
    Bytes,
    Uuid,
    Timestamp,
    BoolArray,
    Int2Array,
    Int4Array,
    Int8Array,
    TextArray,
    BytesArray,
    UuidArray,
    TimestampArray,
}

impl Type {
    /// All types.
    pub(crate) const ALL: [Type; 16] = [
        Type::Bool,
        Type::Int2,
        Type::Int4,
        Type::Int8,
        Type::Text,
        Type::Bytes,
        Type::Uuid,
        Type::Timestamp,
        Type::BoolArray,
        Type::Int2Array,
        Type::Int4Array,
        Type::Int8Array,
        Type::TextArray,
        Type::BytesArray,
        Type::UuidArray,
        Type::TimestampArray,
    ];

    /// Returns the type's object id, which is the same in every Postgres (`pg_type.dat` in its source).
    pub fn oid(self) -> u32 {
        match self {
            Type::Bool => 16,
            Type::Bytes => 17,
            Type::Int8 => 20,
            Type::Int2 => 21,
            Type::Int4 => 23,
            Type::Text => 25,
            Type::Timestamp => 1184,
            Type::Uuid => 2950,
            Type::BoolArray => 1000,
            Type::BytesArray => 1001,
            Type::Int2Array => 1005,
            Type::Int4Array => 1007,
            Type::TextArray => 1009,
            Type::Int8Array => 1016,
            Type::TimestampArray => 1185,
            Type::UuidArray => 2951,
        }
    }

    /// Returns the type's name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Type::Bool => "bool",
            Type::Bytes => "bytea",
            Type::Int8 => "int8",
            Type::Int2 => "int2",
            Type::Int4 => "int4",
            Type::Text => "text",
            Type::Timestamp => "timestamptz",
            Type::Uuid => "uuid",
            Type::BoolArray => "bool[]",
            Type::BytesArray => "bytea[]",
            Type::Int2Array => "int2[]",
            Type::Int4Array => "int4[]",
            Type::TextArray => "text[]",
            Type::Int8Array => "int8[]",
            Type::TimestampArray => "timestamptz[]",
            Type::UuidArray => "uuid[]",
        }
    }

    fn element(self) -> Type {
        match self {
            Type::BoolArray => Type::Bool,
            Type::Int2Array => Type::Int2,
            Type::Int4Array => Type::Int4,
            Type::Int8Array => Type::Int8,
            Type::TextArray => Type::Text,
            Type::BytesArray => Type::Bytes,
            Type::UuidArray => Type::Uuid,
            Type::TimestampArray => Type::Timestamp,
            scalar => scalar,
        }
    }
}

/// The parameters of one statement, in order.
pub type Params<'a> = Vec<Value<'a>>;

/// One parameter. Text and bytes are borrowed; a null has a type.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // named after their types
pub enum Value<'a> {
    Null(Type),
    Bool(bool),
    Int2(i16),
    Int4(i32),
    Int8(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Uuid(Uuid),
    Timestamp(Timestamp),
    BoolArray(Vec<Option<bool>>),
    Int2Array(Vec<Option<i16>>),
    Int4Array(Vec<Option<i32>>),
    Int8Array(Vec<Option<i64>>),
    TextArray(Vec<Option<Cow<'a, str>>>),
    BytesArray(Vec<Option<&'a [u8]>>),
    UuidArray(Vec<Option<Uuid>>),
    TimestampArray(Vec<Option<Timestamp>>),
}

impl Value<'_> {
    /// Returns the value's type.
    pub fn ty(&self) -> Type {
        match self {
            Value::Null(ty) => *ty,
            Value::Bool(_) => Type::Bool,
            Value::Int2(_) => Type::Int2,
            Value::Int4(_) => Type::Int4,
            Value::Int8(_) => Type::Int8,
            Value::Text(_) => Type::Text,
            Value::Bytes(_) => Type::Bytes,
            Value::Uuid(_) => Type::Uuid,
            Value::Timestamp(_) => Type::Timestamp,
            Value::BoolArray(_) => Type::BoolArray,
            Value::Int2Array(_) => Type::Int2Array,
            Value::Int4Array(_) => Type::Int4Array,
            Value::Int8Array(_) => Type::Int8Array,
            Value::TextArray(_) => Type::TextArray,
            Value::BytesArray(_) => Type::BytesArray,
            Value::UuidArray(_) => Type::UuidArray,
            Value::TimestampArray(_) => Type::TimestampArray,
        }
    }

    /// Returns whether the value is null; then [`Value::encode`] writes nothing.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null(_))
    }

    /// Appends the value's binary form to `out`; nothing for a null.
    ///
    /// # Errors
    ///
    /// If an array or one of its elements is over 2 GiB long, the limit of the protocol.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), Box<dyn StdError + Sync + Send>> {
        match self {
            Value::Null(_) => {}
            Value::Bool(value) => value.put(out)?,
            Value::Int2(value) => value.put(out)?,
            Value::Int4(value) => value.put(out)?,
            Value::Int8(value) => value.put(out)?,
            Value::Text(value) => value.put(out)?,
            Value::Bytes(value) => value.put(out)?,
            Value::Uuid(value) => value.put(out)?,
            Value::Timestamp(value) => value.put(out)?,
            Value::BoolArray(values) => self.encode_array(values, out)?,
            Value::Int2Array(values) => self.encode_array(values, out)?,
            Value::Int4Array(values) => self.encode_array(values, out)?,
            Value::Int8Array(values) => self.encode_array(values, out)?,
            Value::TextArray(values) => self.encode_array(values, out)?,
            Value::BytesArray(values) => self.encode_array(values, out)?,
            Value::UuidArray(values) => self.encode_array(values, out)?,
            Value::TimestampArray(values) => self.encode_array(values, out)?,
        }
        Ok(())
    }

    fn encode_array<T: Put>(
        &self,
        values: &[Option<T>],
        out: &mut BytesMut,
    ) -> Result<(), Box<dyn StdError + Sync + Send>> {
        let length = i32::try_from(values.len())?;
        let dimension = pg::ArrayDimension { len: length, lower_bound: 1 };
        pg::array_to_sql(
            Some(dimension),
            self.ty().element().oid(),
            values,
            |value, out| match value {
                Some(value) => value.put(out).map(|()| IsNull::No),
                None => Ok(IsNull::Yes),
            },
            out,
        )
    }
}

trait Put {
    fn put(&self, out: &mut BytesMut) -> Result<(), Box<dyn StdError + Sync + Send>>;
}

macro_rules! put {
    ($($ty:ty: |$value:ident, $out:ident| $body:expr;)*) => {$(
        impl Put for $ty {
            fn put(&self, $out: &mut BytesMut) -> Result<(), Box<dyn StdError + Sync + Send>> {
                let $value = self;
                $body;
                Ok(())
            }
        }
    )*};
}

put! {
    bool: |value, out| pg::bool_to_sql(*value, out);
    i16: |value, out| pg::int2_to_sql(*value, out);
    i32: |value, out| pg::int4_to_sql(*value, out);
    i64: |value, out| pg::int8_to_sql(*value, out);
    &str: |value, out| pg::text_to_sql(value, out);
    Cow<'_, str>: |value, out| pg::text_to_sql(value, out);
    &[u8]: |value, out| out.put_slice(value);
    Uuid: |value, out| pg::uuid_to_sql(*value.as_bytes(), out);
    Timestamp: |value, out| pg::timestamp_to_sql(value.to_postgres(), out);
}

/// A Rust type that is sent as one parameter.
pub(crate) trait Parameter<'a> {
    const TYPE: Type;
    fn param(self) -> Value<'a>;
}

/// A Rust type of which many are sent as one parameter.
pub(crate) trait Element<'a>: Sized {
    const ARRAY: Type;
    fn array(values: Vec<Option<Self>>) -> Value<'a>;
}

impl<'a, T: Parameter<'a>> Parameter<'a> for Option<T> {
    const TYPE: Type = T::TYPE;

    fn param(self) -> Value<'a> {
        self.map_or(Value::Null(T::TYPE), T::param)
    }
}

macro_rules! parameters {
    ($($ty:ty, $scalar:ident, $array:ident: |$value:ident| $element:expr;)*) => {$(
        impl<'a> Parameter<'a> for $ty {
            const TYPE: Type = Type::$scalar;

            fn param(self) -> Value<'a> {
                Value::$scalar(self)
            }
        }

        impl<'a> Element<'a> for $ty {
            const ARRAY: Type = Type::$array;

            fn array(values: Vec<Option<Self>>) -> Value<'a> {
                Value::$array(values.into_iter().map(|value| value.map(|$value| $element)).collect())
            }
        }
    )*};
}

parameters! {
    bool, Bool, BoolArray: |value| value;
    i16, Int2, Int2Array: |value| value;
    i32, Int4, Int4Array: |value| value;
    i64, Int8, Int8Array: |value| value;
    &'a str, Text, TextArray: |value| Cow::Borrowed(value);
    &'a [u8], Bytes, BytesArray: |value| value;
    Uuid, Uuid, UuidArray: |value| value;
    Timestamp, Timestamp, TimestampArray: |value| value;
}

impl<'a> Element<'a> for String {
    const ARRAY: Type = Type::TextArray;

    fn array(values: Vec<Option<Self>>) -> Value<'a> {
        Value::TextArray(values.into_iter().map(|value| value.map(Cow::Owned)).collect())
    }
}

/// A maximum number of rows.
impl<'a> Parameter<'a> for usize {
    const TYPE: Type = Type::Int8;

    fn param(self) -> Value<'a> {
        Value::Int8(i64::try_from(self).unwrap_or(i64::MAX))
    }
}

/// Milliseconds.
impl<'a> Parameter<'a> for Duration {
    const TYPE: Type = Type::Int8;

    fn param(self) -> Value<'a> {
        Value::Int8(whole_ms(self))
    }
}

/// Returns one column of a batch: the value of `field` for each item.
pub(crate) fn column<'a, I, T: Element<'a>>(items: &'a [I], field: impl Fn(&'a I) -> T) -> Value<'a> {
    T::array(items.iter().map(|item| Some(field(item))).collect())
}

/// Returns one column of a batch, or a null instead of an array of nulls only, which `unnest` pads.
pub(crate) fn optional_column<'a, I, T: Element<'a>>(items: &'a [I], field: impl Fn(&'a I) -> Option<T>) -> Value<'a> {
    let values: Vec<Option<T>> = items.iter().map(field).collect();
    if values.iter().any(Option::is_some) { T::array(values) } else { Value::Null(T::ARRAY) }
}
