//! Every statement pm sends, as data.

use crate::grants::RoleKind;
use crate::op;
use crate::wire::Type;
use crate::{Params, SchemaName};
use std::sync::Arc;

/// Names a statement. Drivers keep prepared statements by it; they never ask which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // each is documented at its operation
#[non_exhaustive]
pub enum StatementId {
    Enqueue,
    EnqueueKeyed,
    EnqueueEach,
    KeyHolder,
    ReplaceJobs,
    Claim,
    Poll,
    Settle,
    Outcome,
    Extend,
    Reap,
    Promote,
    ReleaseClaim,
    CreateQueue,
    PauseQueue,
    ResumeQueue,
    CountPending,
    ListQueues,
    Activity,
    TableSizes,
    RowHolders,
    TableHealth,
    IndexHealth,
    QueueHealth,
    QueueSettings,
    SetQueue,
    ListJobs,
    Job,
    Payload,
    ResolveSuffix,
    Attempts,
    NextJobs,
    Notify,
    NotifyIdle,
    RestartJobs,
    EndJobs,
    DeleteJobs,
    MoveJobs,
    CopyJob,
    FetchJob,
    BeginQueueDeletion,
    RenameQueue,
    PruneJobs,
    DeleteEmptyQueues,
    ListSchedules,
    SetSchedule,
    HoldSchedule,
    DeleteSchedule,
    DueSchedules,
    FireSchedules,
    SchemaVersion,
    Encoding,
    Relations,
    Privileges,
    Sequences,
    Orphans,
    SearchPaths,
}

/// On which connections a statement runs. One of a class never waits behind one of another class.
///
/// Drivers and the queue handle keep them apart by connections of their own, or by how many
/// connections of a pool each class may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionClass {
    /// Extensions of leases. They never wait for a locked row, and whatever else waits must not hold them up.
    Extend,
    /// Short and frequent: claims, settles, enqueues without keys, reads by id. They wait for a locked row seldom, and
    /// `lock_timeout` at most.
    Hot,
    /// Enqueues with keys and their follow-ups, which may wait for the transaction that holds a key.
    Keyed,
    /// What operators do, which may wait for any row; and reads of many rows, which may take long.
    Operator,
}

/// A statement's text, with its parameters and columns in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its name.
    pub id: StatementId,
    /// Its text, for one schema; parameters are `$1`, `$2`, …
    pub text: String,
    /// The types of its parameters.
    pub params: &'static [Type],
    /// The types of its columns.
    pub columns: &'static [Type],
}

/// A statement before the schema's name is put in.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) sql: &'static str,
    pub(crate) params: &'static [Type],
    pub(crate) columns: &'static [Type],
}

/// All statements for one schema name, rendered once.
#[derive(Debug, Clone)]
pub struct Catalog {
    schema: SchemaName,
    statements: Arc<[Statement]>,
    /// Those of [`StatementId::IN_TRANSACTION`], behind the check of the `search_path`.
    in_transaction: Arc<[Statement]>,
}

/// What to send: a statement and its parameters. It can be printed, compared, logged, run and faked.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan<'a> {
    /// Which statement.
    pub statement: StatementId,
    /// With which parameters.
    pub params: Params<'a>,
}

impl StatementId {
    /// Those that run in transactions of the caller's.
    pub const IN_TRANSACTION: [StatementId; 6] = [
        StatementId::Enqueue,
        StatementId::EnqueueKeyed,
        StatementId::KeyHolder,
        StatementId::ReplaceJobs,
        StatementId::Notify,
        StatementId::Settle,
    ];

