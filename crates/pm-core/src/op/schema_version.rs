//! Reading how far the schema has been migrated.

use crate::statement::Definition;
use crate::wire::{Rows, Type};
use crate::{Error, Operation, Params, StatementId};

pub(crate) const SCHEMA_VERSION: Definition =
    Definition { sql: include_str!("schema_version.sql"), params: &[], columns: &[Type::Int4] };

/// Reads the version of the schema. Fails like any statement on missing tables when there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaVersion;

impl Operation for SchemaVersion {
    type Output = u32;
    const STATEMENT: StatementId = StatementId::SchemaVersion;

    fn params(&self) -> Params<'_> {
        Vec::new()
    }

    fn interpret(self, rows: &Rows) -> Result<u32, Error> {
        let mut row = rows.only(Self::STATEMENT)?;
        crate::job::read_count(&mut row)
    }
}
