//! What makes queues sick, why that matters, and what to do about it: pure judgement of what was measured.

mod access;
mod sequences;

pub use access::{examine_access, foreign_encoding, hidden_rows, other_schemas};

use crate::SchemaName;
use crate::migration::expected_indexes;
use crate::op::{
    IndexHealth, OrphanCount, QueueActivity, QueueHealth, Relation, RowHolder, RowHolderKind, SearchPath,
    SequenceReading, TableHealth,
};
use std::time::Duration;

/// So many dead rows are not worth a word.
const FEW_DEAD: u64 = 10_000;
/// Dead rows are too many beyond this share of the live ones: ten times what sets autovacuum off.
const DEAD_PER_LIVE: u64 = 5;
/// A standby or slot may lag by so many transactions.
const LAG: u64 = 1_000_000;
/// Reading a table of fewer rows from end to end is cheap.
const LARGE: u64 = 10_000;
/// So many such reads may have had their reasons: a backup, someone curious.
const SCANS: u64 = 20;
/// And so many an hour.
const SCANS_AN_HOUR: f64 = 6.0;
/// Clocks may differ by this much.
const CLOCK_OFFSET: Duration = Duration::from_secs(5);

/// What was measured, for [`examine`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Symptoms {
    /// Who keeps old row versions alive.
    pub holders: Vec<RowHolder>,
    /// How tables are looked after.
    pub tables: Vec<TableHealth>,
    /// Which indexes there are.
    pub indexes: Vec<IndexHealth>,
    /// Whether jobs are looked after, queue by queue.
    pub queues: Vec<QueueHealth>,
    /// Who waits how long.
    pub activity: Vec<QueueActivity>,
    /// What stands in the schema, and which other schemas look like it.
    pub relations: Vec<Relation>,
    /// How far each sequence has drawn.
    pub sequences: Vec<SequenceReading>,
    /// What is left of jobs that are gone.
    pub orphans: Vec<OrphanCount>,
    /// Which search paths sessions start with.
    pub search_paths: Vec<SearchPath>,
    /// By how much this machine's clock surely differs from the database's.
    pub clock_offset: Duration,
}

/// Something that makes queues sick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub check: Check,
    /// What was found.
    pub what: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to do about it.
    pub remedy: Remedy,
}

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Check {
    /// Row-level security hides rows.
    RowSecurity,
    /// A role lacks a privilege.
    MissingGrant,
    /// A table is not an ordinary, logged table of this server.
    OddTable,
    /// A table has a trigger or a rule that is not pm's.
    Trigger,
    /// The trigger that deletes what belongs to a job is missing or off.
    MissingTrigger,
    /// Something is left of jobs that are gone.
    Orphans,
    /// Sessions start with a search path that lets other objects stand in for the server's own.
    SearchPath,
    /// Another schema may be meant.
    OtherSchema,
    /// A sequence is behind what it numbers.
    LaggingSequence,
    /// A transaction, standby or slot keeps old row versions alive.
    HeldRows,
    /// Dead rows pile up.
    DeadRows,
    /// An index is not there.
    MissingIndex,
    /// An index is there and cannot be used.
    InvalidIndex,
    /// Statements read a large table from end to end.
    Scans,
    /// Leases ran out and nobody reaps.
    StaleLeases,
    /// This machine's clock differs from the database's.
    ClockOffset,
    /// Jobs are ready and nobody claims.
    UnservedQueue,
    /// Autovacuum is off.
    NoAutovacuum,
    /// Transaction numbers run out.
    Wraparound,
    /// A deleted queue's jobs are still there.
    DeletedQueue,
}

impl Check {
    /// All checks.
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

    /// Returns its name for programs, which stays.
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

/// What to do about a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// SQL to run as a role that may.
    Sql(String),
    /// A command of a shell.
    Command(String),
}

impl Remedy {
    /// Returns the SQL, if that is what it is.
    pub fn sql(&self) -> Option<&str> {
        match self {
            Remedy::Sql(sql) => Some(sql),
            Remedy::Command(_) => None,
        }
    }

