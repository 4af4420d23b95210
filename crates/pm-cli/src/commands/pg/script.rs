//! The SQL around a backup's own script, which makes one transaction of it.

use pm_core::{SchemaName, expected_functions, expected_relations};
use std::collections::BTreeSet;

/// What the session prints when only the commit is missing.
pub(super) const READY: &str = "pm: ready to commit";
/// The name that a schema of the backup's name has while the backup is restored. No one else ever sees it.
const ASIDE: &str = "pm restore put this aside";

/// How a backup is to be restored.
pub(super) struct Plan<'a> {
    /// The schema that the backup's script names.
    pub(super) backup: &'a SchemaName,
    /// What it is to be called.
    pub(super) target: &'a SchemaName,
    /// Whether the target's tables are dropped first.
    pub(super) clean: bool,
    pub(super) paused: bool,
}

impl Plan<'_> {
    /// Returns what goes before the backup's script: it begins the transaction and makes the backup's name free.
    ///
    /// Renaming a schema locks none of its tables, and until the commit all others see it under its old name, which
    /// it has again by then. A target that is there already gets the backup's name, so that the script fills it.
    pub(super) fn before(&self) -> String {
        let Plan { backup, target, clean, .. } = self;
        let mut sql = "begin;\n".to_owned();
        if backup != target {
            // Two restores that rename one schema would fail: they come one after the other.
            sql.push_str(&format!(
                "do $pm$ begin\n\
                 perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('pm restore', 0));\n\
                 if pg_catalog.to_regnamespace('\"{backup}\"') is not null then\n\
                 alter schema \"{backup}\" rename to \"{ASIDE}\";\n\
                 end if;\n\
                 if pg_catalog.to_regnamespace('\"{target}\"') is not null then\n\
                 alter schema \"{target}\" rename to \"{backup}\";\n\
                 end if;\n\
                 end $pm$;\n"
            ));
        }
        if *clean {
            sql.push_str(&drop_of_ours(backup));
        }
        sql
    }

    /// Returns the beginning of the backup's script without the line that creates its schema: that is created unless it
    /// is there, which a role that may not create schemas can do as well.
    pub(super) fn begun(&self, script: &[u8]) -> Vec<u8> {
        let mut begun = Vec::with_capacity(script.len());
        for line in script.split_inclusive(|byte| *byte == b'\n') {
            match created_schema(line).is_some_and(|name| name == *self.backup) {
                true => begun.extend(creation(self.backup).as_bytes()),
                false => begun.extend(line),
            }
        }
        begun
    }

    /// Returns what goes after the backup's script: all but the commit.
    ///
    /// What the backup holds must be pm's. A paused schedule has no next tick, which is all that firing looks at; an
    /// old backup has no schedules.
    pub(super) fn after(&self) -> String {
        let Plan { backup, target, paused, .. } = self;
        let mut sql = format!(
            "set client_encoding = 'UTF8';\nset search_path = pg_catalog;\n\
             do $pm$ begin\n\
             if pg_catalog.to_regclass('\"{backup}\".migration') is null \
             or pg_catalog.to_regclass('\"{backup}\".queue') is null then\n\
             raise exception using message = 'schema \"{backup}\" of the backup has none of pm''s tables';\n\
             end if;\n"
        );
        if backup != target {
            sql.push_str(&format!(
                "alter schema \"{backup}\" rename to \"{target}\";\n\
                 if pg_catalog.to_regnamespace('\"{ASIDE}\"') is not null then\n\
                 alter schema \"{ASIDE}\" rename to \"{backup}\";\n\
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

/// Returns SQL that makes a schema unless it is there.
fn creation(schema: &SchemaName) -> String {
    format!(
        "do $pm$ begin\n\
         if pg_catalog.to_regnamespace('\"{schema}\"') is null then\n\
         create schema \"{schema}\";\n\
         end if;\n\
         end $pm$;\n"
    )
}

/// Returns SQL that drops what is pm's in a schema, and leaves the schema and what is others' in it.
fn drop_of_ours(schema: &SchemaName) -> String {
    let quoted = |names: BTreeSet<String>| names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let (relations, functions) = (quoted(expected_relations()), quoted(expected_functions()));
    let namespace = format!("pg_catalog.to_regnamespace('\"{schema}\"')::pg_catalog.oid");
    format!(
        "do $pm$ declare ours pg_catalog.text; begin\n\
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

/// Returns the first schema that a script of pg_restore creates, if that line is there and it may be one of pm's.
pub(super) fn schema_of(script: &[u8]) -> Option<SchemaName> {
    script.split_inclusive(|byte| *byte == b'\n').find_map(created_schema)
}

/// Returns the schema that a line of such a script creates.
fn created_schema(line: &[u8]) -> Option<SchemaName> {
    let name = std::str::from_utf8(line.strip_prefix(b"CREATE SCHEMA ")?.strip_suffix(b";\n")?).ok()?;
    SchemaName::new(name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_found_quoted_or_not_when_its_line_is_whole() {
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
