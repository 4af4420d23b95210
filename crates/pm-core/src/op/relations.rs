//! The relations in pm's schema, and the privileges of a role there.

use crate::grants::{self, Grant, RoleKind};
use crate::statement::{ConnectionClass, Declaration, roles};
use crate::wire::{Row, Rows, Type, Value, column, optional_column};
use crate::{Error, Operation, Params, StatementId};
use std::borrow::Cow;

/// Lists the tables and sequences in pm's schema, and other schemas with tables like pm's. It needs no privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relations;

/// A relation in pm's schema, or another schema.
#[derive(Debug, Clone, PartialEq, Eq)]
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

impl Operation for Relations {
    type Output = Vec<Relation>;
    const STATEMENT: StatementId = StatementId::Relations;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("relations.sql"), ConnectionClass::Operator, roles::ALL);
    const COLUMNS: &'static [Type] = &[
        Type::Text,
        Type::Text,
        Type::Text,
        Type::Bool,
        Type::Bool,
        Type::Bool,
        Type::Text,
        Type::Text,
        Type::Bool,
        Type::Bool,
        Type::Text,
    ];

    fn params(&self) -> Params<'_> {
        Vec::new()
    }

    fn interpret(self, rows: &Rows) -> Result<Vec<Relation>, Error> {
        rows.iter(Self::STATEMENT).map(read_relation).collect()
    }
}

fn read_relation(mut row: Row<'_>) -> Result<Relation, Error> {
    let (role, name) = (row.read()?, row.read()?);
    let kind: String = row.read()?;
    let kind = match kind.as_str() {
        "r" => RelationKind::Table,
        "p" => RelationKind::Partitioned,
        "v" | "m" => RelationKind::View,
        "f" => RelationKind::Foreign,
        "S" => RelationKind::Sequence,
        "n" => RelationKind::OtherSchema,
        odd => return Err(row.odd(format!("relation kind {odd:?}"))),
    };
    Ok(Relation {
        role,
        name,
        kind,
        is_unlogged: row.read()?,
        is_secured: row.read()?,
        is_filtered: row.read()?,
        triggers: row.read()?,
        rules: row.read()?,
        is_distributed: row.read()?,
        clears_up: row.read()?,
        client_encoding: row.read()?,
    })
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
    /// Returns which privileges the role lacks for a statement that was refused, and how to grant them; `None` if it
    /// lacks none.
    ///
    /// The role is judged as the [kind that it is meant for](grants::missing) if that kind runs the statement,
    /// otherwise as the kind that runs it with the fewest privileges.
    pub fn explanation(&self, statement: StatementId) -> Option<String> {
        let holds = |grant: &Grant| !self.lacking.contains(grant);
        let meant = grants::missing(holds).filter(|(kind, _)| kind.runs(statement));
        let (kind, lacking) = meant.unwrap_or_else(|| {
            let kind = RoleKind::least_for(statement);
            (kind, kind.grants().into_iter().filter(|grant| !holds(grant)).collect())
        });
        let lacking: Vec<_> = lacking.iter().map(Grant::to_string).collect();
        let role = &self.role;
        let is_plain = role.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let name = if is_plain { role.clone() } else { format!("{role:?}") };
        (!lacking.is_empty()).then(|| {
            format!("role {role:?} lacks {}; run: pm db grants --role {name} --for {}", lacking.join(", "), kind.name())
        })
    }
}

impl Operation for Privileges {
    type Output = HeldPrivileges;
    const STATEMENT: StatementId = StatementId::Privileges;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("privileges.sql"), ConnectionClass::Operator, roles::ALL);
    const COLUMNS: &'static [Type] = &[Type::Int8, Type::Text, Type::Bool];

    fn params(&self) -> Params<'_> {
        let text = |text: &'static str| Cow::Borrowed(text);
        vec![
            self.role.as_deref().map_or(Value::Null(Type::Text), Value::Text),
            optional_column(&self.grants, |grant| grant.object.map(text), Value::TextArray),
            Value::TextArray(column(&self.grants, |grant| text(grant.privilege))),
            optional_column(&self.grants, |grant| grant.column.map(text), Value::TextArray),
        ]
    }

    fn interpret(self, rows: &Rows) -> Result<HeldPrivileges, Error> {
        let mut found = HeldPrivileges::default();
        for mut row in rows.iter(Self::STATEMENT) {
            let index = super::read_index(&mut row, self.grants.len())?;
            found.role = row.read()?;
            if !row.read::<bool>()? {
                found.lacking.push(self.grants[index]);
            }
        }
        Ok(found)
    }
}
