//! Reading parameters.

use bytes::Bytes;
use pm_core::{Timestamp, Value};
use uuid::Uuid;

/// The parameters of a statement, read from left to right. A parameter of another type than expected is read as null.
#[derive(Clone)]
pub(crate) struct Args<'a>(pub(crate) std::slice::Iter<'a, Value<'a>>);

impl Args<'_> {
    /// Returns the next parameter.
    pub(crate) fn next<T: FromValue>(&mut self) -> Option<T> {
        self.0.next().and_then(T::from_value)
    }

    /// Returns the next parameter, an array; a null is read as empty.
    pub(crate) fn column<T: FromValue>(&mut self) -> Column<T> {
        Column(self.0.next().map(T::from_array).unwrap_or_default())
    }

    /// Returns the elements of the next parameter, an array, without nulls.
    pub(crate) fn all<T: FromValue>(&mut self) -> Vec<T> {
        self.column().0.into_iter().flatten().collect()
    }
}

/// The parameters of one item of a batch, read from left to right.
pub(crate) struct Cells<'a> {
    pub(crate) columns: Args<'a>,
    pub(crate) item: usize,
}

impl Cells<'_> {
    /// Returns the item's value in the next parameter, an array.
    pub(crate) fn next<T: FromValue>(&mut self) -> Option<T> {
        T::element(self.columns.0.next()?, self.item)
    }
}

/// A type that a parameter can be read as.
pub(crate) trait FromValue: Clone {
    fn from_value(value: &Value<'_>) -> Option<Self>;
    fn from_array(value: &Value<'_>) -> Vec<Option<Self>>;
    fn element(value: &Value<'_>, item: usize) -> Option<Self>;
}

/// One column of a batch.
pub(crate) struct Column<T>(Vec<Option<T>>);

impl<T: Clone> Column<T> {
    /// Returns the value of an item.
    pub(crate) fn at(&self, item: usize) -> Option<T> {
        self.0.get(item).cloned().flatten()
    }
}

macro_rules! values {
    ($($ty:ty, $scalar:ident, $array:ident: |$value:ident| $read:expr;)*) => {$(
        impl FromValue for $ty {
            fn from_value(value: &Value<'_>) -> Option<Self> {
                if let Value::$scalar($value) = value { Some($read) } else { None }
            }
            fn from_array(value: &Value<'_>) -> Vec<Option<Self>> {
                let Value::$array(values) = value else { return Vec::new() };
                values.iter().map(|value| value.as_ref().map(|$value| $read)).collect()
            }
            fn element(value: &Value<'_>, item: usize) -> Option<Self> {
                let Value::$array(values) = value else { return None };
                values.get(item)?.as_ref().map(|$value| $read)
            }
        }
    )*};
}

values! {
    bool, Bool, BoolArray: |value| *value;
    i16, Int2, Int2Array: |value| *value;
    i32, Int4, Int4Array: |value| *value;
    i64, Int8, Int8Array: |value| *value;
    Uuid, Uuid, UuidArray: |value| *value;
    Timestamp, Timestamp, TimestampArray: |value| *value;
    String, Text, TextArray: |value| value.to_string();
    Bytes, Bytes, BytesArray: |value| Bytes::copy_from_slice(value);
}