    /// All statements.
    pub const ALL: [StatementId; 57] = [
        StatementId::Enqueue,
        StatementId::EnqueueKeyed,
        StatementId::EnqueueEach,
        StatementId::KeyHolder,
        StatementId::ReplaceJobs,
        StatementId::Claim,
        StatementId::Poll,
        StatementId::Settle,
        StatementId::Outcome,
        StatementId::Extend,
        StatementId::Reap,
        StatementId::Promote,
        StatementId::ReleaseClaim,
        StatementId::CreateQueue,
        StatementId::PauseQueue,
        StatementId::ResumeQueue,
        StatementId::CountPending,
        StatementId::ListQueues,
        StatementId::Activity,
        StatementId::TableSizes,
        StatementId::RowHolders,
        StatementId::TableHealth,
        StatementId::IndexHealth,
        StatementId::QueueHealth,
        StatementId::QueueSettings,
        StatementId::SetQueue,
        StatementId::ListJobs,
        StatementId::Job,
        StatementId::Payload,
        StatementId::ResolveSuffix,
        StatementId::Attempts,
        StatementId::NextJobs,
        StatementId::Notify,
        StatementId::NotifyIdle,
        StatementId::RestartJobs,
        StatementId::EndJobs,
        StatementId::DeleteJobs,
        StatementId::MoveJobs,
        StatementId::CopyJob,
        StatementId::FetchJob,
        StatementId::BeginQueueDeletion,
        StatementId::RenameQueue,
        StatementId::PruneJobs,
        StatementId::DeleteEmptyQueues,
        StatementId::ListSchedules,
        StatementId::SetSchedule,
        StatementId::HoldSchedule,
        StatementId::DeleteSchedule,
        StatementId::DueSchedules,
        StatementId::FireSchedules,
        StatementId::SchemaVersion,
        StatementId::Encoding,
        StatementId::Relations,
        StatementId::Privileges,
        StatementId::Sequences,
        StatementId::Orphans,
        StatementId::SearchPaths,
    ];

    /// Returns on which connections it runs.
    pub fn class(self) -> ConnectionClass {
        match self {
            StatementId::Extend => ConnectionClass::Extend,
            StatementId::Enqueue
            | StatementId::Claim
            | StatementId::Poll
            | StatementId::Settle
            | StatementId::Outcome
            | StatementId::Reap
            | StatementId::Promote
            | StatementId::ReleaseClaim
            | StatementId::FetchJob
            | StatementId::Notify
            | StatementId::NotifyIdle
            | StatementId::DueSchedules
            | StatementId::FireSchedules
            | StatementId::QueueSettings
            | StatementId::Job
            | StatementId::Payload
            | StatementId::Attempts
            | StatementId::SchemaVersion
            | StatementId::Encoding => ConnectionClass::Hot,
            StatementId::EnqueueKeyed
            | StatementId::EnqueueEach
            | StatementId::KeyHolder
            | StatementId::ReplaceJobs => ConnectionClass::Keyed,
            StatementId::CreateQueue
            | StatementId::PauseQueue
            | StatementId::ResumeQueue
            | StatementId::CountPending
            | StatementId::ListQueues
            | StatementId::Activity
            | StatementId::TableSizes
            | StatementId::RowHolders
            | StatementId::TableHealth
            | StatementId::Relations
            | StatementId::Privileges
            | StatementId::Sequences
            | StatementId::Orphans
            | StatementId::SearchPaths
            | StatementId::IndexHealth
            | StatementId::QueueHealth
            | StatementId::SetQueue
            | StatementId::ListJobs
            | StatementId::ResolveSuffix
            | StatementId::NextJobs
            | StatementId::RestartJobs
            | StatementId::EndJobs
            | StatementId::DeleteJobs
            | StatementId::MoveJobs
            | StatementId::CopyJob
            | StatementId::BeginQueueDeletion
            | StatementId::RenameQueue
            | StatementId::PruneJobs
            | StatementId::DeleteEmptyQueues
            | StatementId::ListSchedules
            | StatementId::SetSchedule
            | StatementId::HoldSchedule
            | StatementId::DeleteSchedule => ConnectionClass::Operator,
        }
    }

    /// Returns whether running it once more does no harm and answers the same: a role that only reads runs it, or it says
    /// what is to be.
    pub fn is_repeatable(self) -> bool {
        RoleKind::Reader.runs(self) || matches!(self, StatementId::DueSchedules | StatementId::PauseQueue)
    }

