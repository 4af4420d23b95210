//! Encoding of parameters and decoding of replies in Postgres's binary format.

mod rows;
mod value;

pub use rows::{FromCell, Row, Rows, RowsBuilder};
pub use value::{Params, Type, Value};

pub(crate) use rows::AnyShape;
pub(crate) use value::{column, optional_column};
