//! The relations in pm's schema, and the privileges of a role there.

use super::{all, index_of};
use crate::grants::{self, Grant, RoleKind};
use crate::operation::operation;
use crate::statement::{Declaration, roles};
use crate::wire::{Parameter, Rows, column, columns, optional_column, stored};
use crate::{Error, Failure, Operation, Params, StatementId};

/// Lists the tables and sequences in pm's schema, and other schemas with tables like pm's. It needs no privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relations;

columns! {
    /// A relation in pm's schema, or another schema.
    pub struct Relation {
        /// The current role.
        pub role: String,
        /// The name of the relation, without the schema, or of the other schema.
        pub name: String,
        /// Its kind.
        pub kind: RelationKind,
        /// Whether it is unlogged: emptied when the server crashes, and not replicated.
        pub is_unlogged: bool,
        /// Whether row-level security is enabled on it, for any role.
        pub is_secured: bool,
        /// Whether row-level security filters the rows that the current role sees.
        pub is_filtered: bool,
        /// The names of its enabled triggers other than pm's and Postgres's own, separated by commas; `None` if it has
        /// none.
        pub triggers: Option<String>,
        /// The names of its enabled rewrite rules, separated by commas; `None` if it has none.
        pub rules: Option<String>,
        /// Whether it is distributed over several servers (Citus).
        pub is_distributed: bool,
        /// Whether pm's trigger is enabled that deletes with each job the rows that belong to it.
        pub clears_up: bool,
        /// The client encoding of the connection.
        pub client_encoding: String,
    }
}

/// The kinds of relations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    /// An ordinary table.
    Table,
    /// A partitioned table.
    Partitioned,
    /// A view, materialized or not.
    View,
    /// A foreign table.
    Foreign,
    /// A sequence.
    Sequence,
    /// Not a relation, but another schema with tables like pm's.
    OtherSchema,
}

operation! {
    Relations: all Relation;
    Declaration::operator(StatementId::Relations, include_str!("relations.sql"), roles::ALL);
}

stored! {
    RelationKind as String: |column| match column.as_str() {
        "r" => Some(RelationKind::Table),
        "p" => Some(RelationKind::Partitioned),
        "v" | "m" => Some(RelationKind::View),
        "f" => Some(RelationKind::Foreign),
        "S" => Some(RelationKind::Sequence),
        "n" => Some(RelationKind::OtherSchema),
        _ => None,
    }, |kind| match kind {
        RelationKind::Table => "r",
        RelationKind::Partitioned => "p",
        RelationKind::View => "v",
        RelationKind::Foreign => "f",
        RelationKind::Sequence => "S",
        RelationKind::OtherSchema => "n",
    }
    .to_owned();
}

/// Checks which privileges a role has. It needs no privileges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privileges {
    /// The role; `None` for the current one.
    pub role: Option<String>,
    /// The privileges to check.
    pub grants: Vec<Grant>,
}

impl Privileges {
    /// Returns the operation that checks, for the current role, all privileges that any kind of role needs.
    pub fn of_current_role() -> Self {
        let mut grants: Vec<_> = RoleKind::ALL.into_iter().flat_map(RoleKind::grants).collect();
        grants.sort_unstable();
        grants.dedup();
        Privileges { role: None, grants }
    }
}

/// The result of checking the privileges of a role.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeldPrivileges {
    /// The name of the role; empty if the reply has no rows.
    pub role: String,
    /// The privileges that it lacks.
    pub lacking: Vec<Grant>,
}

impl HeldPrivileges {
    /// Returns the failure of a statement that was refused, with the privileges that the role lacks for it and the
    /// advice to grant them; unchanged if it lacks none.
    ///
    /// The role is judged as the [kind that it is meant for](grants::missing) if that kind runs the statement,
    /// otherwise as the kind that runs it with the fewest privileges.
    pub fn explain(self, failure: Failure, statement: StatementId) -> Failure {
        let holds = |grant: &Grant| !self.lacking.contains(grant);
        let meant = grants::missing(holds).filter(|(kind, _)| kind.runs(statement));
        let (kind, lacking) = meant.unwrap_or_else(|| {
            let kind = RoleKind::least_for(statement);
            (kind, kind.grants().into_iter().filter(|grant| !holds(grant)).collect())
        });
        if lacking.is_empty() {
            return failure;
        }
        let lacking: Vec<_> = lacking.iter().map(Grant::to_string).collect();
        let detail = format!("role {:?} lacks {}", self.role, lacking.join(", "));
        failure.with_detail(Some(&detail)).with_grant(self.role, kind)
    }
}

impl Operation for Privileges {
    type Row = PrivilegeRow;
    type Output = HeldPrivileges;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::Privileges, include_str!("privileges.sql"), roles::ALL);

    fn params(&self) -> Params<'_> {
        vec![
            self.role.as_deref().param(),
            optional_column(&self.grants, |grant| grant.object),
            column(&self.grants, |grant| grant.privilege),
            optional_column(&self.grants, |grant| grant.column),
        ]
    }

    fn interpret(&self, rows: &Rows) -> Result<HeldPrivileges, Error> {
        let mut found = HeldPrivileges::default();
        for PrivilegeRow { ordinal, role, has_privilege } in all::<Self>(rows)? {
            let index = index_of::<Self>(ordinal, self.grants.len())?;
            found.role = role;
            if !has_privilege {
                found.lacking.push(self.grants[index]);
            }
        }
        Ok(found)
    }
}

columns! {
    /// The number of a privilege, and whether the role has it.
    pub struct PrivilegeRow {
        pub ordinal: i64,
        pub role: String,
        pub has_privilege: bool,
    }
}
