//! Diagnoses common problems from measurements and suggests fixes. It reads nothing itself.

mod access;
mod finding;
mod sequences;
mod text;

pub use access::{examine_access, foreign_encoding, hidden_rows, other_schemas};
pub use finding::{Check, Finding, Remedy};

use self::text::{count, length, literal, table_of};
use crate::SchemaName;
use crate::migration::expected_indexes;
use crate::op::{
    IndexHealth, OrphanCount, QueueActivity, QueueHealth, Relation, RowHolder, RowHolderKind, SearchPath,
    SequenceReading, TableHealth,
};
use std::time::Duration;

/// A table with at most this many dead rows is not reported.
const FEW_DEAD: u64 = 10_000;
/// A table is reported when it has more than one dead row per this many live ones: ten times what triggers autovacuum.
const DEAD_PER_LIVE: u64 = 5;
/// How many transactions a standby or slot may lag.
const MAX_LAG: u64 = 1_000_000;
/// Full scans of fewer rows are cheap and not reported.
const MIN_SCANNED_ROWS: u64 = 10_000;
/// Fewer full scans are not reported: a backup or an ad-hoc query may cause them.
const MIN_SCANS: u64 = 20;
/// Full scans at a lower rate are not reported.
const MIN_SCANS_PER_HOUR: f64 = 6.0;
/// How much clocks may differ.
const MAX_CLOCK_OFFSET: Duration = Duration::from_secs(5);

/// The measurements that [`examine`] judges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Symptoms {
    /// What keeps vacuum from removing old row versions: transactions, standbys and slots.
    pub holders: Vec<RowHolder>,
    /// Row counts, scans and vacuum settings of each table.
    pub tables: Vec<TableHealth>,
    /// The indexes that exist.
    pub indexes: Vec<IndexHealth>,
    /// Jobs in progress and expired leases of each queue.
    pub queues: Vec<QueueHealth>,
    /// How long the ready jobs of each queue have waited.
    pub activity: Vec<QueueActivity>,
    /// The tables and sequences of the schema, and other schemas with tables like pm's.
    pub relations: Vec<Relation>,
    /// The last value of each sequence, and the highest value in use.
    pub sequences: Vec<SequenceReading>,
    /// Rows whose job no longer exists, by table.
    pub orphans: Vec<OrphanCount>,
    /// The `search_path` settings that new sessions start with.
    pub search_paths: Vec<SearchPath>,
    /// A lower bound of the difference between this machine's clock and the database's.
    pub clock_offset: Duration,
}

/// Returns the problems found, in the order of [`Check::ALL`].
///
/// A transaction open for longer than `threshold`, or a ready job that has waited for longer on a queue with none in
/// progress, is a problem. Any expired lease counted in `symptoms.queues` is one too: the measurement itself leaves out
/// leases that expired less than the threshold ago.
pub fn examine(symptoms: &Symptoms, schema: &SchemaName, threshold: Duration) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(symptoms.orphans.iter().filter_map(|found| orphans(found, schema)));
    findings.extend(symptoms.search_paths.iter().filter_map(access::search_path));
    findings.extend(access::other_schema(&symptoms.relations, &symptoms.activity, schema));
    findings.extend(symptoms.sequences.iter().filter_map(|reading| sequences::lagging(reading, schema)));
    findings.extend(symptoms.holders.iter().filter_map(|holder| held_rows(holder, threshold)));
    findings.extend(symptoms.tables.iter().filter_map(|table| dead_rows(table, schema)));
    findings.extend(indexes(&symptoms.indexes, schema));
    findings.extend(symptoms.tables.iter().filter_map(|table| scans(table, schema)));
    findings.extend(symptoms.queues.iter().filter_map(stale_leases));
    findings.extend(clock_offset(symptoms.clock_offset));
    findings.extend(symptoms.queues.iter().filter_map(|queue| unserved(queue, &symptoms.activity, threshold)));
    findings.extend(no_autovacuum(&symptoms.tables, schema));
    findings.extend(symptoms.tables.iter().filter_map(|table| wraparound(table, schema)));
    findings.extend(deleted_queues(&symptoms.queues));
    findings.sort_by_key(|finding| finding.check);
    findings
}

