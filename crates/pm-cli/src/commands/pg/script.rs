//! The SQL before and after a backup's script, which makes the restore one transaction.

use pm_core::{SchemaName, expected_functions, expected_relations};
use std::collections::BTreeSet;

/// The marker that the session prints when everything but the commit is done.
pub(super) const READY: &str = "pm: ready to commit";
/// The temporary name of an existing schema with the backup's name. Other transactions never see it.
const TEMPORARY_NAME: &str = "pm restore put this aside";

/// How to restore a backup.
pub(super) struct Plan<'a> {
    /// The schema of the backup's script.
    pub(super) backup: &'a SchemaName,
    /// The schema to restore into.
    pub(super) target: &'a SchemaName,
    /// Whether to drop the target's tables first.
    pub(super) clean: bool,
    pub(super) paused: bool,
}

impl Plan<'_> {
    /// Returns the SQL before the backup's script: it begins the transaction and frees the name of the backup's schema.
    ///
    /// Renaming a schema does not lock its tables. Other transactions see the old name until the commit, and by then
    /// the schema has it again. An existing target is renamed to the backup's name, so that the script fills it.
    pub(super) fn before(&self) -> String {
        let Plan { backup, target, clean, .. } = self;
        let mut sql = "begin;\n".to_owned();
        if backup != target {
            // Concurrent restores that rename the same schema would fail, so they are serialized.
            sql.push_str(&format!(
                "do $pm$ begin\n\
                 perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('pm restore', 0));\n\
                 if pg_catalog.to_regnamespace('\"{backup}\"') is not null then\n\
                 alter schema \"{backup}\" rename to \"{TEMPORARY_NAME}\";\n\
                 end if;\n\
                 if pg_catalog.to_regnamespace('\"{target}\"') is not null then\n\
                 alter schema \"{target}\" rename to \"{backup}\";\n\
                 end if;\n\
                 end $pm$;\n"
            ));
        }
        if *clean {
            sql.push_str(&drop_own_objects(backup));
        }
        sql
    }

    /// Returns the head of the backup's script, with the line that creates the schema replaced: it is created only if
    /// missing, so that a role without the right to create schemas can restore into an existing one.
    pub(super) fn rewritten_head(&self, script: &[u8]) -> Vec<u8> {
        let mut rewritten = Vec::with_capacity(script.len());
        for line in script.split_inclusive(|byte| *byte == b'\n') {
            match created_schema(line).is_some_and(|name| name == *self.backup) {
                true => rewritten.extend(create_if_missing(self.backup).as_bytes()),
                false => rewritten.extend(line),
            }
        }
        rewritten
    }

    /// Returns the SQL after the backup's script, without the commit.
    ///
    /// It checks that the backup contains pm's tables. A paused schedule must have no next tick, because firing checks
    /// only that. Old backups have no table of schedules.
    pub(super) fn after(&self) -> String {
        let Plan { backup, target, paused, .. } = self;
        let mut sql = format!(
            "set client_encoding = 'UTF8';\nset search_path = pg_catalog;\n\
             do $pm$ begin\n\
             if pg_catalog.to_regclass('\"{backup}\".migration') is null \
             or pg_catalog.to_regclass('\"{backup}\".queue') is null then\n\
             raise exception using message = 'schema \"{backup}\" of the backup does not contain pm''s tables';\n\
             end if;\n"
        );
        if backup != target {
            sql.push_str(&format!(
                "alter schema \"{backup}\" rename to \"{target}\";\n\
                 if pg_catalog.to_regnamespace('\"{TEMPORARY_NAME}\"') is not null then\n\
                 alter schema \"{TEMPORARY_NAME}\" rename to \"{backup}\";\n\
                 end if;\n"
            ));
        }
        if *paused {
            sql.push_str(&format!(
                "update \"{target}\".queue set paused = true where not paused;\n\
                 if pg_catalog.to_regclass('\"{target}\".schedule') is not null then\n\
                 update \"{target}\".schedule set paused = true, next_tick = null, revision = revision + 1 \
                 where not paused;\n\
                 end if;\n"
            ));
        }
        sql.push_str(&format!("end $pm$;\nselect '{READY}';\n"));
        sql
    }
}

