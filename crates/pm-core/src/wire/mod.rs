//! Encoding of parameters and decoding of replies in Postgres's binary format.

mod columns;
mod rows;
mod value;

pub use columns::AnyShape;
pub use rows::{Column, Columns, Row, Rows, RowsBuilder};
pub use value::{Params, Type, Value};

pub(crate) use columns::{columns, count, joined, stored};
pub(crate) use value::{Parameter, column, optional_column};
