//! Typed values in Postgres' binary format, both ways.

mod rows;
mod value;

pub use rows::{FromCell, Row, Rows, RowsBuilder};
pub use value::{Params, Type, Value};

pub(crate) use rows::AnyShape;
pub(crate) use value::{column, optional_column};
