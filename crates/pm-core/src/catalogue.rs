//! The look-up of statements, by their operations.

use crate::grants::RoleKind;
use crate::render::{parts, render_with, with_search_path_check};
use crate::statement::{ConnectionClass, Declaration, Statement};
use crate::wire::{Column, Columns};
use crate::{Operation, SchemaName, StatementId, Type, each_statement, op};
use std::sync::Arc;

macro_rules! look_up {
    ($($name:ident $file:ident)*) => {
        impl StatementId {
            pub(crate) fn declaration(self) -> &'static Declaration {
                match self {
                    $(StatementId::$name => &<op::$name as Operation>::DECLARATION,)*
                }
            }

            fn columns(self) -> &'static [Column] {
                match self {
                    $(StatementId::$name => <<op::$name as Operation>::Row as Columns>::COLUMNS,)*
                }
            }
        }

        $(const _: () = assert!(<op::$name as Operation>::STATEMENT as usize == StatementId::$name as usize);)*
    };
}
each_statement!(look_up);

impl StatementId {
    /// Returns the class of the connections on which the statement runs.
    pub fn class(self) -> ConnectionClass {
        self.declaration().class
    }

    /// Returns whether running the statement again is harmless and has the same outcome: it only reads, or sets a
    /// state.
    pub fn is_repeatable(self) -> bool {
        RoleKind::Reader.runs(self) || self.declaration().is_repeatable
    }

    /// Returns whether statements with this id that are sent one after another, without waiting for the reply, must run
    /// in that order. A driver that cannot promise this is sent only one at a time.
    pub fn runs_in_order(self) -> bool {
        self.declaration().is_in_order
    }
}

impl RoleKind {
    /// Returns whether roles of this kind run this statement.
    pub fn runs(self, statement: StatementId) -> bool {
        self == RoleKind::Operator || statement.declaration().roles.contains(&self)
    }

    /// Returns the kind of role that runs this statement with the fewest privileges.
    pub fn least_for(statement: StatementId) -> RoleKind {
        statement.declaration().roles.first().copied().unwrap_or(RoleKind::Operator)
    }
}

/// All statements for one schema, rendered once. Clones share the texts.
#[derive(Debug, Clone)]
pub struct Catalog {
    schema: SchemaName,
    statements: Arc<[Rendered]>,
}

/// A rendered statement.
#[derive(Debug)]
struct Rendered {
    plain: Statement,
    /// With the check of the `search_path`, if it may run in the caller's transactions.
    checked: Option<Statement>,
}

impl Catalog {
    /// Returns the statements for the tables in `schema`.
    pub fn new(schema: &SchemaName) -> Self {
        let parts = parts(op::item_parts());
        let rendered = |id: StatementId| {
            let text = render_with(&parts, id.declaration().sql, schema);
            let plain = Statement { id, params: parameter_types(&text), columns: id.columns(), text };
            let text = id.declaration().is_in_transaction.then(|| with_search_path_check(&plain.text));
            Rendered { checked: text.map(|text| Statement { text, ..plain.clone() }), plain }
        };
        Catalog { schema: schema.clone(), statements: StatementId::ALL.map(rendered).into() }
    }

    /// Returns a statement for the caller's transaction, whose `search_path` may be anything: if a schema precedes
    /// `pg_catalog` in it, the statement fails, see [`Failure::is_search_path`](crate::Failure::is_search_path). A
    /// statement that is not meant for the caller's transactions is returned without this check.
    pub fn statement_in_transaction(&self, id: StatementId) -> &Statement {
        self.statements[id as usize].checked.as_ref().unwrap_or_else(|| self.statement(id))
    }

    /// Returns a statement for pm's own connections.
    pub fn statement(&self, id: StatementId) -> &Statement {
        &self.statements[id as usize].plain
    }

    /// Returns the schema's name.
    pub fn schema(&self) -> &SchemaName {
        &self.schema
    }
}

