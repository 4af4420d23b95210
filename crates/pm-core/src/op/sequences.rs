//! Sequences, which may be behind the numbers in use after a failover by logical replication, or a partial restore.

use crate::operation::operation;
use crate::render::render;
use crate::statement::{Declaration, roles};
use crate::wire::columns;
use crate::{SchemaName, StatementId};

/// Reads the last value of each sequence, and the highest number in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequences;

columns! {
    /// The last value of a sequence, and the highest number in use.
    pub struct SequenceReading {
        /// Its name, without the schema.
        pub name: String,
        /// The highest number in use; 0 if there is none.
        pub used: u64,
        /// The last value of the sequence; 0 if none was drawn.
        pub drawn: u64,
    }
}

operation! {
    Sequences: all SequenceReading;
    Declaration::operator(StatementId::Sequences, include_str!("sequences.sql"), roles::READ);
}

/// Returns the script that advances the sequence of positions if it is behind, so that no new job comes before older
/// ones. It does nothing if the role lacks a privilege or there are no tables. To be sent as a simple query.
pub fn advance_positions_script(schema: &SchemaName) -> String {
    render(include_str!("advance_positions.sql"), schema)
}