/// Returns SQL that creates a schema if it is missing.
fn create_if_missing(schema: &SchemaName) -> String {
    format!(
        "do $pm$ begin\n\
         if pg_catalog.to_regnamespace('\"{schema}\"') is null then\n\
         create schema \"{schema}\";\n\
         end if;\n\
         end $pm$;\n"
    )
}

/// Returns SQL that drops pm's objects in a schema; the schema and other objects in it stay.
///
/// Tables that only have the names of pm's stay too: nothing is dropped unless pm's own record of migrations is there.
fn drop_own_objects(schema: &SchemaName) -> String {
    let quoted = |names: BTreeSet<String>| names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let (relations, functions) = (quoted(expected_relations()), quoted(expected_functions()));
    let namespace = format!("pg_catalog.to_regnamespace('\"{schema}\"')::pg_catalog.oid");
    format!(
        "do $pm$ declare ours pg_catalog.text; begin\n\
         if (select pg_catalog.count(*) from pg_catalog.pg_attribute \
         where attrelid = pg_catalog.to_regclass('\"{schema}\".migration')::pg_catalog.oid and attnum > 0 and not attisdropped \
         and attname = any (array['version', 'name', 'applied_at'])) < 3 \
         or pg_catalog.to_regclass('\"{schema}\".claim_frontier') is null then\n\
         return;\n\
         end if;\n\
         for ours in select pg_catalog.format('drop table %s', pg_catalog.string_agg(pg_catalog.format('%I.%I', '{schema}', relname), ', '))\n\
         from pg_catalog.pg_class where relnamespace = {namespace} and relkind = 'r' and relname = any (array[{relations}])\n\
         having pg_catalog.count(*) > 0\n\
         loop execute ours; end loop;\n\
         for ours in select pg_catalog.format('drop sequence %I.%I', '{schema}', relname)\n\
         from pg_catalog.pg_class where relnamespace = {namespace} and relkind = 'S' and relname = any (array[{relations}])\n\
         loop execute ours; end loop;\n\
         for ours in select pg_catalog.format('drop function %s', oid::pg_catalog.regprocedure)\n\
         from pg_catalog.pg_proc where pronamespace = {namespace} and proname = any (array[{functions}])\n\
         loop execute ours; end loop;\n\
         end $pm$;\n"
    )
}

/// Returns the first schema that a script of pg_restore creates, if the line is complete and the name is valid for pm.
pub(super) fn schema_of(script: &[u8]) -> Option<SchemaName> {
    script.split_inclusive(|byte| *byte == b'\n').find_map(created_schema)
}

/// Returns the schema that a line of the script creates.
fn created_schema(line: &[u8]) -> Option<SchemaName> {
    let name = std::str::from_utf8(line.strip_prefix(b"CREATE SCHEMA ")?.strip_suffix(b";\n")?).ok()?;
    SchemaName::new(name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_found_in_a_complete_line_quoted_or_not() {
        for (script, found) in [
            ("--\n-- Name: pm\n--\n\nCREATE SCHEMA pm;\n\n", Some("pm")),
            ("DROP SCHEMA IF EXISTS x;\nCREATE SCHEMA \"odd näme\";\nCREATE SCHEMA other;\n", Some("odd näme")),
            ("CREATE SCHEMA pm;", None),
            ("CREATE SCHEMA \"a\"\"b\";\n", None),
            ("CREATE TABLE public.t (id integer);\n", None),
        ] {
            assert_eq!(schema_of(script.as_bytes()).as_ref().map(SchemaName::as_str), found, "{script}");
        }
    }
}
