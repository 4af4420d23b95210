//! The schema's history, as data.

mod indexes;

pub(crate) use indexes::expected_indexes;

use crate::SchemaName;
use crate::statement::render;

/// One step of the schema's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Its number, from 1, without gaps.
    pub version: u32,
    /// What it is called.
    pub name: &'static str,
    sql: &'static str,
}

/// All steps, oldest first.
pub const MIGRATIONS: [Migration; 2] = [
    Migration { version: 1, name: "initial", sql: include_str!("0001_initial.sql") },
    Migration { version: 2, name: "schedule", sql: include_str!("0002_schedule.sql") },
];

/// The version of the schema that this version of pm works with.
pub const SCHEMA_VERSION: u32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// Returns the script that brings a schema to [`SCHEMA_VERSION`] from wherever it is.
///
/// It is one transaction under an advisory lock: any number may run it at once, and one that finds nothing to do
/// changes nothing. It gives up after waiting 10 s for a lock. Send it as a simple query.
pub fn migration_script(schema: &SchemaName) -> String {
    let ledger = "begin;\n\
        set local lock_timeout = '10s';\n\
        set local search_path = pg_catalog;\n\
        select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('pm migration of schema {schema}', 0));\n\
        create schema if not exists {schema};\n\
        create table if not exists {schema}.migration (\
        version pg_catalog.int4 primary key, name pg_catalog.text not null, \
        applied_at pg_catalog.timestamptz not null default pg_catalog.now());\n";
    let steps: String = MIGRATIONS.iter().map(Migration::guarded).collect();
    render(&format!("{ledger}{steps}commit;\n"), schema)
}

impl Migration {
    /// Returns the step's SQL inside a check that it has not been taken yet.
    fn guarded(&self) -> String {
        let Migration { version, name, sql } = self;
        format!(
            "do $pm$ begin\n\
             if not exists (select from {{schema}}.migration where version = {version}) then\n\
             {sql}\n\
             insert into {{schema}}.migration (version, name) values ({version}, '{name}');\n\
             end if;\n\
             end $pm$;\n"
        )
    }

    /// Returns the step's SQL for one schema, for people who apply it by other means.
    pub fn sql(&self, schema: &SchemaName) -> String {
        render(self.sql, schema)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_from_one_without_gaps() {
        let versions: Vec<_> = MIGRATIONS.iter().map(|migration| migration.version).collect();
        assert_eq!(versions, (1..=SCHEMA_VERSION).collect::<Vec<_>>());
    }

    #[test]
    fn the_script_names_the_schema_and_is_one_transaction() {
        let script = migration_script(&SchemaName::new("my jobs").unwrap());
        assert!(script.contains("create table \"my jobs\".job ("));
        assert!(!script.contains("{schema}"));
        assert_eq!((script.matches("begin;").count(), script.matches("commit;").count()), (1, 1));
    }
}
