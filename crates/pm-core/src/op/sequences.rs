//! Sequences that are behind what they number: after a failover by logical replication, or a partial restore.

use crate::statement::{Definition, render};
use crate::wire::{Row, Rows, Type};
use crate::{Error, Operation, Params, SchemaName, StatementId};

pub(crate) const SEQUENCES: Definition =
    Definition { sql: include_str!("sequences.sql"), params: &[], columns: &[Type::Text, Type::Int8, Type::Int8] };

/// Looks how far each sequence has drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequences;

/// How far a sequence has drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceReading {
    /// Its name, without the schema.
    pub name: String,
    /// The highest number that is in use.
    pub used: u64,
    /// The last number that it drew.
    pub drawn: u64,
}

impl Operation for Sequences {
    type Output = Vec<SequenceReading>;
    const STATEMENT: StatementId = StatementId::Sequences;

    fn params(&self) -> Params<'_> {
        Vec::new()
    }

    fn interpret(self, rows: &Rows) -> Result<Vec<SequenceReading>, Error> {
        let read =
            |mut row: Row<'_>| Ok(SequenceReading { name: row.read()?, used: row.count()?, drawn: row.count()? });
        rows.iter(Self::STATEMENT).map(read).collect()
    }
}

/// Returns the script that advances the sequence of positions when it is behind, so that no new job stands before older
/// ones. It does nothing where the role may not or there are no tables. Send it as a simple query.
pub fn advance_positions_script(schema: &SchemaName) -> String {
    render(include_str!("advance_positions.sql"), schema)
}
