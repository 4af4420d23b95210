//! The SQL around a backup's own script, which makes one transaction of it.

use pm_core::{SchemaName, expected_relations};

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
    /// it has again by then. With `clean` the target gets the backup's name, so that the script drops its tables.
    pub(super) fn before(&self) -> String {
        let Plan { backup, target, clean, .. } = self;
        let mut sql = "begin;\n".to_owned();
        if *clean {
            sql.push_str(&refusal_of_others(target));
        }
        if backup != target {
            let taken = match clean {
                true => format!("alter schema \"{target}\" rename to \"{backup}\";"),
                false => format!("raise exception using message = 'schema \"{target}\" exists already';"),
            };
            // Two restores that rename one schema would fail: they come one after the other.
            sql.push_str(&format!(
                "do $pm$ begin\n\
                 perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('pm restore', 0));\n\
                 if pg_catalog.to_regnamespace('\"{backup}\"') is not null then\n\
                 alter schema \"{backup}\" rename to \"{ASIDE}\";\n\
                 end if;\n\
                 if pg_catalog.to_regnamespace('\"{target}\"') is not null then\n{taken}\nend if;\n\
                 end $pm$;\n"
            ));
        }
        sql
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

/// Returns SQL that fails when a schema holds tables that are not pm's: a backup holds the whole schema, and so a restore
/// that drops what is there would put them back to what they were then.
fn refusal_of_others(schema: &SchemaName) -> String {
    let ours: Vec<_> = expected_relations().into_iter().map(|name| format!("'{name}'")).collect();
    format!(
        "do $pm$ declare others pg_catalog.text; begin\n\
         select pg_catalog.string_agg(relname::pg_catalog.text, ', ' order by relname) into others from pg_catalog.pg_class\n\
         where relnamespace = pg_catalog.to_regnamespace('\"{schema}\"')::pg_catalog.oid and relkind in ('r', 'p', 'v', 'm', 'f', 'S')\n\
         and relname <> all (array[{}]::pg_catalog.name[]);\n\
         if others is not null then\n\
         raise exception using message = 'schema \"{schema}\" holds more than pm''s tables, which --clean would replace too: ' \
         || others;\n\
         end if;\n\
         end $pm$;\n",
        ours.join(", ")
    )
}

/// Returns the first schema that a script of pg_restore creates, if that line is there and it may be one of pm's.
pub(super) fn schema_of(script: &[u8]) -> Option<SchemaName> {
    let mut lines = script.split_inclusive(|byte| *byte == b'\n');
    let name = lines.find_map(|line| line.strip_prefix(b"CREATE SCHEMA ")?.strip_suffix(b";\n"))?;
    let name = std::str::from_utf8(name).ok()?;
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
