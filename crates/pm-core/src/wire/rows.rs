//! Replies to statements. They are untrusted input: an unexpected shape is an error, never a panic.

use crate::{Error, StatementId, Timestamp};
use bytes::Bytes;
use fallible_iterator::FallibleIterator;
use postgres_protocol::types as pg;
use std::error::Error as StdError;
use uuid::Uuid;

/// The rows of one reply. Its cells, in binary form, share one buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    columns: usize,
    buffer: Bytes,
    /// The start and length of each cell; a null has no length.
    cells: Vec<(usize, Option<usize>)>,
}

/// Builds a reply cell by cell.
#[derive(Debug)]
pub struct RowsBuilder {
    columns: usize,
    buffer: Vec<u8>,
    cells: Vec<(usize, Option<usize>)>,
}

impl RowsBuilder {
    /// Adds the next cell, row by row from left to right; `None` is a null.
    pub fn push(&mut self, cell: Option<&[u8]>) {
        self.cells.push((self.buffer.len(), cell.map(<[u8]>::len)));
        self.buffer.extend_from_slice(cell.unwrap_or_default());
    }

    /// Returns the finished reply.
    pub fn finish(self) -> Rows {
        Rows { columns: self.columns, buffer: Bytes::from(self.buffer), cells: self.cells }
    }
}

impl Rows {
    /// Returns a builder of rows with this many columns.
    pub fn builder(columns: usize) -> RowsBuilder {
        RowsBuilder { columns, buffer: Vec::new(), cells: Vec::new() }
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.cells.len().checked_div(self.columns).unwrap_or(0)
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the rows in order. Errors that occur when reading them name `statement`.
    pub fn iter(&self, statement: StatementId) -> impl Iterator<Item = Row<'_>> {
        self.cells.chunks_exact(self.columns.max(1)).map(move |cells| Row {
            buffer: &self.buffer,
            cells,
            next: 0,
            statement,
        })
    }

    /// Returns the only row.
    ///
    /// # Errors
    ///
    /// [`Error::Reply`] if there is none, or more than one.
    pub fn only(&self, statement: StatementId) -> Result<Row<'_>, Error> {
        self.at_most_one(statement)?.ok_or_else(|| Error::Reply { statement, problem: "no row".to_owned() })
    }

    /// Returns the only row, or `None` if there are no rows.
    ///
    /// # Errors
    ///
    /// [`Error::Reply`] if there is more than one row.
    pub fn at_most_one(&self, statement: StatementId) -> Result<Option<Row<'_>>, Error> {
        match self.len() {
            0 | 1 => Ok(self.iter(statement).next()),
            rows => Err(Error::Reply { statement, problem: format!("{rows} rows instead of one") }),
        }
    }
}

/// One row, whose cells are read from left to right.
#[derive(Debug)]
pub struct Row<'a> {
    buffer: &'a Bytes,
    cells: &'a [(usize, Option<usize>)],
    next: usize,
    statement: StatementId,
}

impl Row<'_> {
    /// Returns the next cell as a count: the absolute value of an `int8`.
    pub(crate) fn count(&mut self) -> Result<u64, Error> {
        self.read::<i64>().map(i64::unsigned_abs)
    }

    /// Returns the next cell.
    ///
    /// # Errors
    ///
    /// [`Error::Reply`] if there are no more cells, or the cell is not a `T`.
    pub fn read<T: FromCell>(&mut self) -> Result<T, Error> {
        let column = self.next;
        self.next += 1;
        let odd = |problem: String| Error::Reply {
            statement: self.statement,
            problem: format!("column {column}: {problem}"),
        };
        let (start, length) = *self.cells.get(column).ok_or_else(|| odd("missing".to_owned()))?;
        let cell = length.map(|length| self.buffer.slice(start..start + length));
        T::from_cell(cell).map_err(|error| odd(error.to_string()))
    }

    /// Returns an error about an unexpected value in this row.
    pub(crate) fn odd(&self, problem: impl Into<String>) -> Error {
        Error::Reply { statement: self.statement, problem: problem.into() }
    }
}

/// A type that a cell can be read as.
pub trait FromCell: Sized {
    /// Decodes a cell; `None` is a null.
    ///
    /// # Errors
    ///
    /// If the bytes are not a valid encoding of this type.
    fn from_cell(cell: Option<Bytes>) -> Result<Self, Box<dyn StdError + Sync + Send>>;
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: Option<Bytes>) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        cell.map(|cell| T::from_cell(Some(cell))).transpose()
    }
}

macro_rules! from_cell {
    ($($ty:ty: |$cell:ident| $body:expr;)*) => {$(
        impl FromCell for $ty {
            fn from_cell(cell: Option<Bytes>) -> Result<Self, Box<dyn StdError + Sync + Send>> {
                let $cell = cell.ok_or("is null")?;
                $body
            }
        }
    )*};
}

