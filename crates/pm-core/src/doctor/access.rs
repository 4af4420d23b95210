//! Problems with access to pm's tables: privileges, row-level security, search paths, and relations of the wrong kind.

use super::finding::{Check, Finding, Remedy};
use super::text::{literal, table_of};
use crate::SchemaName;
use crate::grants::{self, Grant};
use crate::migration::{expected_relations, restored_delete_trigger};
use crate::op::{HeldPrivileges, QueueActivity, Relation, RelationKind, SearchPath};

const UNSUPPORTED: &str =
    "pm needs the row locks of ordinary, local tables; on others, order, fencing or speed is not guaranteed";
const HIDDEN: &str = "rows that a policy hides are never claimed, reaped or shown, and no error reports it";

/// Returns an error message if row-level security filters the rows that the current role sees of pm's tables.
pub fn hidden_rows(relations: &[Relation], schema: &SchemaName) -> Option<String> {
    let hidden: Vec<_> = expected(relations).filter(|relation| relation.is_filtered).collect();
    let role = &hidden.first()?.role;
    let tables: Vec<_> = hidden.iter().map(|relation| relation.name.as_str()).collect();
    let plural = if tables.len() > 1 { "s" } else { "" };
    let remedy = format!("alter table {} disable row level security", table_of(schema, &hidden[0].name));
    Some(format!(
        "row-level security filters what role {role:?} sees of table{plural} {}: {HIDDEN}; run as the owner: {remedy}",
        tables.join(", ")
    ))
}

/// Returns an error message if the `client_encoding` of the connection is not UTF-8.
pub fn foreign_encoding(relations: &[Relation]) -> Option<String> {
    let encoding = &relations.first()?.client_encoding;
    (encoding != "UTF8").then(|| {
        format!("the client_encoding of the connections is {encoding}, and pm needs UTF8: leave it unset on the pool")
    })
}

/// Returns the names of other schemas with tables that look like pm's.
pub fn other_schemas(relations: &[Relation]) -> Vec<&str> {
    let others = relations.iter().filter(|relation| relation.kind == RelationKind::OtherSchema);
    others.map(|relation| relation.name.as_str()).collect()
}

/// Returns the problems with pm's relations and with the privileges of the current role, in no particular order.
pub fn examine_access(relations: &[Relation], privileges: &HeldPrivileges, schema: &SchemaName) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(expected(relations).filter_map(|relation| row_security(relation, schema)));
    findings.extend(missing_grants(privileges));
    for relation in expected(relations) {
        findings.extend(odd_table(relation, schema));
        findings.extend(triggers(relation, schema));
        findings.extend(missing_trigger(relation, schema));
    }
    findings
}

/// Returns the relations that pm's migrations create.
fn expected(relations: &[Relation]) -> impl Iterator<Item = &Relation> {
    let names = expected_relations();
    relations.iter().filter(move |it| it.kind != RelationKind::OtherSchema && names.contains(&it.name))
}

fn row_security(relation: &Relation, schema: &SchemaName) -> Option<Finding> {
    let table = table_of(schema, &relation.name);
    let roles = match relation.is_filtered {
        true => format!("role {:?}", relation.role),
        false => "roles other than its owner".to_owned(),
    };
    relation.is_secured.then(|| Finding {
        check: Check::RowSecurity,
        what: format!("row-level security of table {} filters what {roles} may see", relation.name),
        why: HIDDEN,
        remedy: Remedy::Sql(vec![format!("alter table {table} disable row level security")]),
    })
}

fn missing_grants(privileges: &HeldPrivileges) -> Vec<Finding> {
    let role = &privileges.role;
    let Some((kind, lacking)) = grants::missing(|grant| !privileges.lacking.contains(grant)) else { return Vec::new() };
    let finding = |grant: Grant| Finding {
        check: Check::MissingGrant,
        what: format!("role {role:?} lacks {grant}, which a role that is {} needs", kind.article()),
        why: "statements that need it fail, some only when a job fails, a lease expires or a schedule is due",
        remedy: Remedy::Grant { role: role.clone(), kind },
    };
    lacking.into_iter().map(finding).collect()
}

