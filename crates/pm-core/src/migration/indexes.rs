//! The indexes, tables, sequences and functions of a migrated schema, parsed from the SQL of the migrations.

use super::MIGRATIONS;
use crate::SchemaName;
use crate::render::render;
use std::collections::{BTreeMap, BTreeSet};

/// Returns the indexes of a migrated schema by name, each with the SQL that recreates it without blocking writers for
/// long.
pub(crate) fn expected_indexes(schema: &SchemaName) -> BTreeMap<String, String> {
    let mut indexes = BTreeMap::new();
    for migration in &MIGRATIONS {
        for statement in migration.sql(schema).split(';') {
            apply(statement.trim(), schema, &mut indexes);
        }
    }
    indexes
}

/// Returns the names of the tables and sequences of a migrated schema, including the table of migrations.
pub fn expected_relations() -> BTreeSet<String> {
    let schema = SchemaName::default();
    let qualified = render("{schema}.", &schema);
    let mut relations = BTreeSet::from(["migration".to_owned()]);
    for migration in &MIGRATIONS {
        for statement in migration.sql(&schema).split(';') {
            let Some((kind, rest)) = statement.trim().split_once(&qualified) else { continue };
            let name = rest.split([' ', '(']).next().unwrap_or_default();
            match kind.trim() {
                "create sequence" => _ = relations.insert(name.to_owned()),
                "create table" => {
                    relations.insert(name.to_owned());
                    let identities = rest.lines().filter(|line| line.contains("as identity"));
                    let columns = identities.filter_map(|line| line.split_whitespace().next());
                    relations.extend(columns.map(|column| format!("{name}_{column}_seq")));
                }
                "drop table" | "drop sequence" => _ = relations.remove(name),
                _ => {}
            }
        }
    }
    relations
}

/// Returns the names of the functions of a migrated schema.
pub fn expected_functions() -> BTreeSet<String> {
    let schema = SchemaName::default();
    let create = render("create function {schema}.", &schema);
    let all: Vec<_> = MIGRATIONS.iter().map(|migration| migration.sql(&schema)).collect();
    let created = all.iter().flat_map(|sql| sql.split(&create).skip(1));
    created.filter_map(|rest| rest.split_once('(')).map(|(name, _)| name.to_owned()).collect()
}

/// Returns the SQL that recreates the trigger `delete_with_job`, which also enables it.
pub(crate) fn restored_delete_trigger(schema: &SchemaName) -> String {
    let all = MIGRATIONS.iter().map(|migration| migration.sql(schema)).collect::<Vec<_>>();
    let created = all.iter().flat_map(|sql| sql.split(';')).map(str::trim);
    let trigger = created.filter_map(|sql| sql.strip_prefix("create trigger delete_with_job")).next_back();
    format!("create or replace trigger delete_with_job{}", trigger.unwrap_or_default().replace('\n', ""))
}

/// Adds the indexes that a statement creates, or removes the one that it drops.
fn apply(statement: &str, schema: &SchemaName, indexes: &mut BTreeMap<String, String>) {
    let qualified = render("{schema}.", schema);
    let tokens: Vec<_> = statement.split_whitespace().collect();
    match tokens.as_slice() {
        ["create", "index", name, ..] | ["create", "unique", "index", name, ..] => {
            let concurrently = statement.replacen("index ", "index concurrently ", 1);
            indexes.insert((*name).to_owned(), one_line(&concurrently));
        }
        ["drop", "index", .., name] => _ = name.rsplit('.').next().and_then(|name| indexes.remove(name)),
        ["create", "table", ..] => {
            let Some((_, rest)) = statement.split_once(qualified.as_str()) else { return };
            let Some((table, body)) = rest.split_once(" (") else { return };
            for (name, constraint) in constraints(table, body) {
                indexes.insert(name, format!("alter table {qualified}{table} add {constraint}"));
            }
        }
        _ => {}
    }
}

/// Returns the names of the indexes that the constraints of a table create, with these constraints.
fn constraints(table: &str, body: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in body.lines().map(|line| line.trim().trim_end_matches(',')) {
        let column = line.split_whitespace().next().unwrap_or_default();
        if line.starts_with("primary key (") {
            found.push((format!("{table}_pkey"), line.to_owned()));
        } else if line.ends_with(" primary key") {
            found.push((format!("{table}_pkey"), format!("primary key ({column})")));
        } else if line.ends_with(" unique") {
            found.push((format!("{table}_{column}_key"), format!("unique ({column})")));
        }
    }
    found
}

fn one_line(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_and_constraints_are_parsed_from_the_migrations() {
        let indexes = expected_indexes(&SchemaName::new("my jobs").unwrap());
        assert_eq!(
            indexes["job_line"],
            "create index concurrently job_line on \"my jobs\".job (queue_id, priority, seq) where seq is not null"
        );
        assert!(indexes["job_key"].starts_with("create unique index concurrently job_key on \"my jobs\".job "));
        assert_eq!(indexes["queue_name_key"], "alter table \"my jobs\".queue add unique (name)");
        assert_eq!(indexes["attempt_pkey"], "alter table \"my jobs\".attempt add primary key (job_id, attempt)");
    }

    #[test]
    fn tables_and_sequences_are_parsed_from_the_migrations() {
        let relations = expected_relations();
        for name in
            ["migration", "job", "job_seq", "queue", "queue_id_seq", "payload_id_seq", "schedule_id_seq", "attempt"]
        {
            assert!(relations.contains(name), "{name}: {relations:?}");
        }
        assert!(relations.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')), "{relations:?}");
    }

    #[test]
    fn functions_are_parsed_from_the_migrations() {
        assert_eq!(expected_functions(), BTreeSet::from(["delete_with_job".to_owned(), "insert_job".to_owned()]));
    }

    #[test]
    fn a_dropped_index_is_not_expected() {
        let (schema, mut indexes) = (SchemaName::default(), BTreeMap::new());
        apply("create index job_x on \"pm\".job (id)", &schema, &mut indexes);
        assert!(indexes.contains_key("job_x"));
        apply("drop index if exists \"pm\".job_x", &schema, &mut indexes);
        assert!(indexes.is_empty());
    }
}
