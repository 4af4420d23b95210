//! Reading the encoding of the database.

use super::only;
use crate::statement::{Declaration, roles};
use crate::wire::Rows;
use crate::{Error, Operation, StatementId};

/// Returns the name of the encoding in which the database stores texts, for
/// [`Plan::fitted_texts`](crate::Plan::fitted_texts).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding;

impl Operation for Encoding {
    type Row = String;
    type Output = String;
    const DECLARATION: Declaration = Declaration::hot(StatementId::Encoding, include_str!("encoding.sql"), roles::ALL);

    fn interpret(&self, rows: &Rows) -> Result<String, Error> {
        only::<Self>(rows)
    }
}