fn orphans(found: &OrphanCount, schema: &SchemaName) -> Option<Finding> {
    let OrphanCount { table, rows } = found;
    let (name, job) = (table_of(schema, table), table_of(schema, "job"));
    (*rows > 0).then(|| Finding {
        check: Check::Orphans,
        what: format!("{rows} of the newest rows of table {table} belong to jobs that no longer exist"),
        why: "pm does not delete them: their jobs were deleted while pm's trigger was off, by other SQL or in a restore",
        remedy: Remedy::Sql(vec![format!("delete from {name} where not exists (select from {job} where id = job_id)")]),
    })
}

fn held_rows(holder: &RowHolder, threshold: Duration) -> Option<Finding> {
    let RowHolder { kind, name, role, application, state, age, transactions } = holder;
    let is_wrong = age.map_or(*transactions > MAX_LAG, |age| age > threshold);
    let of = |name: &Option<String>, prefix: &str| {
        let name = name.as_deref().filter(|name| !name.is_empty());
        name.map(|name| format!("{prefix}{name}")).unwrap_or_default()
    };
    let open = age.map(length).unwrap_or_default();
    let (what, remedy) = match kind {
        RowHolderKind::Session => (
            format!(
                "process {name}{}{} has had a transaction open for {open}{}",
                of(application, " of application "),
                of(role, " as role "),
                of(state, ", state: "),
            ),
            format!("select pg_terminate_backend({name})"),
        ),
        RowHolderKind::Standby => (
            format!("standby process {name}{} lags by {transactions} transactions", of(application, " of ")),
            format!("select pg_terminate_backend({name})"),
        ),
        RowHolderKind::Prepared => (
            format!(
                "transaction {name:?}{} was prepared {open} ago and neither committed nor rolled back",
                of(role, " of role ")
            ),
            format!("rollback prepared {}", literal(name)),
        ),
        RowHolderKind::Slot => (
            format!("replication slot {name:?}{} lags by {transactions} transactions", of(state, ", state: ")),
            format!("select pg_drop_replication_slot({})", literal(name)),
        ),
    };
    is_wrong.then_some(Finding {
        check: Check::HeldRows,
        what,
        why: "until it ends, vacuum cannot remove dead rows from any table: tables and indexes grow, and every claim scans dead rows",
        remedy: Remedy::Sql(vec![remedy]),
    })
}

fn dead_rows(table: &TableHealth, schema: &SchemaName) -> Option<Finding> {
    let TableHealth { name, live, dead, .. } = table;
    (*dead > FEW_DEAD && dead.saturating_mul(DEAD_PER_LIVE) > *live).then(|| Finding {
        check: Check::DeadRows,
        what: format!("table {name} has about {dead} dead rows and {live} live ones"),
        why: "claims and look-ups scan dead rows, and the table grows; vacuum does not keep up or is blocked",
        remedy: Remedy::Sql(vec![format!("vacuum (analyze) {}", table_of(schema, name))]),
    })
}

fn indexes(present: &[IndexHealth], schema: &SchemaName) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, sql) in expected_indexes(schema) {
        let finding = match present.iter().find(|index| index.name == name) {
            Some(index) if index.is_valid => continue,
            Some(_) => Finding {
                check: Check::InvalidIndex,
                what: format!("index {name} is invalid: its build failed or is still running"),
                why: "it slows down every write, and statements that need it read whole tables",
                remedy: Remedy::Sql(vec![format!("reindex index concurrently {}", table_of(schema, &name))]),
            },
            None => Finding {
                check: Check::MissingIndex,
                what: format!("index {name} is missing"),
                why: "statements that need it read whole tables, or the constraint that it enforces is not checked",
                remedy: Remedy::Sql(vec![sql]),
            },
        };
        findings.push(finding);
    }
    findings
}

fn scans(table: &TableHealth, schema: &SchemaName) -> Option<Finding> {
    let TableHealth { name, scans, scanned_rows, counted, .. } = table;
    let per_hour = *scans as f64 / (counted.as_secs_f64() / 3_600.0).max(f64::MIN_POSITIVE);
    let rows = scanned_rows / (*scans).max(1);
    (rows >= MIN_SCANNED_ROWS && *scans >= MIN_SCANS && per_hour >= MIN_SCANS_PER_HOUR).then(|| Finding {
        check: Check::Scans,
        what: format!("table {name} was read from end to end {scans} times in {}, {rows} rows each time", length(*counted)),
        why: "pm's statements do not read it from end to end: an index is missing, or another program reads pm's tables and slows down all sessions",
        remedy: Remedy::Sql(vec![
            format!("select pid, application_name, query from pg_stat_activity where query like '%{name}%'"),
            format!("select pg_stat_reset_single_table_counters({}::regclass)", literal(&table_of(schema, name))),
        ]),
    })
}

