//! Reading the encoding of the database.

use crate::statement::{ConnectionClass, Definition, roles};
use crate::wire::{Rows, Type};
use crate::{Error, Operation, Params, StatementId};

pub(crate) const ENCODING: Definition = Definition {
    id: StatementId::Encoding,
    class: ConnectionClass::Hot,
    roles: roles::ALL,
    sql: include_str!("encoding.sql"),
    params: &[],
    columns: &[Type::Text],
};

/// Returns the name of the encoding in which the database stores texts, for
/// [`Plan::fitted_texts`](crate::Plan::fitted_texts).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding;

impl Operation for Encoding {
    type Output = String;
    const STATEMENT: StatementId = StatementId::Encoding;

    fn params(&self) -> Params<'_> {
        Vec::new()
    }

    fn interpret(self, rows: &Rows) -> Result<String, Error> {
        rows.only(Self::STATEMENT)?.read()
    }
}
