//! Values as bytes, bypassing the types of tokio-postgres.

use bytes::BytesMut;
use pm_queue::driver::Value;
use std::error::Error;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type};

/// A parameter that the core encodes.
#[derive(Debug)]
pub(crate) struct Parameter<'a>(pub(crate) &'a Value<'a>);

impl ToSql for Parameter<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.encode(out)?;
        Ok(if self.0.is_null() { IsNull::Yes } else { IsNull::No })
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

/// A cell that the core decodes.
pub(crate) struct Cell<'a>(pub(crate) Option<&'a [u8]>);

impl<'a> FromSql<'a> for Cell<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Cell(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Cell(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
