//! Reading the version of the schema.

use super::all;
use crate::statement::{Declaration, roles};
use crate::wire::{Rows, columns};
use crate::{Error, MIGRATIONS, Operation, StatementId};

/// Reads the version of the schema. If pm's tables are missing, it fails like any statement on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaVersion;

/// The version of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaFound {
    /// The last applied migration; 0 if there is none.
    pub version: u32,
    /// Whether the applied migrations have the same texts as those of this program. Migrations that this program does
    /// not know are ignored.
    pub is_same_text: bool,
}

impl Operation for SchemaVersion {
    type Row = VersionRow;
    type Output = SchemaFound;
    const DECLARATION: Declaration =
        Declaration::hot(StatementId::SchemaVersion, include_str!("schema_version.sql"), roles::ALL);

    fn interpret(&self, rows: &Rows) -> Result<SchemaFound, Error> {
        let mut found = SchemaFound { version: 0, is_same_text: true };
        for VersionRow { version, fingerprint } in all::<Self>(rows)? {
            found.version = version;
            if let Some(known) = MIGRATIONS.iter().find(|migration| migration.version == found.version) {
                found.is_same_text &= fingerprint.is_some_and(|fingerprint| fingerprint == known.fingerprint());
            }
        }
        Ok(found)
    }
}

columns! {
    /// An applied migration.
    pub struct VersionRow {
        pub version: u32,
        pub fingerprint: Option<String>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rows: &[(i32, Option<String>)]) -> SchemaFound {
        let mut reply = Rows::builder(2);
        for (version, fingerprint) in rows {
            reply.push(Some(&version.to_be_bytes()));
            reply.push(fingerprint.as_ref().map(String::as_bytes));
        }
        SchemaVersion.interpret(&reply.finish()).unwrap()
    }

    #[test]
    fn a_schema_migrated_with_other_texts_is_detected() {
        let [first, second] = &MIGRATIONS[..2] else { panic!("there are two") };
        let (first, second) = (first.fingerprint(), second.fingerprint());
        let other = Some("0123456789abcdef".to_owned());
        for (rows, version, is_same_text) in [
            (vec![], 0, true),
            (vec![(1, Some(first.clone()))], 1, true),
            (vec![(1, Some(first.clone())), (2, Some(second))], 2, true),
            (vec![(1, Some(first.clone())), (2, other.clone())], 2, false),
            (vec![(1, None)], 1, false),
            (vec![(1, other.clone()), (2, other)], 2, false),
            (vec![(1, Some(first)), (99, None)], 99, true),
        ] {
            assert_eq!(found(&rows), SchemaFound { version, is_same_text }, "{rows:?}");
        }
    }
}