/// Returns the types of the parameters, in order: those of the first cast of each, as in `$1::pg_catalog.int8`.
fn parameter_types(text: &str) -> Vec<Type> {
    let cast_of = |n: usize| text.split_once(&format!("${n}::pg_catalog.")).map(|(_, cast)| cast);
    // `int4[]` begins with `int4`, so the longest name decides.
    let ty_of =
        |cast: &str| Type::ALL.into_iter().filter(|ty| cast.starts_with(ty.name())).max_by_key(|ty| ty.name().len());
    (1..).map_while(|n| cast_of(n).and_then(ty_of)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enqueue_with_a_key_runs_on_other_connections_than_one_without() {
        let job = |key: Option<&str>| crate::NewJob {
            id: uuid::Uuid::from_u128(1),
            queue: crate::QueueName::new("a").unwrap(),
            payload: bytes::Bytes::new(),
            options: crate::EnqueueOptions { key: key.map(str::to_owned), ..crate::EnqueueOptions::default() },
        };
        let [plain, keyed] = [job(None), job(Some("key"))];
        assert_eq!(op::Enqueue::plan_of(&[plain]).statement.class(), ConnectionClass::Hot);
        assert_eq!(op::EnqueueKeyed::plan_of(&[keyed]).statement.class(), ConnectionClass::Keyed);
    }

    #[test]
    fn every_statement_is_in_the_catalogue_and_names_the_schema() {
        let catalog = Catalog::new(&SchemaName::new("my jobs").unwrap());
        for id in StatementId::ALL {
            let statement = catalog.statement(id);
            assert_eq!(statement.id, id);
            assert!(!statement.text.contains(['{', '@']), "{id:?} keeps a placeholder");
            assert!(!statement.text.contains("--"), "{id:?} keeps a comment");
            for param in 1..=statement.params.len() {
                assert!(statement.text.contains(&format!("${param}")), "{id:?} has no ${param}");
            }
            assert!(!statement.text.contains(&format!("${}", statement.params.len() + 1)), "{id:?}");
            let without =
                [StatementId::Notify, StatementId::RowHolders, StatementId::Encoding, StatementId::SearchPaths];
            let names_tables = !without.contains(&id);
            assert_eq!(statement.text.contains("\"my jobs\""), names_tables, "{id:?} and the schema's name");
        }
    }

    /// Returns the names before a `(`, and of types, that are not qualified with pg_catalog or pm's schema.
    fn unqualified(text: &str) -> Vec<&str> {
        const KEYWORDS: [&str; 9] = ["", "coalesce", "greatest", "least", "extract", "any", "array", "operator", "row"];
        let name_before = |at: usize| {
            let start = text[..at].rfind(|c: char| !(c.is_alphanumeric() || "_.".contains(c))).map_or(0, |end| end + 1);
            (&text[start..at], &text[..start])
        };
        let calls = text.match_indices('(').map(|(at, _)| name_before(at)).filter(|(name, before)| {
            // Unnest of several arrays is syntax: the server looks it up only in pg_catalog.
            let arguments = text[before.len() + name.len()..].split_once(')').map_or("", |(arguments, _)| arguments);
            let is_syntax = *name == "unnest" && arguments.contains(',');
            !before.ends_with("as ") && !KEYWORDS.contains(name) && !is_syntax
        });
        let types = text.match_indices("::").map(|(at, _)| {
            let rest = &text[at + 2..];
            &rest[..rest.find(|c: char| !(c.is_alphanumeric() || "_.".contains(c))).unwrap_or(rest.len())]
        });
        // A name that begins with a dot follows the name of pm's schema.
        let is_named = |name: &&str| name.starts_with("pg_catalog.") || name.starts_with('.');
        calls.map(|(name, _)| name).chain(types).filter(|name| !is_named(name)).collect()
    }

    #[test]
    fn functions_and_types_are_named_with_their_schema() {
        let catalog = Catalog::new(&SchemaName::default());
        for id in StatementId::ALL {
            assert_eq!(unqualified(&catalog.statement(id).text), Vec::<&str>::new(), "{id:?}");
            assert_eq!(unqualified(&catalog.statement_in_transaction(id).text), Vec::<&str>::new(), "{id:?}");
        }
        let bad =
            "select count(*), $1::int4, max (2), a in (1), pg_catalog.now()::pg_catalog.text from unnest($2) as t(a)";
        assert_eq!(unqualified(bad), ["count", "unnest", "int4"]);
    }
}
