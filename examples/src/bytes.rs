//! Passing the core's encoded values through the `postgres` crate, bypassing its own types.

use ::bytes::BytesMut;
use pm_core::{Failure, Rows, Value};
use postgres::Client;
use postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use std::error::Error;

/// A parameter that the core has encoded.
#[derive(Debug)]
pub struct Parameter(Option<BytesMut>);

impl ToSql for Parameter {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let Some(bytes) = &self.0 else { return Ok(IsNull::Yes) };
        out.extend_from_slice(bytes);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A cell that the core will decode.
struct Cell<'a>(Option<&'a [u8]>);

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

/// Encodes a parameter; returns it with its type.
///
/// # Errors
///
/// When the protocol cannot represent the value.
pub fn encoded(value: &Value<'_>) -> Result<(Parameter, Type), Failure> {
    let mut bytes = BytesMut::new();
    value.encode(&mut bytes).map_err(|error| Failure::unsendable(error.to_string()))?;
    let ty = Type::from_oid(value.ty().oid()).unwrap_or(Type::UNKNOWN);
    Ok((Parameter((!value.is_null()).then_some(bytes)), ty))
}

/// Runs a statement and returns its rows, with this number of columns.
///
/// # Errors
///
/// The error of the client; see [`failure`].
pub fn rows_of(
    client: &mut Client,
    text: &str,
    params: &[(Parameter, Type)],
    columns: usize,
) -> Result<Rows, postgres::Error> {
    let params: Vec<_> = params.iter().map(|(param, ty)| (param as &(dyn ToSql + Sync), ty.clone())).collect();
    let mut rows = Rows::builder(columns);
    for row in client.query_typed(text, &params)? {
        for column in 0..row.len() {
            rows.push(row.try_get::<_, Cell<'_>>(column)?.0);
        }
    }
    Ok(rows.finish())
}

/// Converts the error of a statement that was sent into a failure.
pub fn failure(error: &postgres::Error) -> Failure {
    match error.as_db_error() {
        Some(error) => {
            Failure::reported(error.code().code(), error.constraint(), error.message()).with_detail(error.detail())
        }
        None => Failure::no_reply(error.to_string()),
    }
}
