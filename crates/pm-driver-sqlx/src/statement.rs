//! Values as bytes, bypassing the types of sqlx, and rows from its streams.

use bytes::BytesMut;
use futures_util::TryStreamExt;
use pm_queue::driver::{Failure, Rows, Statement, Value};
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgDatabaseError, PgTypeInfo};
use sqlx::{Arguments, AssertSqlSafe, Error, PgConnection, PgPool, Postgres, Row, Type};

/// A parameter that the core encodes.
struct Parameter<'a>(&'a Value<'a>);

impl Type<Postgres> for Parameter<'_> {
    fn type_info() -> PgTypeInfo {
        // The type `unknown`; `produces` returns each value's own type.
        PgTypeInfo::with_oid(Oid(705))
    }
}

impl Encode<'_, Postgres> for Parameter<'_> {
    fn encode_by_ref(&self, out: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let mut bytes = BytesMut::new();
        self.0.encode(&mut bytes)?;
        out.extend_from_slice(&bytes);
        Ok(if self.0.is_null() { IsNull::Yes } else { IsNull::No })
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.0.ty().oid())))
    }
}

/// Runs a statement and returns its rows; keeps it prepared if it is `persistent`.
pub(crate) async fn rows(
    connection: &mut PgConnection,
    statement: &Statement,
    params: &[Value<'_>],
    persistent: bool,
) -> Result<Rows, Error> {
    let mut arguments = PgArguments::default();
    for param in params {
        arguments.add(Parameter(param)).map_err(Error::Encode)?;
    }
    let text = AssertSqlSafe(statement.text.as_str());
    let mut answer = sqlx::query_with(text, arguments).persistent(persistent).fetch(connection);
    let mut collected = Rows::builder(statement.columns.len());
    while let Some(row) = answer.try_next().await? {
        for column in 0..row.len() {
            // Only NULL has no bytes.
            collected.push(row.try_get_raw(column)?.as_bytes().ok());
        }
    }
    Ok(collected.finish())
}

/// Converts an error of acquiring a connection into a failure.
pub(crate) fn unreachable(pool: &PgPool, error: Error) -> Failure {
    let (server, why) = (pool.connect_options(), error.to_string());
    let reported = matches!(error, Error::Database(_)).then(|| failure(error));
    let host = server.get_socket().map_or_else(|| server.get_host().into(), |path| path.to_string_lossy());
    Failure::unreachable(&format!("{host}:{}", server.get_port()), reported, why)
}

/// Converts an error of a running statement into a failure.
pub(crate) fn failure(error: Error) -> Failure {
    match error {
        Error::Database(reported) => {
            let detail = reported.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::detail);
            let failure =
                Failure::reported(&reported.code().unwrap_or_default(), reported.constraint(), reported.message());
            failure.with_detail(detail)
        }
        Error::Encode(_) => Failure::unsendable(error.to_string()),
        Error::BeginFailed => Failure::not_sent(error.to_string()),
        _ => Failure::no_reply(error.to_string()),
    }
}