    fn definition(self) -> &'static Definition {
        match self {
            StatementId::Enqueue => &op::enqueue::ENQUEUE,
            StatementId::EnqueueKeyed => &op::enqueue_keyed::ENQUEUE_KEYED,
            StatementId::EnqueueEach => &op::enqueue_keyed::ENQUEUE_EACH,
            StatementId::KeyHolder => &op::enqueue::KEY_HOLDER,
            StatementId::ReplaceJobs => &op::enqueue::REPLACE_JOBS,
            StatementId::Claim => &op::claim::CLAIM,
            StatementId::Poll => &op::poll::POLL,
            StatementId::Settle => &op::settle::SETTLE,
            StatementId::Outcome => &op::settle::OUTCOME,
            StatementId::Extend => &op::extend::EXTEND,
            StatementId::Reap => &op::reap::REAP,
            StatementId::Promote => &op::promote::PROMOTE,
            StatementId::ReleaseClaim => &op::claim::RELEASE_CLAIM,
            StatementId::CreateQueue => &op::queue::CREATE_QUEUE,
            StatementId::PauseQueue => &op::queue::PAUSE_QUEUE,
            StatementId::ResumeQueue => &op::queue::RESUME_QUEUE,
            StatementId::CountPending => &op::queue::COUNT_PENDING,
            StatementId::ListQueues => &op::queue::LIST_QUEUES,
            StatementId::Activity => &op::stats::ACTIVITY,
            StatementId::TableSizes => &op::stats::TABLE_SIZES,
            StatementId::RowHolders => &op::health::ROW_HOLDERS,
            StatementId::TableHealth => &op::health::TABLE_HEALTH,
            StatementId::IndexHealth => &op::health::INDEX_HEALTH,
            StatementId::QueueHealth => &op::health::QUEUE_HEALTH,
            StatementId::QueueSettings => &op::queue::QUEUE_SETTINGS,
            StatementId::SetQueue => &op::queue::SET_QUEUE,
            StatementId::ListJobs => &op::job::LIST_JOBS,
            StatementId::Job => &op::job::JOB,
            StatementId::Payload => &op::job::PAYLOAD,
            StatementId::ResolveSuffix => &op::job::RESOLVE_SUFFIX,
            StatementId::Attempts => &op::job::ATTEMPTS,
            StatementId::NextJobs => &op::next_jobs::NEXT_JOBS,
            StatementId::Notify => &op::notify::NOTIFY,
            StatementId::RestartJobs => &op::bulk::RESTART_JOBS,
            StatementId::EndJobs => &op::bulk::END_JOBS,
            StatementId::DeleteJobs => &op::bulk::DELETE_JOBS,
            StatementId::MoveJobs => &op::bulk::MOVE_JOBS,
            StatementId::CopyJob => &op::copy_job::COPY_JOB,
            StatementId::FetchJob => &op::fetch_job::FETCH_JOB,
            StatementId::BeginQueueDeletion => &op::prune::BEGIN_QUEUE_DELETION,
            StatementId::RenameQueue => &op::prune::RENAME_QUEUE,
            StatementId::PruneJobs => &op::prune::PRUNE_JOBS,
            StatementId::DeleteEmptyQueues => &op::prune::DELETE_EMPTY_QUEUES,
            StatementId::ListSchedules => &op::schedule::LIST_SCHEDULES,
            StatementId::SetSchedule => &op::schedule::SET_SCHEDULE,
            StatementId::HoldSchedule => &op::schedule::HOLD_SCHEDULE,
            StatementId::DeleteSchedule => &op::schedule::DELETE_SCHEDULE,
            StatementId::DueSchedules => &op::fire::DUE_SCHEDULES,
            StatementId::FireSchedules => &op::fire::FIRE_SCHEDULES,
            StatementId::NotifyIdle => &op::notify::NOTIFY_IDLE,
            StatementId::SchemaVersion => &op::schema_version::SCHEMA_VERSION,
            StatementId::Encoding => &op::encoding::ENCODING,
            StatementId::Relations => &op::relations::RELATIONS,
            StatementId::Privileges => &op::relations::PRIVILEGES,
            StatementId::Sequences => &op::sequences::SEQUENCES,
            StatementId::Orphans => &op::health::ORPHANS,
            StatementId::SearchPaths => &op::health::SEARCH_PATHS,
        }
    }
}

impl Catalog {
    /// Returns the statements for the tables in `schema`.
    pub fn new(schema: &SchemaName) -> Self {
        let statement = |id: StatementId| {
            let Definition { sql, params, columns } = id.definition();
            Statement { id, text: render(sql, schema), params, columns }
        };
        let in_transaction = StatementId::IN_TRANSACTION.map(|id| {
            let plain = statement(id);
            Statement { text: checked(&plain.text), ..plain }
        });
        Catalog {
            schema: schema.clone(),
            statements: StatementId::ALL.map(statement).into(),
            in_transaction: in_transaction.into(),
        }
    }

