//! Sequences, which may be behind the numbers in use after a failover by logical replication, or a partial restore.

use crate::render::render;
use crate::statement::{ConnectionClass, Declaration, roles};
use crate::wire::{Row, Rows, Type};
use crate::{Error, Operation, Params, SchemaName, StatementId};

/// Reads the last value of each sequence, and the highest number in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequences;

/// The last value of a sequence, and the highest number in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceReading {
    /// Its name, without the schema.
    pub name: String,
    /// The highest number in use; 0 if there is none.
    pub used: u64,
    /// The last value of the sequence; 0 if none was drawn.
    pub drawn: u64,
}

impl Operation for Sequences {
    type Output = Vec<SequenceReading>;
    const STATEMENT: StatementId = StatementId::Sequences;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("sequences.sql"), ConnectionClass::Operator, roles::READ);
    const COLUMNS: &'static [Type] = &[Type::Text, Type::Int8, Type::Int8];

    fn params(&self) -> Params<'_> {
        Vec::new()
    }

    fn interpret(self, rows: &Rows) -> Result<Vec<SequenceReading>, Error> {
        let read =
            |mut row: Row<'_>| Ok(SequenceReading { name: row.read()?, used: row.count()?, drawn: row.count()? });
        rows.iter(Self::STATEMENT).map(read).collect()
    }
}

/// Returns the script that advances the sequence of positions if it is behind, so that no new job comes before older
/// ones. It does nothing if the role lacks a privilege or there are no tables. To be sent as a simple query.
pub fn advance_positions_script(schema: &SchemaName) -> String {
    render(include_str!("advance_positions.sql"), schema)
}