    /// Returns what to type into a shell; SQL goes to psql, which finds the database in `PM_DATABASE_URL`.
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

/// Returns what is wrong, in the order of [`Check::ALL`].
///
/// `threshold` is how long a transaction may be open, a lease be run out, and a ready job wait.
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
        what: format!("{rows} of the newest rows of table {table} belong to jobs that are gone"),
        why: "nothing deletes them: jobs were deleted while pm's trigger was off, by SQL of others or in a restore",
        remedy: Remedy::Sql(format!("delete from {name} where not exists (select from {job} where id = job_id)")),
    })
}

fn held_rows(holder: &RowHolder, threshold: Duration) -> Option<Finding> {
    let RowHolder { kind, name, role, application, state, age, transactions } = holder;
    let is_wrong = age.map_or(*transactions > LAG, |age| age > threshold);
    let of = |who: &Option<String>, words: &str| {
        let who = who.as_deref().filter(|who| !who.is_empty());
        who.map(|who| format!("{words}{who}")).unwrap_or_default()
    };
    let open = age.map(length).unwrap_or_default();
    let (what, remedy) = match kind {
        RowHolderKind::Session => (
            format!(
                "process {name}{}{}{} has a transaction open for {open}",
                of(application, " of application "),
                of(role, " as role "),
                of(state, ", "),
            ),
            format!("select pg_terminate_backend({name})"),
        ),
        RowHolderKind::Standby => (
            format!("standby process {name}{} lags by {transactions} transactions", of(application, " of ")),
            format!("select pg_terminate_backend({name})"),
        ),
        RowHolderKind::Prepared => (
            format!(
                "transaction {name:?}{} is prepared for {open} and neither committed nor rolled back",
                of(role, " of role ")
            ),
            format!("rollback prepared {}", literal(name)),
        ),
        RowHolderKind::Slot => (
            format!("replication slot {name:?}{} holds rows for {transactions} transactions", of(state, ", ")),
            format!("select pg_drop_replication_slot({})", literal(name)),
        ),
    };
    is_wrong.then_some(Finding {
        check: Check::HeldRows,
        what,
        why: "while it lasts no dead row of any table can be removed: tables and indexes grow, and every claim walks over what is dead",
        remedy: Remedy::Sql(remedy),
    })
}

fn dead_rows(table: &TableHealth, schema: &SchemaName) -> Option<Finding> {
    let TableHealth { name, live, dead, .. } = table;
    (*dead > FEW_DEAD && dead.saturating_mul(DEAD_PER_LIVE) > *live).then(|| Finding {
        check: Check::DeadRows,
        what: format!("table {name} has about {dead} dead rows beside {live} live ones"),
        why: "claims and look-ups walk over dead rows, and the table grows; vacuum does not keep up, or is kept from it",
        remedy: Remedy::Sql(format!("vacuum (analyze) {}", table_of(schema, name))),
    })
}

fn indexes(present: &[IndexHealth], schema: &SchemaName) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, sql) in expected_indexes(schema) {
        let finding = match present.iter().find(|index| index.name == name) {
            Some(index) if index.is_valid => continue,
            Some(_) => Finding {
                check: Check::InvalidIndex,
                what: format!("index {name} cannot be used: building it was broken off, or is going on"),
                why: "it costs every write and serves no statement, which scan instead",
                remedy: Remedy::Sql(format!("reindex index concurrently {}", table_of(schema, &name))),
            },
            None => Finding {
                check: Check::MissingIndex,
                what: format!("index {name} is missing"),
                why: "statements that need it read whole tables, or a promise it enforces is not kept",
                remedy: Remedy::Sql(sql),
            },
        };
        findings.push(finding);
    }
    findings
}

fn scans(table: &TableHealth, schema: &SchemaName) -> Option<Finding> {
    let TableHealth { name, scans, scanned_rows, counted, .. } = table;
    let an_hour = *scans as f64 / (counted.as_secs_f64() / 3_600.0).max(f64::MIN_POSITIVE);
    let rows = scanned_rows / (*scans).max(1);
    (rows >= LARGE && *scans >= SCANS && an_hour >= SCANS_AN_HOUR).then(|| Finding {
        check: Check::Scans,
        what: format!("table {name} was read from end to end {scans} times in {}, {rows} rows each time", length(*counted)),
        why: "none of pm's statements does so: an index is missing, or another program reads pm's tables; it slows everyone down",
        remedy: Remedy::Sql(format!(
            "select pid, application_name, query from pg_stat_activity where query like '%{name}%'; \
             select pg_stat_reset_single_table_counters({}::regclass)",
            literal(&table_of(schema, name))
        )),
    })
}

