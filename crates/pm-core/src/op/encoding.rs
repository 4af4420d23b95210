//! Reading the encoding of the database.

use crate::StatementId;
use crate::operation::operation;
use crate::statement::{Declaration, roles};

/// Returns the name of the encoding in which the database stores texts, for
/// [`Plan::fitted_texts`](crate::Plan::fitted_texts).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding;

operation! {
    Encoding: only String;
    Declaration::hot(StatementId::Encoding, include_str!("encoding.sql"), roles::ALL);
}
