//! The migrations of the schema, as data.

mod indexes;

pub use indexes::{expected_functions, expected_relations};
pub(crate) use indexes::{expected_indexes, restored_delete_trigger};

use crate::SchemaName;
use crate::render::{bare, render};

/// One migration of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Its number; migrations are numbered from 1 without gaps.
    pub version: u32,
    /// Its name.
    pub name: &'static str,
    sql: &'static str,
}

/// All migrations, oldest first.
pub const MIGRATIONS: [Migration; 2] = [
    Migration { version: 1, name: "initial", sql: include_str!("0001_initial.sql") },
    Migration { version: 2, name: "schedule", sql: include_str!("0002_schedule.sql") },
];

/// The version of the schema that this version of pm works with.
pub const SCHEMA_VERSION: u32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// The SQLSTATE with which [`migration_script`] refuses a schema that another text of the migrations created.
pub const OTHER_TEXT_SQLSTATE: &str = "PM002";

/// Returns the script that migrates a schema from any earlier version to [`SCHEMA_VERSION`].
///
/// It is one transaction under an advisory lock: several processes may run it at the same time, and it changes nothing
/// if there is nothing to do. It creates the schema only if it is missing, so a role that owns the schema suffices. It
/// fails with [`OTHER_TEXT_SQLSTATE`] if another text of these migrations created the schema, and if it waits over 10 s
/// for a lock. To be sent as a simple query.
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
    /// Returns the migration's SQL inside a check that it has not been applied yet.
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

    /// Returns 16 hex digits: a 64-bit FNV-1a hash of the migration's SQL without comments, its white space normalized.
    ///
    /// It is stored with the migration's number: until the first release a migration may be edited, and a schema that
    /// another text of it created is recognised.
    pub fn fingerprint(&self) -> String {
        let text = bare(self.sql).split_whitespace().collect::<Vec<_>>().join(" ");
        let hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        format!("{hash:016x}")
    }

    /// Returns the migration's SQL for one schema, for users who apply it by other means.
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
        let fingerprint = |sql| Migration { version: 1, name: "one", sql }.fingerprint();
        assert_eq!(fingerprint("-- why\ncreate table a (\n  b int\n);\n"), fingerprint("create table a ( b int );"));
        assert_ne!(fingerprint("create table a (b int);"), fingerprint("create table a (c int);"));
        assert_eq!(fingerprint(""), "cbf29ce484222325", "the offset basis of FNV-1a");
    }
}
