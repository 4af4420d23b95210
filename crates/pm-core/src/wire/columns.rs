//! Columns of replies as Rust types: what declares a column also reads it and, for models of the database, writes it.

use super::rows::{CellError, Column, Columns, Row, RowsBuilder};
use super::{Type, Value};
use crate::time::{from_ms, whole_ms};
use crate::{Codec, Ending, Error, State, Timestamp};
use bytes::Bytes;
use fallible_iterator::FallibleIterator;
use postgres_protocol::types as pg;
use std::time::Duration;
use uuid::Uuid;

/// Columns that are all null for `None`. On reading, the first one decides.
impl<T: Columns> Columns for Option<T> {
    const COLUMNS: &'static [Column] = T::COLUMNS;

    fn read(row: &mut Row<'_>) -> Result<Self, Error> {
        match row.is_next_null() {
            true => row.skip(T::COLUMNS.len()).map(|()| None),
            false => T::read(row).map(Some),
        }
    }

    fn write(&self, reply: &mut RowsBuilder) {
        match self {
            Some(value) => value.write(reply),
            None => T::COLUMNS.iter().for_each(|_| reply.push(None)),
        }
    }
}

/// Declares a struct as the columns of a reply, in the order of its fields. A field that is not named after its column
/// names it: `ending: Ending as "verdict"`. A field of a struct stands for the columns of that struct.
macro_rules! columns {
    ($($(#[$attribute:meta])* $outer:vis struct $struct:ident {
        $($(#[$field_attribute:meta])* $visibility:vis $field:ident: $ty:ty $(as $column:literal)?,)*
    })*) => {$(
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs)] // a field without a comment is named after its column
        $outer struct $struct {
            $($(#[$field_attribute])* $visibility $field: $ty,)*
        }

        impl $crate::wire::Columns for $struct {
            const COLUMNS: &'static [$crate::wire::Column] = {
                const PARTS: &[(&str, &[$crate::wire::Column])] = &[$((
                    [$($column,)? stringify!($field)][0],
                    <$ty as $crate::wire::Columns>::COLUMNS,
                )),*];
                &$crate::wire::joined::<{ $crate::wire::count(PARTS) }>(PARTS)
            };

            fn read(row: &mut $crate::wire::Row<'_>) -> Result<Self, $crate::Error> {
                Ok($struct { $($field: row.read()?,)* })
            }

            fn write(&self, reply: &mut $crate::wire::RowsBuilder) {
                $($crate::wire::Columns::write(&self.$field, reply);)*
            }
        }
    )*};
}
pub(crate) use columns;

/// Returns the number of columns of some parts.
pub(crate) const fn count(parts: &[(&str, &[Column])]) -> usize {
    let (mut columns, mut part) = (0, 0);
    while part < parts.len() {
        columns += parts[part].1.len();
        part += 1;
    }
    columns
}

/// Returns the columns of some parts; a column without a name gets that of its part.
pub(crate) const fn joined<const COUNT: usize>(parts: &[(&'static str, &[Column])]) -> [Column; COUNT] {
    let mut columns = [Column { name: "", ty: Type::Bool }; COUNT];
    let (mut next, mut part) = (0, 0);
    while part < parts.len() {
        let (name, of_part) = parts[part];
        let mut index = 0;
        while index < of_part.len() {
            let column = of_part[index];
            columns[next] = if column.name.is_empty() { Column { name, ty: column.ty } } else { column };
            (next, index) = (next + 1, index + 1);
        }
        part += 1;
    }
    columns
}

macro_rules! scalars {
    ($($ty:ty, $name:ident: |$cell:ident| $read:expr, |$value:ident| $write:expr;)*) => {$(
        impl Columns for $ty {
            const COLUMNS: &'static [Column] = &[Column { name: "", ty: Type::$name }];

            fn read(row: &mut Row<'_>) -> Result<Self, Error> {
                row.cell(|$cell| $read)
            }

            fn write(&self, reply: &mut RowsBuilder) {
                let $value = self;
                reply.push_value(&Value::$name($write));
            }
        }
    )*};
}

scalars! {
    bool, Bool: |cell| pg::bool_from_sql(&cell), |value| *value;
    i16, Int2: |cell| pg::int2_from_sql(&cell), |value| *value;
    i32, Int4: |cell| pg::int4_from_sql(&cell), |value| *value;
    i64, Int8: |cell| pg::int8_from_sql(&cell), |value| *value;
    String, Text: |cell| Ok(pg::text_from_sql(&cell)?.to_owned()), |value| value;
    Box<str>, Text: |cell| Ok(pg::text_from_sql(&cell)?.into()), |value| value;
    Bytes, Bytes: |cell| Ok(cell), |value| value;
    Uuid, Uuid: |cell| Ok(Uuid::from_bytes(pg::uuid_from_sql(&cell)?)), |value| *value;
    Timestamp, Timestamp: |cell| Ok(Timestamp::from_postgres(pg::timestamp_from_sql(&cell)?)), |value| *value;
    Vec<i32>, Int4Array: |cell| elements(&cell, pg::int4_from_sql), |value| some(value);
    Vec<i64>, Int8Array: |cell| elements(&cell, pg::int8_from_sql), |value| some(value);
    AnyShape, Int8Array: |cell| any_shape(&cell), |value| some(&value.0);
}

/// Implements [`Columns`] for a type that is stored as another one. Reading returns `None` for an unexpected value.
macro_rules! stored {
    ($($ty:ty as $stored:ty: |$column:ident| $read:expr, |$value:ident| $write:expr;)*) => {$(
        impl $crate::wire::Columns for $ty {
            const COLUMNS: &'static [$crate::wire::Column] = <$stored as $crate::wire::Columns>::COLUMNS;

            fn read(row: &mut $crate::wire::Row<'_>) -> Result<Self, $crate::Error> {
                let $column: $stored = row.read()?;
                let read: Option<$ty> = $read;
                read.ok_or_else(|| row.odd(format!("{} {:?}", stringify!($ty), $column)))
            }

            fn write(&self, reply: &mut $crate::wire::RowsBuilder) {
                let $value = self;
                <$stored as $crate::wire::Columns>::write(&$write, reply);
            }
        }
    )*};
}
pub(crate) use stored;

stored! {
    // pm never writes a negative count; one must not prevent the row from being read.
    u32 as i32: |column| Some(u32::try_from(column).unwrap_or(0)), |value| i32::try_from(*value).unwrap_or(i32::MAX);
    u64 as i64: |column| Some(column.unsigned_abs()), |value| i64::try_from(*value).unwrap_or(i64::MAX);
    // Milliseconds.
    Duration as i64: |column| Some(from_ms(column)), |value| whole_ms(*value);
    // pm never writes another code. No worker runs such a job and a restart repairs it, as with a failed one.
    State as i16: |column| Some(State::from_code(column).unwrap_or(State::Failed)), |value| value.code();
    Codec as i16: |column| Some(Codec::from_code(column)), |value| value.code();
    Ending as i16: |column| Ending::from_code(column), |value| value.code();
}

/// The elements of an `int8[]` of any dimensions, in order and without nulls: a column that other programs may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnyShape(pub Vec<i64>);

fn any_shape(cell: &[u8]) -> Result<AnyShape, CellError> {
    let array = pg::array_from_sql(cell)?;
    let mut elements = Vec::new();
    let mut cells = array.values().take(MAX_ELEMENTS);
    while let Some(cell) = cells.next()? {
        elements.extend(cell.map(pg::int8_from_sql).transpose()?);
    }
    Ok(AnyShape(elements))
}

/// More elements than any array of a valid reply has: the length that the input claims is not trusted.
const MAX_ELEMENTS: usize = 1 << 20;

fn elements<T>(cell: &[u8], read: impl Fn(&[u8]) -> Result<T, CellError>) -> Result<Vec<T>, CellError> {
    let array = pg::array_from_sql(cell)?;
    if array.dimensions().count()? > 1 {
        return Err("array of more than one dimension".into());
    }
    let mut values = Vec::new();
    let mut cells = array.values();
    while let Some(cell) = cells.next()? {
        if values.len() == MAX_ELEMENTS {
            return Err("array is too long".into());
        }
        values.push(read(cell.ok_or("array holds a null")?)?);
    }
    Ok(values)
}

fn some<T: Copy>(values: &[T]) -> Vec<Option<T>> {
    values.iter().copied().map(Some).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rows, StatementId};

    columns! {
        /// A length and a width.
        struct Size {
            length: i64,
            width: i64,
        }
        /// A row with a struct.
        struct Found {
            name: String,
            size: Option<Size>,
            ending: Option<Ending> as "verdict",
        }
    }

    fn reread(found: &[Found]) -> Result<Vec<Found>, Error> {
        let mut rows = Rows::builder(Found::COLUMNS.len());
        found.iter().for_each(|found| found.write(&mut rows));
        rows.finish().iter(StatementId::Job).map(|mut row| row.read()).collect()
    }

    #[test]
    fn a_struct_is_written_read_and_described_in_one_order() {
        let names: Vec<_> = Found::COLUMNS.iter().map(|column| column.name).collect();
        assert_eq!(names, ["name", "length", "width", "verdict"]);
        assert_eq!(
            Found::COLUMNS.iter().map(|column| column.ty.name()).collect::<Vec<_>>(),
            ["text", "int8", "int8", "int2"]
        );
        let size = Some(Size { length: 3, width: -4 });
        let found = [("a", size, Some(Ending::Reap)), ("b", None, None)];
        let found = found.map(|(name, size, ending)| Found { name: name.to_owned(), size, ending });
        assert_eq!(reread(&found), Ok(found.to_vec()));
    }

    #[test]
    fn an_unknown_state_is_read_as_failed_and_an_unknown_ending_is_refused() {
        let read = |code: i16| {
            let mut rows = Rows::builder(1);
            code.write(&mut rows);
            let rows = rows.finish();
            let row = || rows.only(StatementId::Job).unwrap();
            (row().read::<State>().unwrap(), row().read::<Ending>().is_ok())
        };
        assert_eq!(
            [-1, 0, 3, 9].map(|code| read(code).0),
            [State::Failed, State::Pending, State::Failed, State::Failed]
        );
        assert_eq!([-1, 0, 11, 12].map(|code| read(code).1), [false, true, true, false]);
    }

    #[test]
    fn an_array_of_any_shape_is_read_as_a_list() {
        let header = |dimensions: &[(i32, i32)]| {
            let mut bytes = vec![dimensions.len() as i32, 1, Type::Int8.oid() as i32];
            bytes.extend(dimensions.iter().flat_map(|(length, lower)| [*length, *lower]));
            bytes.into_iter().flat_map(i32::to_be_bytes).collect::<Vec<u8>>()
        };
        let element = |n: i64| [&8i32.to_be_bytes()[..], &n.to_be_bytes()].concat();
        let null = (-1i32).to_be_bytes().to_vec();
        let empty = header(&[]);
        let square = [header(&[(2, 1), (2, 5)]), (1..=4).flat_map(element).collect()].concat();
        let with_null = [header(&[(2, 1)]), null, element(7)].concat();
        let read = |cell: &[u8]| any_shape(cell).unwrap().0;
        assert_eq!([read(&empty), read(&square), read(&with_null)], [vec![], vec![1, 2, 3, 4], vec![7]]);
    }
}
