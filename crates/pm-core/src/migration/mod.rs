//! The schema's history, as data.

mod indexes;

pub use indexes::{expected_functions, expected_relations};
pub(crate) use indexes::{expected_indexes, restored_delete_trigger};

use crate::SchemaName;
use crate::statement::{bare, render};

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

/// What a schema made by other texts of the migrations is refused with.
pub const OTHER_TEXT_SQLSTATE: &str = "PM002";

/// Returns the script that brings a schema to [`SCHEMA_VERSION`] from wherever it is.
///
/// It is one transaction under an advisory lock: any number may run it at once, and one that finds nothing to do
/// changes nothing. The schema is created only when it is missing, so the role needs no more than to own it. A schema
/// that was made by other texts of these migrations is refused with [`OTHER_TEXT_SQLSTATE`]. It gives up after waiting
/// 10 s for a lock. Send it as a simple query.
pub fn migration_script(schema: &SchemaName) -> String {
    let known: String = MIGRATIONS
        .iter()
        .map(|migration| format!(" when {} then '{}'", migration.version, migration.fingerprint()))
        .collect();
    let ledger = format!(
        "begin;\n\
         set local lock_timeout = '10s';\n\
         set local search_path = pg_catalog;\n\
         select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('pm migration of schema {{schema}}', 0));\n\
         do $pm$ begin\n\
         if pg_catalog.to_regnamespace('{{schema}}') is null then create schema {{schema}}; end if;\n\
         if pg_catalog.to_regclass('{{schema}}.migration') is null then\n\
         create table {{schema}}.migration (version pg_catalog.int4 primary key, name pg_catalog.text not null, \
         applied_at pg_catalog.timestamptz not null default pg_catalog.now(), fingerprint pg_catalog.text);\n\
         end if;\n\
         if exists (select from {{schema}}.migration where version <= {SCHEMA_VERSION} \
         and pg_catalog.jsonb_extract_path_text(pg_catalog.to_jsonb(migration), 'fingerprint') \
         is distinct from case version{known} end) then\n\
         raise exception using errcode = '{OTHER_TEXT_SQLSTATE}', \
         message = 'schema {{schema}} was made by another development version of pm';\n\
         end if;\n\
         end $pm$;\n"
    );
    let steps: String = MIGRATIONS.iter().map(Migration::guarded).collect();
    render(&format!("{ledger}{steps}commit;\n"), schema)
}

impl Migration {
    /// Returns the step's SQL inside a check that it has not been taken yet.
    fn guarded(&self) -> String {
        let (Migration { version, name, sql }, fingerprint) = (self, self.fingerprint());
        format!(
            "do $pm$ begin\n\
             if not exists (select from {{schema}}.migration where version = {version}) then\n\
             {sql}\n\
             insert into {{schema}}.migration (version, name, fingerprint) values ({version}, '{name}', '{fingerprint}');\n\
             end if;\n\
             end $pm$;\n"
        )
    }

    /// Returns 16 hex digits that change with the step's SQL, its comments and blanks left out (FNV-1a, 64 bits).
    ///
    /// It is kept with the step's number: until the first release a migration may be edited, and a schema made by
    /// another text of it is recognised.
    pub fn fingerprint(&self) -> String {
        let words = bare(self.sql).split_whitespace().collect::<Vec<_>>().join(" ");
        let hash = words
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        format!("{hash:016x}")
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

    #[test]
    fn a_fingerprint_changes_with_the_statements_and_not_with_comments() {
        let step = |sql| Migration { version: 1, name: "one", sql }.fingerprint();
        assert_eq!(step("-- why\ncreate table a (\n  b int\n);\n"), step("create table a ( b int );"));
        assert_ne!(step("create table a (b int);"), step("create table a (c int);"));
        assert_eq!(step(""), "cbf29ce484222325", "as FNV-1a has it");
    }
}
