//! Reading the encoding of the database.

use crate::statement::{ConnectionClass, Declaration, roles};
use crate::wire::{Rows, Type};
use crate::{Error, Operation, Params, StatementId};

/// Returns the name of the encoding in which the database stores texts, for
/// [`Plan::fitted_texts`](crate::Plan::fitted_texts).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding;

impl Operation for Encoding {
    type Output = String;
    const STATEMENT: StatementId = StatementId::Encoding;
    const DECLARATION: Declaration = Declaration::new(include_str!("encoding.sql"), ConnectionClass::Hot, roles::ALL);
    const COLUMNS: &'static [Type] = &[Type::Text];

    fn params(&self) -> Params<'_> {
        Vec::new()
    }

    fn interpret(self, rows: &Rows) -> Result<String, Error> {
        rows.only(Self::STATEMENT)?.read()
    }
}
