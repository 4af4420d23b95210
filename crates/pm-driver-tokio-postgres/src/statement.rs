//! Statements in the form of tokio-postgres; its rows and errors in the form of the core.

use crate::cell::{Cell, Parameter};
use futures_util::TryStreamExt;
use pm_queue::driver::{Failure, Rows, Statement, Value};
use std::pin::pin;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, RowStream};

/// Returns the types of a statement's parameters.
pub(crate) fn parameter_types(statement: &Statement) -> Vec<Type> {
    statement.params.iter().filter_map(|ty| postgres_type(ty.oid())).collect()
}

/// Returns the parameters with their types.
pub(crate) fn typed<'a>(params: &'a [Value<'a>]) -> impl ExactSizeIterator<Item = (Parameter<'a>, Type)> {
    params.iter().map(|param| (Parameter(param), postgres_type(param.ty().oid()).unwrap_or(Type::UNKNOWN)))
}

/// Returns the rows of a reply.
pub(crate) async fn collect(rows: RowStream, statement: &Statement) -> Result<Rows, Error> {
    let mut rows = pin!(rows);
    let mut collected = Rows::builder(statement.columns.len());
    while let Some(row) = rows.try_next().await? {
        for column in 0..row.len() {
            collected.push(row.try_get::<_, Cell<'_>>(column)?.0);
        }
    }
    Ok(collected.finish())
}

/// Converts an error into a failure; `closed` is whether the connection is closed.
pub(crate) fn failure(error: &Error, closed: bool) -> Failure {
    if let Some(reported) = error.as_db_error() {
        let failure = Failure::reported(reported.code().code(), reported.constraint(), reported.message());
        return failure.with_detail(reported.detail());
    }
    let broken = std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>());
    match closed || broken || error.is_closed() {
        true => Failure::no_reply(message_chain(error)),
        false => Failure::unsendable(message_chain(error)),
    }
}

fn postgres_type(oid: u32) -> Option<Type> {
    Type::from_oid(oid)
}

/// Returns the messages of an error and its causes in one line.
pub(crate) fn message_chain(error: &dyn std::error::Error) -> String {
    let mut messages = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let message = source.to_string();
        if !messages.contains(&message) {
            messages = format!("{messages}: {message}");
        }
        cause = source.source();
    }
    messages
}
