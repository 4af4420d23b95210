//! What stands in pm's schema, and what a role may do there.

use crate::grants::{self, Grant, RoleKind};
use crate::statement::Definition;
use crate::wire::{Row, Rows, Type, Value, column, optional_column};
use crate::{Error, Operation, Params, StatementId};
use std::borrow::Cow;

pub(crate) const RELATIONS: Definition = Definition {
    sql: include_str!("relations.sql"),
    params: &[],
    columns: &[
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
    ],
};
pub(crate) const PRIVILEGES: Definition = Definition {
    sql: include_str!("privileges.sql"),
    params: &[Type::Text, Type::TextArray, Type::TextArray, Type::TextArray],
    columns: &[Type::Int8, Type::Text, Type::Bool],
};

/// Looks what stands in pm's schema. It needs no privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relations;

/// A table or sequence of pm's schema, or another schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The role that looks.
    pub role: String,
    /// Its name, without the schema; a schema's own.
    pub name: String,
    /// What it is.
    pub kind: RelationKind,
    /// Whether it is emptied when the server crashes, and not replicated.
    pub is_unlogged: bool,
    /// Whether row-level security is on, for whatever role.
    pub is_secured: bool,
    /// Whether row-level security filters what this role sees.
    pub is_filtered: bool,
    /// Its triggers, separated by commas; none that Postgres made itself.
    pub triggers: Option<String>,
    /// Its rewrite rules, separated by commas.
    pub rules: Option<String>,
    /// Whether it is spread over several servers.
    pub is_distributed: bool,
    /// Whether what belongs to its rows is deleted with them, by pm's own trigger.
    pub clears_up: bool,
    /// The encoding in which the connection that looked exchanges texts.
    pub client_encoding: String,
}

/// What a relation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    /// An ordinary table.
    Table,
    /// A table cut into partitions.
    Partitioned,
    /// A view, materialized or not.
    View,
    /// A table of another server.
    Foreign,
    /// A sequence.
    Sequence,
    /// Another schema that looks like pm's.
    OtherSchema,
}

impl Operation for Relations {
    type Output = Vec<Relation>;
    const STATEMENT: StatementId = StatementId::Relations;

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

/// Looks which privileges a role has. It needs none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privileges {
    /// The role; the current one when none is given.
    pub role: Option<String>,
    /// The privileges in question.
    pub grants: Vec<Grant>,
}

impl Privileges {
    /// Returns the question which of all privileges that any kind of role needs the current role has.
    pub fn of_current_role() -> Self {
        let mut grants: Vec<_> = RoleKind::ALL.into_iter().flat_map(RoleKind::grants).collect();
        grants.sort_unstable();
        grants.dedup();
        Privileges { role: None, grants }
    }
}

/// Which privileges a role has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeldPrivileges {
    /// The role's name; empty when the database did not tell.
    pub role: String,
    /// The privileges that it does not have.
    pub lacking: Vec<Grant>,
}

impl HeldPrivileges {
    /// Returns what the role lacks for a statement that was refused, and what helps; `None` when it lacks nothing.
    ///
    /// It is judged as the kind of role that it is meant for, or else as the one that needs least for the statement.
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
        let mut held = HeldPrivileges::default();
        for mut row in rows.iter(Self::STATEMENT) {
            let place = super::read_position(&mut row, self.grants.len())?;
            held.role = row.read()?;
            if !row.read::<bool>()? {
                held.lacking.push(self.grants[place]);
            }
        }
        Ok(held)
    }
}
