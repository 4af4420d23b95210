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

/// Declares the types of parameters and columns: a scalar and the array of it, with the name of the scalar in SQL, the
/// object ids of both, which are the same in every Postgres (`pg_type.dat` in its source), and the Rust types of a
/// value and of an element.
macro_rules! types {
    ($($scalar:ident $array:ident: $name:literal, $oid:literal, $array_oid:literal, $value:ty, $element:ty;)*) => {
        /// The types of parameters and columns.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs)] // named after the SQL types
        pub enum Type {
            $($scalar,)*
            $($array,)*
        }

        impl Type {
            /// All types.
            pub(crate) const ALL: [Type; [$($oid, $array_oid),*].len()] = [$(Type::$scalar, Type::$array),*];

            /// Returns the type's object id.
            pub fn oid(self) -> u32 {
                match self {
                    $(Type::$scalar => $oid, Type::$array => $array_oid,)*
                }
            }

            /// Returns the type's name in SQL.
            pub fn name(self) -> &'static str {
                match self {
                    $(Type::$scalar => $name, Type::$array => concat!($name, "[]"),)*
                }
            }

            fn element(self) -> Type {
                match self {
                    $(Type::$scalar | Type::$array => Type::$scalar,)*
                }
            }
        }

        /// One parameter. Text and bytes are borrowed; a null has a type.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)] // named after their types
        pub enum Value<'a> {
            Null(Type),
            $($scalar($value),)*
            $($array(Vec<Option<$element>>),)*
        }

        impl Value<'_> {
            /// Returns the value's type.
            pub fn ty(&self) -> Type {
                match self {
                    Value::Null(ty) => *ty,
                    $(Value::$scalar(_) => Type::$scalar, Value::$array(_) => Type::$array,)*
                }
            }

            /// Appends the value's binary form to `out`; nothing for a null.
            ///
            /// # Errors
            ///
            /// If an array or one of its elements is over 2 GiB long, the limit of the protocol.
            pub fn encode(&self, out: &mut BytesMut) -> Result<(), Box<dyn StdError + Sync + Send>> {
                match self {
                    Value::Null(_) => Ok(()),
                    $(Value::$scalar(value) => value.put(out), Value::$array(values) => self.encode_array(values, out),)*
                }
            }
        }
    };
}

types! {
    Bool BoolArray: "bool", 16, 1000, bool, bool;
    Int2 Int2Array: "int2", 21, 1005, i16, i16;
    Int4 Int4Array: "int4", 23, 1007, i32, i32;
    Int8 Int8Array: "int8", 20, 1016, i64, i64;
    Text TextArray: "text", 25, 1009, &'a str, Cow<'a, str>;
    Bytes BytesArray: "bytea", 17, 1001, &'a [u8], &'a [u8];
    Uuid UuidArray: "uuid", 2950, 2951, Uuid, Uuid;
    Timestamp TimestampArray: "timestamptz", 1184, 1185, Timestamp, Timestamp;
}

/// The parameters of one statement, in order.
pub type Params<'a> = Vec<Value<'a>>;

impl Value<'_> {
    /// Returns whether the value is null; then [`Value::encode`] writes nothing.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null(_))
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
