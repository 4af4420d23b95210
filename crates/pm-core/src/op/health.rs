//! Measurements for [`crate::doctor`], which judges them.

use crate::statement::{ConnectionClass, Declaration, roles};
use crate::time::{from_ms, whole_ms};
use crate::wire::{Row, Rows, Type, Value};
use crate::{Error, Operation, Params, StatementId, Timestamp};
use std::time::Duration;

/// Lists what keeps vacuum from removing old row versions, the oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowHolders;

/// A transaction, standby or replication slot that keeps vacuum from removing old row versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowHolder {
    /// Its kind.
    pub kind: RowHolderKind,
    /// The process id of a session or standby, or the name of a prepared transaction or slot.
    pub name: String,
    /// The role that it belongs to.
    pub role: Option<String>,
    /// The `application_name` of its session.
    pub application: Option<String>,
    /// Its state, as Postgres reports it.
    pub state: Option<String>,
    /// How long its transaction has been open; `None` for standbys and slots.
    pub age: Option<Duration>,
    /// How many transactions have begun since.
    pub transactions: u64,
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

impl Operation for RowHolders {
    type Output = Vec<RowHolder>;
    const STATEMENT: StatementId = StatementId::RowHolders;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("row_holders.sql"), ConnectionClass::Operator, roles::READ);
    const COLUMNS: &'static [Type] =
        &[Type::Text, Type::Text, Type::Text, Type::Text, Type::Text, Type::Int8, Type::Int8];

    fn params(&self) -> Params<'_> {
        Vec::new()
    }

    fn interpret(self, rows: &Rows) -> Result<Vec<RowHolder>, Error> {
        rows.iter(Self::STATEMENT).map(read_holder).collect()
    }
}

fn read_holder(mut row: Row<'_>) -> Result<RowHolder, Error> {
    let kind: String = row.read()?;
    let kind = match kind.as_str() {
        "session" => RowHolderKind::Session,
        "standby" => RowHolderKind::Standby,
        "prepared" => RowHolderKind::Prepared,
        "slot" => RowHolderKind::Slot,
        odd => return Err(row.odd(format!("holder {odd:?}"))),
    };
    Ok(RowHolder {
        kind,
        name: row.read()?,
        role: row.read()?,
        application: row.read()?,
        state: row.read()?,
        age: row.read::<Option<i64>>()?.map(from_ms),
        transactions: row.read::<Option<i64>>()?.map_or(0, i64::unsigned_abs),
    })
}

/// Reads row counts, scans and vacuum settings of pm's tables. Cheap: it reads statistics, not the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableHealths;

/// Row counts, scans and vacuum settings of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub counted: Duration,
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

impl Operation for TableHealths {
    type Output = Vec<TableHealth>;
    const STATEMENT: StatementId = StatementId::TableHealths;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("table_healths.sql"), ConnectionClass::Operator, roles::READ);
    const COLUMNS: &'static [Type] = &[
        Type::Text,
        Type::Int8,
        Type::Int8,
        Type::Int8,
        Type::Int8,
        Type::Int8,
        Type::Bool,
        Type::Bool,
        Type::Int8,
        Type::Int8,
        Type::Timestamp,
    ];

    fn params(&self) -> Params<'_> {
        Vec::new()
    }

    fn interpret(self, rows: &Rows) -> Result<Vec<TableHealth>, Error> {
        rows.iter(Self::STATEMENT).map(read_table).collect()
    }
}

fn read_table(mut row: Row<'_>) -> Result<TableHealth, Error> {
    Ok(TableHealth {
        name: row.read()?,
        live: row.count()?,
        dead: row.count()?,
        scans: row.count()?,
        scanned_rows: row.count()?,
        counted: from_ms(row.read()?),
        has_autovacuum: row.read()?,
        server_has_autovacuum: row.read()?,
        age: row.count()?,
        freeze_age: row.count()?,
        read_at: row.read()?,
    })
}