from_cell! {
    bool: |cell| pg::bool_from_sql(&cell);
    i16: |cell| pg::int2_from_sql(&cell);
    i32: |cell| pg::int4_from_sql(&cell);
    i64: |cell| pg::int8_from_sql(&cell);
    String: |cell| Ok(pg::text_from_sql(&cell)?.to_owned());
    Bytes: |cell| Ok(cell);
    Uuid: |cell| Ok(Uuid::from_bytes(pg::uuid_from_sql(&cell)?));
    Timestamp: |cell| Ok(Timestamp::from_postgres(pg::timestamp_from_sql(&cell)?));
    Vec<i32>: |cell| elements(&cell, pg::int4_from_sql);
    Vec<i64>: |cell| elements(&cell, pg::int8_from_sql);
    AnyShape: |cell| any_shape(&cell);
}

/// The elements of an `int8[]` of any dimensions, in order and without nulls: a column that other programs may write.
pub(crate) struct AnyShape(pub(crate) Vec<i64>);

fn any_shape(cell: &[u8]) -> Result<AnyShape, Box<dyn StdError + Sync + Send>> {
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

fn elements<T>(
    cell: &[u8],
    read: impl Fn(&[u8]) -> Result<T, Box<dyn StdError + Sync + Send>>,
) -> Result<Vec<T>, Box<dyn StdError + Sync + Send>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Type, Value};
    use bytes::BytesMut;
    use proptest::prelude::*;

    fn reread<T: FromCell>(value: &Value<'_>) -> T {
        let mut bytes = BytesMut::new();
        value.encode(&mut bytes).unwrap();
        let mut rows = Rows::builder(1);
        rows.push((!value.is_null()).then_some(&bytes));
        rows.finish().only(StatementId::Job).unwrap().read().unwrap()
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

    proptest! {
        #[test]
        fn scalars_round_trip(small: i16, middle: i32, large: i64, flag: bool, text: String, raw: Vec<u8>, id: u128) {
            prop_assert_eq!(reread::<i16>(&Value::Int2(small)), small);
            prop_assert_eq!(reread::<i32>(&Value::Int4(middle)), middle);
            prop_assert_eq!(reread::<i64>(&Value::Int8(large)), large);
            prop_assert_eq!(reread::<bool>(&Value::Bool(flag)), flag);
            prop_assert_eq!(reread::<String>(&Value::Text(&text)), text.clone());
            prop_assert_eq!(reread::<Bytes>(&Value::Bytes(&raw)), raw.clone());
            prop_assert_eq!(reread::<Uuid>(&Value::Uuid(Uuid::from_u128(id))), Uuid::from_u128(id));
        }

        #[test]
        fn arrays_round_trip(middle: Vec<i32>, large: Vec<i64>) {
            prop_assert_eq!(reread::<Vec<i32>>(&Value::Int4Array(middle.iter().copied().map(Some).collect())), middle);
            prop_assert_eq!(reread::<Vec<i64>>(&Value::Int8Array(large.iter().copied().map(Some).collect())), large);
        }

        #[test]
        fn no_cell_makes_reading_panic(bytes: Vec<u8>) {
            let mut rows = Rows::builder(1);
            rows.push(Some(&bytes));
            let rows = rows.finish();
            let row = || rows.only(StatementId::Job).unwrap();
            // An error is fine; only a panic fails the test.
            drop((row().read::<bool>(), row().read::<i16>(), row().read::<i32>(), row().read::<i64>()));
            drop((row().read::<String>(), row().read::<Uuid>(), row().read::<Timestamp>()));
            drop((row().read::<Vec<i32>>(), row().read::<Vec<i64>>()));
        }
    }

    #[test]
    fn nulls_and_missing_cells_are_distinguished() {
        let mut rows = Rows::builder(1);
        rows.push(None);
        let rows = rows.finish();
        let mut row = rows.only(StatementId::Job).unwrap();
        assert_eq!(row.read::<Option<i32>>(), Ok(None));
        assert!(row.read::<Option<i32>>().unwrap_err().to_string().contains("column 1: missing"));
        assert!(rows.only(StatementId::Job).unwrap().read::<i32>().unwrap_err().to_string().contains("is null"));
    }

    #[test]
    fn the_number_of_rows_is_checked() {
        assert!(Rows::builder(0).finish().is_empty());
        let mut rows = Rows::builder(1);
        rows.push(None);
        rows.push(None);
        assert!(rows.finish().only(StatementId::Job).is_err());
        assert!(Rows::builder(2).finish().only(StatementId::Job).is_err());
    }
}
