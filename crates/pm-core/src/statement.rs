//! Statements as data: text, types, the connections on which they run, and the roles that run them.

use crate::grants::RoleKind;
use crate::wire::{Column, Type};
use crate::{Params, StatementId};

/// The class of the connections on which a statement runs. A statement never waits behind one of another class.
///
/// Drivers and the queue handle give each class separate connections, or limit how many connections of a pool it may
/// use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionClass {
    /// Extensions of leases. They never wait for a locked row, and must not wait behind statements that do.
    Extend,
    /// Short and frequent statements: claims, settlements, enqueues without keys, reads by id. They rarely wait for a
    /// locked row, and for at most `lock_timeout`.
    Hot,
    /// Enqueues with keys and their follow-ups, which may wait for a transaction that has locked a key.
    Keyed,
    /// Actions of operators, some of which wait for locked rows, and reads of many rows, which may take long.
    Operator,
}

/// A statement, rendered for one schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The name.
    pub id: StatementId,
    /// The text; parameters are `$1`, `$2`, …
    pub text: String,
    /// The types of the parameters, in order.
    pub params: Vec<Type>,
    /// The columns of the reply, in order.
    pub columns: &'static [Column],
}

/// The declaration of a statement, before it is rendered. It is part of its operation.
#[derive(Debug, Clone, Copy)]
pub struct Declaration {
    pub(crate) id: StatementId,
    pub(crate) sql: &'static str,
    /// The class of the connections on which it runs.
    pub(crate) class: ConnectionClass,
    /// The roles that run it besides operators, who run all statements; the one with the fewest privileges first.
    pub(crate) roles: &'static [RoleKind],
    /// The index, from 0, of the parameter that holds human-readable text.
    pub(crate) human_text: Option<usize>,
    /// Whether it may run in the caller's transactions.
    pub(crate) is_in_transaction: bool,
    /// Whether running it again is harmless and has the same outcome, although it changes something.
    pub(crate) is_repeatable: bool,
    /// Whether those that are sent one after another must run in that order.
    pub(crate) is_in_order: bool,
}

impl Declaration {
    pub(crate) const fn extend(id: StatementId, sql: &'static str, roles: &'static [RoleKind]) -> Self {
        let class = ConnectionClass::Extend;
        Declaration {
            id,
            sql,
            class,
            roles,
            human_text: None,
            is_in_transaction: false,
            is_repeatable: false,
            is_in_order: false,
        }
    }

    pub(crate) const fn hot(id: StatementId, sql: &'static str, roles: &'static [RoleKind]) -> Self {
        Declaration { class: ConnectionClass::Hot, ..Self::extend(id, sql, roles) }
    }

    pub(crate) const fn keyed(id: StatementId, sql: &'static str, roles: &'static [RoleKind]) -> Self {
        Declaration { class: ConnectionClass::Keyed, ..Self::extend(id, sql, roles) }
    }

    pub(crate) const fn operator(id: StatementId, sql: &'static str, roles: &'static [RoleKind]) -> Self {
        Declaration { class: ConnectionClass::Operator, ..Self::extend(id, sql, roles) }
    }

    pub(crate) const fn human_text(self, index: usize) -> Self {
        Declaration { human_text: Some(index), ..self }
    }

    pub(crate) const fn in_transaction(self) -> Self {
        Declaration { is_in_transaction: true, ..self }
    }

    pub(crate) const fn repeatable(self) -> Self {
        Declaration { is_repeatable: true, ..self }
    }

    pub(crate) const fn in_order(self) -> Self {
        Declaration { is_in_order: true, ..self }
    }
}

/// The sets of roles that run a statement.
pub(crate) mod roles {
    use crate::grants::RoleKind::{self, Enqueuer, Reader, Worker};

    pub(crate) const ALL: &[RoleKind] = &[Reader, Enqueuer, Worker];
    pub(crate) const ENQUEUE: &[RoleKind] = &[Enqueuer, Worker];
    pub(crate) const WORK: &[RoleKind] = &[Worker];
    pub(crate) const READ: &[RoleKind] = &[Reader, Worker];
    pub(crate) const OPERATE: &[RoleKind] = &[];
}

/// A statement to be sent, with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan<'a> {
    /// The statement.
    pub statement: StatementId,
    /// The values of its parameters, in order.
    pub params: Params<'a>,
}