fn odd_table(relation: &Relation, schema: &SchemaName) -> Option<Finding> {
    let Relation { name, kind, .. } = relation;
    let finding = |what: &str, why: &'static str, remedy: Remedy| Finding {
        check: Check::OddTable,
        what: format!("{name} {what}"),
        why,
        remedy,
    };
    let table = table_of(schema, name);
    match kind {
        RelationKind::View => Some(finding("is a view, not a table", UNSUPPORTED, Remedy::MigrateNewSchema)),
        RelationKind::Foreign => Some(finding("is a table of another server", UNSUPPORTED, Remedy::MigrateNewSchema)),
        RelationKind::Partitioned => Some(finding("is partitioned", UNSUPPORTED, Remedy::MigrateNewSchema)),
        _ if relation.is_distributed => {
            let remedy = format!("select undistribute_table({})", literal(&table));
            Some(finding("is distributed over several servers", UNSUPPORTED, Remedy::Sql(vec![remedy])))
        }
        _ if relation.is_unlogged => Some(finding(
            "is unlogged",
            "after a crash of the server it is empty, and standbys never have it",
            Remedy::Sql(vec![match kind {
                RelationKind::Sequence => format!("alter sequence {table} set logged"),
                _ => format!("alter table {table} set logged"),
            }]),
        )),
        _ => None,
    }
}

fn triggers(relation: &Relation, schema: &SchemaName) -> Vec<Finding> {
    if relation.is_distributed {
        return Vec::new();
    }
    let table = table_of(schema, &relation.name);
    let each = |kind: &'static str, names: &Option<String>| {
        let finding = |name: &str| Finding {
            check: Check::Trigger,
            what: format!("table {} has a {kind} that is not pm's: {name}", relation.name),
            why: "it runs inside pm's statements: it slows them down, can change, refuse or drop what they write, and can lock rows that they need",
            remedy: Remedy::Sql(vec![format!("drop {kind} \"{}\" on {table}", name.replace('"', "\"\""))]),
        };
        names.iter().flat_map(|names| names.split(", ")).map(finding).collect::<Vec<_>>()
    };
    [each("trigger", &relation.triggers), each("rule", &relation.rules)].concat()
}

fn missing_trigger(relation: &Relation, schema: &SchemaName) -> Option<Finding> {
    let is_table = matches!(relation.kind, RelationKind::Table | RelationKind::Partitioned);
    (is_table && relation.name == "job" && !relation.clears_up).then(|| Finding {
        check: Check::MissingTrigger,
        what: "the trigger delete_with_job of table job is missing or disabled".to_owned(),
        why: "attempts, replacements and shared payloads of deleted jobs are never deleted",
        remedy: Remedy::Sql(vec![restored_delete_trigger(schema)]),
    })
}

/// Returns a finding if the search path names `pg_catalog`, but not first.
pub(super) fn search_path(found: &SearchPath) -> Option<Finding> {
    let SearchPath { role, database, schemas } = found;
    let listed: Vec<_> = schemas.split(',').map(str::trim).collect();
    let others: Vec<_> = listed.iter().copied().filter(|name| *name != "pg_catalog").collect();
    let is_behind = listed.len() > others.len() && listed[0] != "pg_catalog";
    let (owner, setting) = match (role, database) {
        (Some(role), Some(database)) => (
            format!("role {role:?} in database {database:?}"),
            format!("alter role {} in database {}", grants::quoted(role), grants::quoted(database)),
        ),
        (Some(role), None) => (format!("role {role:?}"), format!("alter role {}", grants::quoted(role))),
        (None, Some(database)) => {
            (format!("database {database:?}"), format!("alter database {}", grants::quoted(database)))
        }
        (None, None) => ("all roles".to_owned(), "alter role all".to_owned()),
    };
    is_behind.then(|| Finding {
        check: Check::SearchPath,
        what: format!("sessions of {owner} start with the search_path {schemas}, in which pg_catalog is not first"),
        why: "a role that may create objects in a schema before it can override the server's own functions and operators; \
              pm refuses to use transactions and pools of such sessions",
        remedy: Remedy::Sql(vec![format!("{setting} set search_path = {}", others.join(", "))]),
    })
}

/// Returns a finding for each other schema with tables like pm's, if this one has no queue: perhaps another was meant.
pub(super) fn other_schema(relations: &[Relation], activity: &[QueueActivity], schema: &SchemaName) -> Vec<Finding> {
    let finding = |name: &str| Finding {
        check: Check::OtherSchema,
        what: format!("schema {:?} has no queue, and schema {name:?} has tables of pm too", schema.as_str()),
        why: "workers of one schema never see the jobs of another",
        remedy: Remedy::UseSchema(name.to_owned()),
    };
    match activity.is_empty() {
        true => other_schemas(relations).into_iter().map(finding).collect(),
        false => Vec::new(),
    }
}
