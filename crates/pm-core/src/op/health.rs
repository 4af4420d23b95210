//! Measurements for [`crate::doctor`], which judges them.

use super::all;
use crate::operation::operation;
use crate::statement::{Declaration, roles};
use crate::time::from_ms;
use crate::wire::{Parameter, Rows, columns, stored};
use crate::{Error, Operation, Params, StatementId, Timestamp};
use std::time::Duration;

/// Lists what keeps vacuum from removing old row versions, the oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowHolders;

columns! {
    /// A transaction, standby or replication slot that keeps vacuum from removing old row versions.
    pub struct RowHolder {
        /// Its kind.
        pub kind: RowHolderKind,
        /// The process id of a session or standby, or the name of a prepared transaction or slot.
        pub name: String as "holder",
        /// The role that it belongs to.
        pub role: Option<String>,
        /// The `application_name` of its session.
        pub application: Option<String>,
        /// Its state, as Postgres reports it.
        pub state: Option<String>,
        /// How long its transaction has been open; `None` for standbys and slots.
        pub age: Option<Duration> as "age_ms",
        /// How many transactions have begun since.
        pub transactions: u64,
    }
}

/// The kinds of things that keep vacuum from removing old row versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowHolderKind {
    /// A client's open transaction.
    Session,
    /// A standby that reports its queries (`hot_standby_feedback`).
    Standby,
    /// A transaction that was prepared and neither committed nor rolled back.
    Prepared,
    /// A replication slot.
    Slot,
}

operation! {
    RowHolders: all RowHolder;
    Declaration::operator(StatementId::RowHolders, include_str!("row_holders.sql"), roles::READ);
}

stored! {
    RowHolderKind as String: |column| match column.as_str() {
        "session" => Some(RowHolderKind::Session),
        "standby" => Some(RowHolderKind::Standby),
        "prepared" => Some(RowHolderKind::Prepared),
        "slot" => Some(RowHolderKind::Slot),
        _ => None,
    }, |kind| format!("{kind:?}").to_lowercase();
}

/// Reads row counts, scans and vacuum settings of pm's tables. Cheap: it reads statistics, not the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableHealths;

columns! {
    /// Row counts, scans and vacuum settings of a table.
    pub struct TableHealth {
        /// Its name, without the schema.
        pub name: String,
        /// The approximate number of live rows.
        pub live: u64,
        /// The approximate number of dead row versions.
        pub dead: u64,
        /// How often it was scanned in full.
        pub scans: u64,
        /// How many rows these scans read.
        pub scanned_rows: u64,
        /// The time over which scans were counted.
        pub counted: Duration as "counted_ms",
        /// Whether autovacuum is enabled for this table.
        pub has_autovacuum: bool,
        /// Whether the server runs autovacuum.
        pub server_has_autovacuum: bool,
        /// The age of its oldest row version, in transactions.
        pub age: u64,
        /// The age at which autovacuum freezes its row versions.
        pub freeze_age: u64,
        /// The database's time.
        pub read_at: Timestamp,
    }
}

operation! {
    TableHealths: all TableHealth;
    Declaration::operator(StatementId::TableHealths, include_str!("table_healths.sql"), roles::READ);
}

/// Lists the indexes of pm's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexHealths;

columns! {
    /// An index of one of pm's tables.
    pub struct IndexHealth {
        /// Its name, without the schema.
        pub name: String,
        /// Whether statements can use it: it is valid and built.
        pub is_valid: bool,
    }
}

operation! {
    IndexHealths: all IndexHealth;
    Declaration::operator(StatementId::IndexHealths, include_str!("index_healths.sql"), roles::READ);
}

/// Counts rows whose job no longer exists, among the newest of each table. At most 20,000 index probes, about 20 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orphans;

columns! {
    /// The number of rows in a table whose job no longer exists.
    pub struct OrphanCount {
        /// The table's name, without the schema.
        pub table: String as "name",
        /// How many of its newest 10,000 rows belong to no existing job.
        pub rows: u64 as "orphans",
    }
}

operation! {
    Orphans: all OrphanCount;
    Declaration::operator(StatementId::Orphans, include_str!("orphans.sql"), roles::READ);
}

/// Lists the `search_path` settings that sessions on this database start with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchPaths;

columns! {
    /// A `search_path` setting that some sessions start with.
    pub struct SearchPath {
        /// The role that it applies to; `None` for all.
        pub role: Option<String>,
        /// The database that it applies to; `None` for all.
        pub database: Option<String>,
        /// The schemas, as in the setting.
        pub schemas: String as "search_path",
    }
}

operation! {
    SearchPaths: all SearchPath;
    Declaration::operator(StatementId::SearchPaths, include_str!("search_paths.sql"), roles::READ);
}

/// Counts the jobs in progress and the expired leases of each queue. The cost grows with the jobs in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueHealths {
    /// Leases that expired longer ago than this are counted as stale.
    pub threshold: Duration,
}

/// The jobs in progress and the expired leases of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueHealth {
    /// Its name; `None` if it is being deleted.
    pub name: Option<String>,
    /// Whether it is paused.
    pub paused: bool,
    /// How many of its jobs are in progress.
    pub in_progress: u64,
    /// How many leases expired longer ago than the threshold and were not reaped.
    pub stale: u64,
    /// How long ago the first of its leases expired; zero if none has.
    pub overdue: Duration,
}

impl Operation for QueueHealths {
    type Row = QueueHealthRow;
    type Output = Vec<QueueHealth>;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::QueueHealths, include_str!("queue_healths.sql"), roles::READ);

    fn params(&self) -> Params<'_> {
        vec![self.threshold.param()]
    }

    fn interpret(&self, rows: &Rows) -> Result<Vec<QueueHealth>, Error> {
        let read = |row: QueueHealthRow| {
            let QueueHealthRow { name, paused, in_progress, stale, overdue_ms } = row;
            QueueHealth { name, paused, in_progress, stale, overdue: overdue_ms.map(from_ms).unwrap_or_default() }
        };
        Ok(all::<Self>(rows)?.into_iter().map(read).collect())
    }
}

columns! {
    /// The row of a queue.
    pub struct QueueHealthRow {
        pub name: Option<String>,
        pub paused: bool,
        pub in_progress: u64,
        pub stale: u64,
        pub overdue_ms: Option<i64>,
    }
}