fn stale_leases(queue: &QueueHealth) -> Option<Finding> {
    let QueueHealth { name, stale, overdue, .. } = queue;
    let name = name.as_deref()?;
    (*stale > 0).then(|| Finding {
        check: Check::StaleLeases,
        what: format!("{} of queue {name:?} ran out up to {} ago, and nobody reaped", count(*stale, "lease"), length(*overdue)),
        why: "the jobs of workers that died are not tried again until someone reaps: running workers do, and so does pm reap",
        remedy: Remedy::Command("pm db reap".to_owned()),
    })
}

fn clock_offset(offset: Duration) -> Option<Finding> {
    (offset > CLOCK_OFFSET).then(|| Finding {
        check: Check::ClockOffset,
        what: format!("the clock of this machine and that of the database differ by {}", length(offset)),
        why: "leases and due times go by the database's clock alone; but ids carry the clocks of those who add jobs, so lists are out of order, and a due time reckoned here is off",
        remedy: Remedy::Command("timedatectl set-ntp true".to_owned()),
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
        remedy: Remedy::Command(format!("pm work {} -- COMMAND", quoted(name))),
    })
}

fn no_autovacuum(tables: &[TableHealth], schema: &SchemaName) -> Vec<Finding> {
    const WHY: &str = "nobody removes dead rows nor freezes old ones: tables grow without end, and in the end the server stops to accept writes";
    let finding = |what: String, remedy: String| Finding {
        check: Check::NoAutovacuum,
        what,
        why: WHY,
        remedy: Remedy::Sql(remedy),
    };
    if tables.first().is_some_and(|table| !table.server_has_autovacuum) {
        let remedy = "alter system set autovacuum = on; alter system set track_counts = on; select pg_reload_conf()";
        return vec![finding("autovacuum is off on this server".to_owned(), remedy.to_owned())];
    }
    let off = tables.iter().filter(|table| !table.has_autovacuum);
    let told = |table: &TableHealth| {
        let remedy = format!("alter table {} reset (autovacuum_enabled)", table_of(schema, &table.name));
        finding(format!("autovacuum is off for table {}", table.name), remedy)
    };
    off.map(told).collect()
}

fn wraparound(table: &TableHealth, schema: &SchemaName) -> Option<Finding> {
    let TableHealth { name, age, freeze_age, .. } = table;
    (*age > freeze_age.saturating_mul(2)).then(|| Finding {
        check: Check::Wraparound,
        what: format!(
            "table {name} was last frozen {age} transactions ago; autovacuum should have done so at {freeze_age}"
        ),
        why: "at two thousand million the server stops to accept writes; something keeps vacuum from its work",
        remedy: Remedy::Sql(format!("vacuum (freeze) {}", table_of(schema, name))),
    })
}

fn deleted_queues(queues: &[QueueHealth]) -> Option<Finding> {
    let left = queues.iter().filter(|queue| queue.name.is_none()).count() as u64;
    (left > 0).then(|| Finding {
        check: Check::DeletedQueue,
        what: format!(
            "{} with jobs still in the tables, unless that is being done at this moment",
            count(left, "deleted queue")
        ),
        why: "deleting was broken off; what is left takes room and serves nobody",
        remedy: Remedy::Command("pm db prune".to_owned()),
    })
}

/// Returns the name with its schema, quoted.
fn table_of(schema: &SchemaName, name: &str) -> String {
    format!("\"{schema}\".{name}")
}

/// Returns the text as SQL has it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Returns the text as a word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    match text.chars().all(is_plain) && !text.starts_with('-') {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// Returns "1 lease" or "7 leases".
fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Returns the duration in its two largest units: `2h 5m`.
fn length(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests;