fn stale_leases(queue: &QueueHealth) -> Option<Finding> {
    let QueueHealth { name, stale, overdue, .. } = queue;
    let name = name.as_deref()?;
    (*stale > 0).then(|| Finding {
        check: Check::StaleLeases,
        what: format!("{} of queue {name:?} ran out up to {} ago without being reaped", count(*stale, "lease"), length(*overdue)),
        why: "the jobs of crashed workers are not retried until their leases are reaped: running workers do that, and so does maintenance",
        remedy: Remedy::Reap,
    })
}

fn clock_offset(offset: Duration) -> Option<Finding> {
    (offset > MAX_CLOCK_OFFSET).then(|| Finding {
        check: Check::ClockOffset,
        what: format!("the clock of this machine and that of the database differ by {}", length(offset)),
        why: "leases and due times follow the database's clock alone, but job ids carry the clock of the machine that adds the job: lists are out of order, and a due time computed on this machine is off",
        remedy: Remedy::SetClock,
    })
}

fn unserved(queue: &QueueHealth, activity: &[QueueActivity], threshold: Duration) -> Option<Finding> {
    let name = queue.name.as_deref()?;
    let waits = activity.iter().find(|activity| activity.queue == name)?.oldest_waiting?;
    let is_unserved = !queue.paused && queue.in_progress == 0 && waits > threshold;
    is_unserved.then(|| Finding {
        check: Check::UnservedQueue,
        what: format!("queue {name:?} has ready jobs, the oldest waiting for {}, and none in progress", length(waits)),
        why: "no worker seems to follow this queue; its jobs wait for ever",
        remedy: Remedy::Work(name.to_owned()),
    })
}

fn no_autovacuum(tables: &[TableHealth], schema: &SchemaName) -> Vec<Finding> {
    const WHY: &str = "dead rows are not removed and old rows are not frozen: tables grow without bound, and eventually the server stops accepting writes";
    let finding = |what: String, remedy: Vec<String>| Finding {
        check: Check::NoAutovacuum,
        what,
        why: WHY,
        remedy: Remedy::Sql(remedy),
    };
    if tables.first().is_some_and(|table| !table.server_has_autovacuum) {
        let remedy =
            ["alter system set autovacuum = on", "alter system set track_counts = on", "select pg_reload_conf()"];
        return vec![finding("autovacuum is off on this server".to_owned(), remedy.map(str::to_owned).to_vec())];
    }
    let off = tables.iter().filter(|table| !table.has_autovacuum);
    let off_for_table = |table: &TableHealth| {
        let remedy = format!("alter table {} reset (autovacuum_enabled)", table_of(schema, &table.name));
        finding(format!("autovacuum is off for table {}", table.name), vec![remedy])
    };
    off.map(off_for_table).collect()
}

fn wraparound(table: &TableHealth, schema: &SchemaName) -> Option<Finding> {
    let TableHealth { name, age, freeze_age, .. } = table;
    (*age > freeze_age.saturating_mul(2)).then(|| Finding {
        check: Check::Wraparound,
        what: format!(
            "table {name} was last frozen {age} transactions ago; autovacuum should have done so at {freeze_age}"
        ),
        why: "at two billion transactions the server stops accepting writes; something blocks vacuum",
        remedy: Remedy::Sql(vec![format!("vacuum (freeze) {}", table_of(schema, name))]),
    })
}

fn deleted_queues(queues: &[QueueHealth]) -> Option<Finding> {
    let left = queues.iter().filter(|queue| queue.name.is_none()).count() as u64;
    (left > 0).then(|| Finding {
        check: Check::DeletedQueue,
        what: format!(
            "{} with jobs still in the tables; perhaps the deletion is still running",
            count(left, "deleted queue")
        ),
        why: "a deletion was interrupted; the jobs left take up space and are never claimed",
        remedy: Remedy::Prune,
    })
}

#[cfg(test)]
mod tests;
