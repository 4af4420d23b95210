//! What the doctor reports: findings of checks, with remedies.

use super::text::quoted;

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

/// The kinds of problems that are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Check {
    /// Row-level security may hide rows.
    RowSecurity,
    /// A role lacks a privilege.
    MissingGrant,
    /// A table is not an ordinary, logged, local table.
    OddTable,
    /// A table has a trigger or a rule that is not pm's.
    Trigger,
    /// The trigger that deletes the dependent rows of a job is missing or disabled.
    MissingTrigger,
    /// Rows belong to jobs that no longer exist.
    Orphans,
    /// Sessions start with a `search_path` in which another schema precedes `pg_catalog`.
    SearchPath,
    /// The schema has no queues, and another schema has tables like pm's: perhaps that one was meant.
    OtherSchema,
    /// A sequence is behind the numbers in use.
    LaggingSequence,
    /// A transaction, standby or slot keeps vacuum from removing dead rows.
    HeldRows,
    /// A table has many dead rows.
    DeadRows,
    /// An index is missing.
    MissingIndex,
    /// An index exists but is invalid.
    InvalidIndex,
    /// A large table is often scanned in full.
    Scans,
    /// Leases have expired and are not reaped.
    StaleLeases,
    /// This machine's clock differs from the database's.
    ClockOffset,
    /// A queue has ready jobs, and none are in progress.
    UnservedQueue,
    /// Autovacuum is off.
    NoAutovacuum,
    /// A table approaches transaction id wraparound.
    Wraparound,
    /// A queue was deleted, but its jobs still exist.
    DeletedQueue,
}

impl Check {
    /// All checks, in the order in which findings are reported.
    pub const ALL: [Check; 20] = [
        Check::RowSecurity,
        Check::MissingGrant,
        Check::OddTable,
        Check::Trigger,
        Check::MissingTrigger,
        Check::Orphans,
        Check::SearchPath,
        Check::OtherSchema,
        Check::LaggingSequence,
        Check::HeldRows,
        Check::DeadRows,
        Check::MissingIndex,
        Check::InvalidIndex,
        Check::Scans,
        Check::StaleLeases,
        Check::ClockOffset,
        Check::UnservedQueue,
        Check::NoAutovacuum,
        Check::Wraparound,
        Check::DeletedQueue,
    ];

    /// Returns the stable, machine-readable name, like `missing_index`.
    pub fn name(self) -> &'static str {
        match self {
            Check::RowSecurity => "row_security",
            Check::MissingGrant => "missing_grant",
            Check::OddTable => "odd_table",
            Check::Trigger => "trigger",
            Check::MissingTrigger => "missing_trigger",
            Check::Orphans => "orphans",
            Check::SearchPath => "search_path",
            Check::OtherSchema => "other_schema",
            Check::LaggingSequence => "lagging_sequence",
            Check::HeldRows => "held_rows",
            Check::DeadRows => "dead_rows",
            Check::MissingIndex => "missing_index",
            Check::InvalidIndex => "invalid_index",
            Check::Scans => "scans",
            Check::StaleLeases => "stale_leases",
            Check::ClockOffset => "clock_offset",
            Check::UnservedQueue => "unserved_queue",
            Check::NoAutovacuum => "no_autovacuum",
            Check::Wraparound => "wraparound",
            Check::DeletedQueue => "deleted_queue",
        }
    }
}

/// How to fix a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// SQL statements, separated by `; `, for a role with the necessary privileges.
    Sql(String),
    /// A shell command.
    Command(String),
}

impl Remedy {
    /// Returns the SQL, or `None` for a shell command.
    pub fn sql(&self) -> Option<&str> {
        match self {
            Remedy::Sql(sql) => Some(sql),
            Remedy::Command(_) => None,
        }
    }

    /// Returns a shell command. It runs SQL with psql on the database in `PM_DATABASE_URL`.
    pub fn command(&self) -> String {
        match self {
            Remedy::Sql(sql) => {
                let each: Vec<_> = sql.split("; ").map(|sql| format!(" -c {}", quoted(sql))).collect();
                format!("psql \"$PM_DATABASE_URL\"{}", each.concat())
            }
            Remedy::Command(command) => command.clone(),
        }
    }
}
