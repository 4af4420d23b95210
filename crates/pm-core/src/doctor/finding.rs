//! What the doctor reports: findings of checks, with remedies.

use crate::grants::RoleKind;
use crate::named::named;
use std::fmt;

/// A problem, with its consequences and a fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The kind of problem.
    pub check: Check,
    /// The problem itself, with names and numbers.
    pub what: String,
    /// Why it matters.
    pub why: &'static str,
    /// How to fix it.
    pub remedy: Remedy,
}

named! {
    /// The kinds of problems that are looked for, in the order in which findings are reported.
    #[non_exhaustive]
    pub enum Check {
        /// Row-level security may hide rows.
        RowSecurity = "row_security",
        /// A role lacks a privilege.
        MissingGrant = "missing_grant",
        /// A table is not an ordinary, logged, local table.
        OddTable = "odd_table",
        /// A table has a trigger or a rule that is not pm's.
        Trigger = "trigger",
        /// The trigger that deletes the dependent rows of a job is missing or disabled.
        MissingTrigger = "missing_trigger",
        /// Rows belong to jobs that no longer exist.
        Orphans = "orphans",
        /// Sessions start with a `search_path` in which another schema precedes `pg_catalog`.
        SearchPath = "search_path",
        /// The schema has no queues, and another schema has tables like pm's: perhaps that one was meant.
        OtherSchema = "other_schema",
        /// A sequence is behind the numbers in use.
        LaggingSequence = "lagging_sequence",
        /// A transaction, standby or slot keeps vacuum from removing dead rows.
        HeldRows = "held_rows",
        /// A table has many dead rows.
        DeadRows = "dead_rows",
        /// An index is missing.
        MissingIndex = "missing_index",
        /// An index exists but is invalid.
        InvalidIndex = "invalid_index",
        /// A large table is often scanned in full.
        Scans = "scans",
        /// Leases have expired and are not reaped.
        StaleLeases = "stale_leases",
        /// This machine's clock differs from the database's.
        ClockOffset = "clock_offset",
        /// A queue has ready jobs, and none are in progress.
        UnservedQueue = "unserved_queue",
        /// Autovacuum is off.
        NoAutovacuum = "no_autovacuum",
        /// A table approaches transaction id wraparound.
        Wraparound = "wraparound",
        /// A queue was deleted, but its jobs still exist.
        DeletedQueue = "deleted_queue",
    }
}

/// How to fix a finding. `Display` describes it in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Run these SQL statements one by one, each in its own transaction, as a role with the necessary privileges.
    Sql(Vec<String>),
    /// Give the role the privileges of this kind; see [`grant_script`](crate::grants::grant_script).
    Grant {
        /// The name of the role.
        role: String,
        /// What the role is meant for.
        kind: RoleKind,
    },
    /// Reap the expired leases, or run a worker, which does.
    Reap,
    /// Prune.
    Prune,
    /// Run a worker on this queue.
    Work(String),
    /// Synchronise this machine's clock.
    SetClock,
    /// Migrate a new schema and use that one.
    MigrateNewSchema,
    /// Use the schema of this name, if it was meant.
    UseSchema(String),
}

impl Remedy {
    /// Returns the SQL statements; empty for another remedy.
    pub fn sql(&self) -> &[String] {
        match self {
            Remedy::Sql(statements) => statements,
            _ => &[],
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remedy::Sql(statements) => f.write_str(&statements.join("; ")),
            Remedy::Grant { role, kind } => write!(f, "grant role {role:?} the privileges of {}", kind.article()),
            Remedy::Reap => f.write_str("reap the expired leases"),
            Remedy::Prune => f.write_str("prune"),
            Remedy::Work(queue) => write!(f, "run a worker on queue {queue:?}"),
            Remedy::SetClock => f.write_str("synchronise this machine's clock"),
            Remedy::MigrateNewSchema => f.write_str("migrate a new schema, and use that one"),
            Remedy::UseSchema(name) => write!(f, "use schema {name:?}, if it was meant"),
        }
    }
}
