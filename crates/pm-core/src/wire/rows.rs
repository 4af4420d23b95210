//! Replies to statements. They are untrusted input: an unexpected shape is an error, never a panic.

use super::{Type, Value};
use crate::{Error, StatementId};
use bytes::{Bytes, BytesMut};
use std::error::Error as StdError;
use std::fmt;

/// A column of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The name, as in the statement; empty if the reply has only this column.
    pub name: &'static str,
    /// The type.
    pub ty: Type,
}

/// A type that is stored in successive columns of a reply: a scalar, or a struct of `columns!`.
pub trait Columns: Sized {
    /// The columns, in order. That of a scalar has no name of its own.
    const COLUMNS: &'static [Column];

    /// Reads the columns from the next cells of a row.
    ///
    /// # Errors
    ///
    /// [`Error::Reply`] if there are too few cells, or one is not valid.
    fn read(row: &mut Row<'_>) -> Result<Self, Error>;

    /// Adds the columns to a reply, as the next cells.
    fn write(&self, reply: &mut RowsBuilder);
}

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

    /// Adds the next cell.
    ///
    /// # Panics
    ///
    /// If the value is over 2 GiB long.
    pub(super) fn push_value(&mut self, value: &Value<'_>) {
        let mut bytes = BytesMut::new();
        value.encode(&mut bytes).expect("no model of the database stores values of 2 GiB");
        self.push((!value.is_null()).then_some(&bytes));
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

/// Why a cell cannot be read.
pub(super) type CellError = Box<dyn StdError + Sync + Send>;

impl Row<'_> {
    /// Returns the value of the next cells.
    ///
    /// # Errors
    ///
    /// [`Error::Reply`] if there are no more cells, or they are not a `T`.
    pub fn read<T: Columns>(&mut self) -> Result<T, Error> {
        T::read(self)
    }

    /// Returns the next cell, decoded.
    pub(super) fn cell<T>(&mut self, decode: impl FnOnce(Bytes) -> Result<T, CellError>) -> Result<T, Error> {
        let column = self.next;
        self.next += 1;
        let odd = |problem: &dyn fmt::Display| self.odd(format!("column {column}: {problem}"));
        let (start, length) = *self.cells.get(column).ok_or_else(|| odd(&"missing"))?;
        let length = length.ok_or_else(|| odd(&"is null"))?;
        decode(self.buffer.slice(start..start + length)).map_err(|error| odd(&error))
    }

    /// Returns whether there is a next cell, and it is a null.
    pub(super) fn is_next_null(&self) -> bool {
        self.cells.get(self.next).is_some_and(|(_, length)| length.is_none())
    }

    /// Skips cells. There must be at least as many.
    pub(super) fn skip(&mut self, cells: usize) -> Result<(), Error> {
        self.next += cells;
        match self.next <= self.cells.len() {
            true => Ok(()),
            false => Err(self.odd(format!("column {}: missing", self.cells.len()))),
        }
    }

    /// Returns an error about an unexpected value in this row.
    pub(crate) fn odd(&self, problem: String) -> Error {
        Error::Reply { statement: self.statement, problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn reread<T: Columns>(value: &Value<'_>) -> T {
        let mut bytes = BytesMut::new();
        value.encode(&mut bytes).unwrap();
        let mut rows = Rows::builder(1);
        rows.push((!value.is_null()).then_some(&bytes));
        rows.finish().only(StatementId::Job).unwrap().read().unwrap()
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
