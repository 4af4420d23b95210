//! The list of all statements that pm sends.

use crate::SchemaName;
use crate::grants::RoleKind;
use crate::op;
use crate::render::{render, with_search_path_check};
use crate::statement::{ConnectionClass, Definition, Statement, StatementId};
use std::sync::Arc;

/// The number of statements.
const COUNT: usize = 57;

/// The declarations of all statements, in the order of [`StatementId`].
const DEFINITIONS: [&Definition; COUNT] = [
    &op::enqueue::ENQUEUE,
    &op::enqueue_keyed::ENQUEUE_KEYED,
    &op::enqueue_keyed::ENQUEUE_EACH,
    &op::enqueue::KEY_HOLDER,
    &op::enqueue::REPLACE_JOBS,
    &op::claim::CLAIM,
    &op::poll::POLL,
    &op::settle::SETTLE,
    &op::settle::OUTCOME,
    &op::extend::EXTEND,
    &op::reap::REAP,
    &op::promote::PROMOTE,
    &op::claim::RELEASE_CLAIM,
    &op::queue::CREATE_QUEUE,
    &op::queue::PAUSE_QUEUE,
    &op::queue::RESUME_QUEUE,
    &op::queue::COUNT_PENDING,
    &op::queue::LIST_QUEUES,
    &op::stats::ACTIVITY,
    &op::stats::TABLE_SIZES,
    &op::health::ROW_HOLDERS,
    &op::health::TABLE_HEALTH,
    &op::health::INDEX_HEALTH,
    &op::health::QUEUE_HEALTH,
    &op::queue::QUEUE_SETTINGS,
    &op::queue::SET_QUEUE,
    &op::job::LIST_JOBS,
    &op::job::JOB,
    &op::job::PAYLOAD,
    &op::job::RESOLVE_SUFFIX,
    &op::job::ATTEMPTS,
    &op::next_jobs::NEXT_JOBS,
    &op::notify::NOTIFY,
    &op::notify::NOTIFY_IDLE,
    &op::bulk::RESTART_JOBS,
    &op::bulk::END_JOBS,
    &op::bulk::DELETE_JOBS,
    &op::bulk::MOVE_JOBS,
    &op::copy_job::COPY_JOB,
    &op::fetch_job::FETCH_JOB,
    &op::prune::BEGIN_QUEUE_DELETION,
    &op::prune::RENAME_QUEUE,
    &op::prune::PRUNE_JOBS,
    &op::prune::DELETE_EMPTY_QUEUES,
    &op::schedule::LIST_SCHEDULES,
    &op::schedule::SET_SCHEDULE,
    &op::schedule::HOLD_SCHEDULE,
    &op::schedule::DELETE_SCHEDULE,
    &op::fire::DUE_SCHEDULES,
    &op::fire::FIRE_SCHEDULES,
    &op::schema_version::SCHEMA_VERSION,
    &op::encoding::ENCODING,
    &op::relations::RELATIONS,
    &op::relations::PRIVILEGES,
    &op::sequences::SEQUENCES,
    &op::health::ORPHANS,
    &op::health::SEARCH_PATHS,
];

/// Returns the names of all statements. Fails to compile if the list is not in the order of the names.
const fn ids() -> [StatementId; COUNT] {
    let mut ids = [DEFINITIONS[0].id; COUNT];
    let mut n = 0;
    while n < COUNT {
        ids[n] = DEFINITIONS[n].id;
        assert!(ids[n] as usize == n, "the declarations are in the order of the names");
        n += 1;
    }
    ids
}

impl StatementId {
    /// All statements.
    pub const ALL: [StatementId; COUNT] = ids();

    /// The statements that may run in the caller's transactions.
    pub const IN_TRANSACTION: [StatementId; 6] = [
        StatementId::Enqueue,
        StatementId::EnqueueKeyed,
        StatementId::KeyHolder,
        StatementId::ReplaceJobs,
        StatementId::Notify,
        StatementId::Settle,
    ];

    /// Returns the class of the connections on which the statement runs.
    pub fn class(self) -> ConnectionClass {
        self.definition().class
    }

    /// Returns the name as in SQL files and commands: `claim`, `prune_jobs`.
    pub fn name(self) -> String {
        let mut name = String::new();
        for c in format!("{self:?}").chars() {
            if c.is_ascii_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(c.to_ascii_lowercase());
        }
        name
    }

    /// Returns whether running the statement again is harmless and has the same outcome: it only reads, or sets a
    /// state.
    pub fn is_repeatable(self) -> bool {
        RoleKind::Reader.runs(self) || matches!(self, StatementId::DueSchedules | StatementId::PauseQueue)
    }

    fn definition(self) -> &'static Definition {
        DEFINITIONS[self as usize]
    }
}

impl RoleKind {
    /// Returns whether roles of this kind run this statement.
    pub fn runs(self, statement: StatementId) -> bool {
        self == RoleKind::Operator || statement.definition().roles.contains(&self)
    }

    /// Returns the kind of role that runs this statement with the fewest privileges.
    pub fn least_for(statement: StatementId) -> RoleKind {
        statement.definition().roles.first().copied().unwrap_or(RoleKind::Operator)
    }
}

/// All statements for one schema, rendered once. Clones share the texts.
#[derive(Debug, Clone)]
pub struct Catalog {
    schema: SchemaName,
    statements: Arc<[Statement]>,
    /// Those of [`StatementId::IN_TRANSACTION`], with the check of the `search_path`.
    in_transaction: Arc<[Statement]>,
}

impl Catalog {
    /// Returns the statements for the tables in `schema`.
    pub fn new(schema: &SchemaName) -> Self {
        let statement = |id: StatementId| {
            let Definition { sql, params, columns, .. } = id.definition();
            Statement { id, text: render(sql, schema), params, columns }
        };
        let in_transaction = StatementId::IN_TRANSACTION.map(|id| {
            let plain = statement(id);
            Statement { text: with_search_path_check(&plain.text), ..plain }
        });
        Catalog {
            schema: schema.clone(),
            statements: StatementId::ALL.map(statement).into(),
            in_transaction: in_transaction.into(),
        }
    }

    /// Returns a statement for the caller's transaction, whose `search_path` may be anything: if a schema precedes
    /// `pg_catalog` in it, the statement fails, see [`Failure::is_search_path`](crate::Failure::is_search_path). A
    /// statement that is not in [`StatementId::IN_TRANSACTION`] is returned without this check.
    pub fn statement_in_transaction(&self, id: StatementId) -> &Statement {
        self.in_transaction.iter().find(|statement| statement.id == id).unwrap_or_else(|| self.statement(id))
    }

    /// Returns a statement for pm's own connections.
    pub fn statement(&self, id: StatementId) -> &Statement {
        &self.statements[id as usize]
    }

    /// Returns the schema's name.
    pub fn schema(&self) -> &SchemaName {
        &self.schema
    }
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
