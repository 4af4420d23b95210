//! What can make queues sick, as it is measured; [`crate::doctor`] says what is too much.

use crate::statement::Definition;
use crate::time::{from_ms, whole_ms};
use crate::wire::{Row, Rows, Type, Value};
use crate::{Error, Operation, Params, StatementId, Timestamp};
use std::time::Duration;

pub(crate) const ROW_HOLDERS: Definition = Definition {
    sql: include_str!("row_holders.sql"),
    params: &[],
    columns: &[Type::Text, Type::Text, Type::Text, Type::Text, Type::Text, Type::Int8, Type::Int8],
};
pub(crate) const TABLE_HEALTH: Definition = Definition {
    sql: include_str!("table_health.sql"),
    params: &[],
    columns: &[
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
    ],
};
pub(crate) const INDEX_HEALTH: Definition =
    Definition { sql: include_str!("index_health.sql"), params: &[], columns: &[Type::Text, Type::Bool] };
pub(crate) const QUEUE_HEALTH: Definition = Definition {
    sql: include_str!("queue_health.sql"),
    params: &[Type::Int8],
    columns: &[Type::Text, Type::Bool, Type::Int8, Type::Int8, Type::Int8],
};

pub(crate) const ORPHANS: Definition =
    Definition { sql: include_str!("orphans.sql"), params: &[], columns: &[Type::Text, Type::Int8] };
pub(crate) const SEARCH_PATHS: Definition =
    Definition { sql: include_str!("search_paths.sql"), params: &[], columns: &[Type::Text, Type::Text, Type::Text] };

/// Looks who keeps old row versions alive, so that vacuum cannot remove them; the longest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowHolders;

/// Someone who keeps old row versions alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowHolder {
    /// What it is.
    pub kind: RowHolderKind,
    /// The process id of a session or standby; the name of a prepared transaction or a slot.
    pub name: String,
    /// Whose it is.
    pub role: Option<String>,
    /// What the program calls itself.
    pub application: Option<String>,
    /// What it is doing, in the database's words.
    pub state: Option<String>,
    /// How long its transaction is open; standbys and slots have none.
    pub age: Option<Duration>,
    /// How many transactions began since.
    pub transactions: u64,
}

/// Who keeps old row versions alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowHolderKind {
    /// A client's open transaction.
    Session,
    /// A standby that reports its queries.
    Standby,
    /// A transaction that was prepared and neither committed nor rolled back.
    Prepared,
    /// A replication slot.
    Slot,
}

impl Operation for RowHolders {
    type Output = Vec<RowHolder>;
    const STATEMENT: StatementId = StatementId::RowHolders;

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

/// Looks how pm's tables are looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableHealths;

/// How a table is looked after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableHealth {
    /// Its name, without the schema.
    pub name: String,
    /// About how many rows it has.
    pub live: u64,
    /// About how many row versions only wait to be removed.
    pub dead: u64,
    /// How often it was read from end to end.
    pub scans: u64,
    /// How many rows that read.
    pub scanned_rows: u64,
    /// For how long that was counted.
    pub counted: Duration,
    /// Whether autovacuum may work on this table.
    pub has_autovacuum: bool,
    /// Whether the server runs autovacuum at all.
    pub server_has_autovacuum: bool,
    /// How many transactions ago its oldest row version may have been written.
    pub age: u64,
    /// At which age the server freezes its row versions by itself.
    pub freeze_age: u64,
    /// The database's time.
    pub read_at: Timestamp,
}

impl Operation for TableHealths {
    type Output = Vec<TableHealth>;
    const STATEMENT: StatementId = StatementId::TableHealth;

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

/// Looks which indexes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexHealths;

/// An index of one of pm's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexHealth {
    /// Its name, without the schema.
    pub name: String,
    /// Whether statements can use it.
    pub is_valid: bool,
}

impl Operation for IndexHealths {
    type Output = Vec<IndexHealth>;
    const STATEMENT: StatementId = StatementId::IndexHealth;

    fn params(&self) -> Params<'_> {
        Vec::new()
    }

    fn interpret(self, rows: &Rows) -> Result<Vec<IndexHealth>, Error> {
        let read = |mut row: Row<'_>| Ok(IndexHealth { name: row.read()?, is_valid: row.read()? });
        rows.iter(Self::STATEMENT).map(read).collect()
    }
}

/// Counts what is left of jobs that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orphans;

/// What a table holds of jobs that are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrphanCount {
    /// The table's name, without the schema.
    pub table: String,
    /// How many of its newest 10,000 rows have no job.
    pub rows: u64,
}

impl Operation for Orphans {
    type Output = Vec<OrphanCount>;
    const STATEMENT: StatementId = StatementId::Orphans;

    fn params(&self) -> Params<'_> {
        Vec::new()
    }

    fn interpret(self, rows: &Rows) -> Result<Vec<OrphanCount>, Error> {
        let read = |mut row: Row<'_>| Ok(OrphanCount { table: row.read()?, rows: row.count()? });
        rows.iter(Self::STATEMENT).map(read).collect()
    }
}

/// Looks which search paths sessions on this database start with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchPaths;

/// The search path that some sessions start with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchPath {
    /// For which role; `None` for all.
    pub role: Option<String>,
    /// In which database; `None` for all.
    pub database: Option<String>,
    /// The schemas, as the setting lists them.
    pub schemas: String,
}

impl Operation for SearchPaths {
    type Output = Vec<SearchPath>;
    const STATEMENT: StatementId = StatementId::SearchPaths;

    fn params(&self) -> Params<'_> {
        Vec::new()
    }

    fn interpret(self, rows: &Rows) -> Result<Vec<SearchPath>, Error> {
        let read = |mut row: Row<'_>| Ok(SearchPath { role: row.read()?, database: row.read()?, schemas: row.read()? });
        rows.iter(Self::STATEMENT).map(read).collect()
    }
}

/// Looks which queues have jobs in progress, and whose leases ran out unnoticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueHealths {
    /// How long a lease may have run out.
    pub threshold: Duration,
}

/// Whether the jobs of a queue are looked after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueHealth {
    /// Its name; `None` when it is being deleted.
    pub name: Option<String>,
    /// Whether it is paused.
    pub paused: bool,
    /// How many of its jobs are in progress.
    pub in_progress: u64,
    /// How many leases ran out longer ago than the threshold.
    pub stale: u64,
    /// How long ago the first of its leases ran out; zero when none did.
    pub overdue: Duration,
}

impl Operation for QueueHealths {
    type Output = Vec<QueueHealth>;
    const STATEMENT: StatementId = StatementId::QueueHealth;

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