    /// Returns the statement of this name for a transaction of the caller's, whose `search_path` may be anything: with
    /// a schema before `pg_catalog` it fails, see [`Failure::is_search_path`](crate::Failure::is_search_path). One that
    /// is not in [`StatementId::IN_TRANSACTION`] comes without the check.
    pub fn statement_in_transaction(&self, id: StatementId) -> &Statement {
        self.in_transaction.iter().find(|statement| statement.id == id).unwrap_or_else(|| self.statement(id))
    }

    /// Returns the statement of this name.
    pub fn statement(&self, id: StatementId) -> &Statement {
        let index = StatementId::ALL.iter().position(|other| *other == id);
        &self.statements[index.expect("a test sees that ALL holds every statement")]
    }

    /// Returns the schema's name.
    pub fn schema(&self) -> &SchemaName {
        &self.schema
    }
}

/// Parts that several statements share, by the name that stands for them.
const PARTS: [(&str, &str); 9] = [
    ("{job_columns}", include_str!("op/job_columns.sql")),
    ("{search_path}", SEARCH_PATH),
    ("{precondition}", include_str!("op/precondition.sql")),
    ("{not_locked}", include_str!("op/not_locked.sql")),
    ("{new_jobs}", include_str!("op/new_jobs.sql")),
    ("{not_added}", include_str!("op/not_added.sql")),
    ("{lines}", include_str!("op/lines.sql")),
    ("{lapsed_keys}", include_str!("op/lapsed_keys.sql")),
    ("{key_has_lapsed}", include_str!("op/key_has_lapsed.sql")),
];

const SEARCH_PATH: &str = include_str!("op/search_path.sql");

/// The setting that [`SEARCH_PATH`] asks for, so that the server's error names it.
pub(crate) const SEARCH_PATH_SETTING: &str = "pm.search_path_with_pg_catalog_first";

/// Returns a statement's text behind the check of the `search_path`: for a select that does not end in a limit.
fn checked(text: &str) -> String {
    let (with, rest) = match text.trim_start() {
        text if text.starts_with("with recursive ") => ("with recursive", text.replacen("with recursive ", ", ", 1)),
        text if text.starts_with("with ") => ("with", text.replacen("with ", ", ", 1)),
        text => ("with", text.to_owned()),
    };
    format!("{with} {}{rest}\nlimit (select most from search_path)", bare(SEARCH_PATH))
}

/// Returns `sql` for one schema, without its comments.
pub(crate) fn render(sql: &str, schema: &SchemaName) -> String {
    let text = PARTS.iter().fold(bare(sql), |text, (name, part)| text.replace(name, &bare(part)));
    text.replace("{schema}", &format!("\"{schema}\""))
}

/// Returns `sql` without its comments.
pub(crate) fn bare(sql: &str) -> String {
    let lines: Vec<_> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    lines.join("\n")
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
            options: crate::JobOptions { key: key.map(str::to_owned), ..crate::JobOptions::default() },
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
            assert!(!statement.text.contains('{'), "{id:?} keeps a placeholder");
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

    /// Returns what stands before each `(` without a blank and is no name of pg_catalog, and each type that is none.
    fn unqualified(text: &str) -> Vec<&str> {
        const KEYWORDS: [&str; 9] = ["", "coalesce", "greatest", "least", "extract", "any", "array", "operator", "row"];
        let name_before = |at: usize| {
            let start = text[..at].rfind(|c: char| !(c.is_alphanumeric() || "_.".contains(c))).map_or(0, |end| end + 1);
            (&text[start..at], &text[..start])
        };
        let calls = text.match_indices('(').map(|(at, _)| name_before(at)).filter(|(name, before)| {
            // Unnest of several arrays is syntax: the server looks for it in pg_catalog alone.
            let arguments = text[before.len() + name.len()..].split_once(')').map_or("", |(arguments, _)| arguments);
            let is_syntax = *name == "unnest" && arguments.contains(',');
            !before.ends_with("as ") && !KEYWORDS.contains(name) && !is_syntax
        });
        let types = text.match_indices("::").map(|(at, _)| {
            let rest = &text[at + 2..];
            &rest[..rest.find(|c: char| !(c.is_alphanumeric() || "_.".contains(c))).unwrap_or(rest.len())]
        });
        // What begins with a dot follows the name of pm's schema.
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