/// Lists the indexes of pm's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexHealths;

/// An index of one of pm's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexHealth {
    /// Its name, without the schema.
    pub name: String,
    /// Whether statements can use it: it is valid and built.
    pub is_valid: bool,
}

impl Operation for IndexHealths {
    type Output = Vec<IndexHealth>;
    const STATEMENT: StatementId = StatementId::IndexHealths;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("index_healths.sql"), ConnectionClass::Operator, roles::READ);
    const COLUMNS: &'static [Type] = &[Type::Text, Type::Bool];

    fn params(&self) -> Params<'_> {
        Vec::new()
    }

    fn interpret(self, rows: &Rows) -> Result<Vec<IndexHealth>, Error> {
        let read = |mut row: Row<'_>| Ok(IndexHealth { name: row.read()?, is_valid: row.read()? });
        rows.iter(Self::STATEMENT).map(read).collect()
    }
}

/// Counts rows whose job no longer exists, among the newest of each table. At most 20,000 index probes, about 20 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orphans;

/// The number of rows in a table whose job no longer exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrphanCount {
    /// The table's name, without the schema.
    pub table: String,
    /// How many of its newest 10,000 rows belong to no existing job.
    pub rows: u64,
}

impl Operation for Orphans {
    type Output = Vec<OrphanCount>;
    const STATEMENT: StatementId = StatementId::Orphans;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("orphans.sql"), ConnectionClass::Operator, roles::READ);
    const COLUMNS: &'static [Type] = &[Type::Text, Type::Int8];

    fn params(&self) -> Params<'_> {
        Vec::new()
    }

    fn interpret(self, rows: &Rows) -> Result<Vec<OrphanCount>, Error> {
        let read = |mut row: Row<'_>| Ok(OrphanCount { table: row.read()?, rows: row.count()? });
        rows.iter(Self::STATEMENT).map(read).collect()
    }
}

/// Lists the `search_path` settings that sessions on this database start with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchPaths;

/// A `search_path` setting that some sessions start with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchPath {
    /// The role that it applies to; `None` for all.
    pub role: Option<String>,
    /// The database that it applies to; `None` for all.
    pub database: Option<String>,
    /// The schemas, as in the setting.
    pub schemas: String,
}

impl Operation for SearchPaths {
    type Output = Vec<SearchPath>;
    const STATEMENT: StatementId = StatementId::SearchPaths;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("search_paths.sql"), ConnectionClass::Operator, roles::READ);
    const COLUMNS: &'static [Type] = &[Type::Text, Type::Text, Type::Text];

    fn params(&self) -> Params<'_> {
        Vec::new()
    }

    fn interpret(self, rows: &Rows) -> Result<Vec<SearchPath>, Error> {
        let read = |mut row: Row<'_>| Ok(SearchPath { role: row.read()?, database: row.read()?, schemas: row.read()? });
        rows.iter(Self::STATEMENT).map(read).collect()
    }
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
    type Output = Vec<QueueHealth>;
    const STATEMENT: StatementId = StatementId::QueueHealths;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("queue_healths.sql"), ConnectionClass::Operator, roles::READ);
    const COLUMNS: &'static [Type] = &[Type::Text, Type::Bool, Type::Int8, Type::Int8, Type::Int8];

    fn params(&self) -> Params<'_> {
        vec![Value::Int8(whole_ms(self.threshold))]
    }

    fn interpret(self, rows: &Rows) -> Result<Vec<QueueHealth>, Error> {
        let read = |mut row: Row<'_>| {
            let (name, paused) = (row.read()?, row.read()?);
            let (in_progress, stale) = (row.count()?, row.count()?);
            let overdue = row.read::<Option<i64>>()?.map(from_ms).unwrap_or_default();
            Ok(QueueHealth { name, paused, in_progress, stale, overdue })
        };
        rows.iter(Self::STATEMENT).map(read).collect()
    }
}
