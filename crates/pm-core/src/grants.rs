//! What each kind of role must be allowed to do, in one place: printed as SQL, looked at by doctor, named in errors.

use crate::{SchemaName, StatementId};
use std::fmt;

/// What a role is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleKind {
    /// Makes pm's tables and changes them; owns what it makes.
    Migrator,
    /// Looks at everything and changes nothing.
    Reader,
    /// Puts jobs on queues, and replaces those that wait; sees jobs and their attempts.
    Enqueuer,
    /// Works on jobs and puts further ones on queues, reaps, promotes and fires schedules; looks at everything.
    Worker,
    /// Does all that pm does, migrating excepted.
    Operator,
}

/// One privilege on one thing in pm's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// The table, sequence or function; none for the schema itself.
    pub object: Option<&'static str>,
    /// Whether it is a sequence.
    pub is_sequence: bool,
    /// `select`, `insert`, `update`, `delete`, `usage` or `create`; `execute` of a function.
    pub privilege: &'static str,
    /// The only column of the table that is needed, if not all are.
    pub column: Option<&'static str>,
}

/// The privileges on a table, or on one column of it.
type OnTable = (&'static str, &'static [&'static str]);

const READER: &[OnTable] = &[
    ("migration", &["select"]),
    ("queue", &["select"]),
    ("job", &["select"]),
    ("claim_frontier", &["select"]),
    ("attempt", &["select"]),
    ("payload", &["select"]),
    ("replacement", &["select"]),
    ("schedule", &["select"]),
];
/// Replacing the payload of a job whose payload is shared changes the shared one; whether the job has started shows in its
/// attempts.
const ENQUEUER: &[OnTable] = &[
    ("migration", &["select"]),
    ("queue", &["select", "update (idle_until)"]),
    ("job", &["select", "insert", "update"]),
    ("attempt", &["select"]),
    ("payload", &["select", "update", "delete"]),
    ("replacement", &["select", "insert", "delete"]),
];
const WORKER: &[OnTable] = &[
    ("migration", &["select"]),
    ("queue", &["select", "update (idle_until)"]),
    ("job", &["select", "insert", "update"]),
    ("claim_frontier", &["select", "insert", "update", "delete"]),
    ("attempt", &["select", "insert"]),
    ("payload", &["select", "update", "delete"]),
    ("replacement", &["select", "insert", "delete"]),
    ("schedule", &["select", "update"]),
];
const OPERATOR: &[OnTable] = &[
    ("migration", &["select"]),
    ("queue", &["select", "insert", "update", "delete"]),
    ("job", &["select", "insert", "update", "delete"]),
    ("claim_frontier", &["select", "insert", "update", "delete"]),
    ("attempt", &["select", "insert", "delete"]),
    ("payload", &["select", "insert", "update", "delete"]),
    ("replacement", &["select", "insert", "delete"]),
    ("schedule", &["select", "insert", "update", "delete"]),
];
/// Drawing positions needs usage; advancing the sequence when a failover left it behind needs update.
const DRAWS: &[OnTable] = &[("job_seq", &["usage", "update"])];
/// Looking whether a sequence is behind needs select, or usage.
const SEES: &[OnTable] = &[
    ("job_seq", &["select"]),
    ("payload_id_seq", &["select"]),
    ("queue_id_seq", &["select"]),
    ("schedule_id_seq", &["select"]),
];

/// Puts in a job whose key may be locked. Databases may keep PUBLIC from executing functions.
const INSERT_JOB: &str = "insert_job";

impl RoleKind {
    /// All kinds, each after those whose privileges it has too.
    pub const ALL: [RoleKind; 5] =
        [RoleKind::Migrator, RoleKind::Reader, RoleKind::Enqueuer, RoleKind::Worker, RoleKind::Operator];

    /// Returns its name for programs, which stays.
    pub fn name(self) -> &'static str {
        match self {
            RoleKind::Migrator => "migrator",
            RoleKind::Reader => "reader",
            RoleKind::Enqueuer => "enqueuer",
            RoleKind::Worker => "worker",
            RoleKind::Operator => "operator",
        }
    }

    /// Returns its name with an article, for sentences.
    pub fn article(self) -> &'static str {
        match self {
            RoleKind::Migrator => "a migrator",
            RoleKind::Reader => "a reader",
            RoleKind::Enqueuer => "an enqueuer",
            RoleKind::Worker => "a worker",
            RoleKind::Operator => "an operator",
        }
    }

    /// Returns the kind of this name.
    pub fn from_name(name: &str) -> Option<RoleKind> {
        RoleKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns everything that a role of this kind needs and nothing more.
    pub fn grants(self) -> Vec<Grant> {
        let schema = |privilege| Grant { object: None, is_sequence: false, privilege, column: None };
        let (tables, sequences) = match self {
            RoleKind::Migrator => return vec![schema("usage"), schema("create")],
            RoleKind::Reader => (READER, SEES.to_vec()),
            RoleKind::Enqueuer => (ENQUEUER, DRAWS.to_vec()),
            RoleKind::Worker => (WORKER, [DRAWS, &SEES[1..]].concat()),
            RoleKind::Operator => (OPERATOR, [DRAWS, &SEES[1..]].concat()),
        };
        let mut grants = vec![schema("usage")];
        for (table, privileges) in tables {
            grants.extend(privileges.iter().map(|privilege| on_table(table, privilege)));
        }
        if self != RoleKind::Reader {
            grants.push(on_table(INSERT_JOB, "execute"));
        }
        for (sequence, privileges) in sequences {
            let grant = |privilege: &&'static str| Grant { is_sequence: true, ..on_table(sequence, privilege) };
            grants.extend(privileges.iter().map(grant));
        }
        grants
    }

    /// Returns whether a role of this kind runs this statement.
    pub fn runs(self, statement: StatementId) -> bool {
        self == RoleKind::Operator || kinds_of(statement).contains(&self)
    }

    /// Returns the kind of role that runs this statement and needs least.
    pub fn least_for(statement: StatementId) -> RoleKind {
        kinds_of(statement).first().copied().unwrap_or(RoleKind::Operator)
    }

    /// Returns which privileges a role of this kind has on tables that later migrations add.
    fn later_privileges(self) -> Option<&'static str> {
        match self {
            RoleKind::Migrator => None,
            RoleKind::Reader => Some("select"),
            RoleKind::Enqueuer => Some("select, insert"),
            RoleKind::Worker => Some("select, insert, update"),
            RoleKind::Operator => Some("select, insert, update, delete"),
        }
    }
}

impl Grant {
    /// Returns whether it is on a function.
    pub fn is_function(&self) -> bool {
        self.privilege == "execute"
    }

    /// Returns what it is on, as SQL has it: `table`, `sequence`, `function` or `schema`.
    fn object_type(&self) -> &'static str {
        match self.object {
            None => "schema",
            Some(_) if self.is_sequence => "sequence",
            Some(_) if self.is_function() => "function",
            Some(_) => "table",
        }
    }
}

impl fmt::Display for Grant {
    /// Writes it for people: `insert on table attempt`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.object, self.column) {
            (None, _) => write!(f, "{} on the schema", self.privilege),
            (Some(name), None) => write!(f, "{} on {} {name}", self.privilege, self.object_type()),
            (Some(name), Some(column)) => write!(f, "{} ({column}) on table {name}", self.privilege),
        }
    }
}

/// Returns the SQL that gives a role what it needs as one of this kind. It can be run again.
///
/// `migrator` is the role that migrates: what its later migrations add is granted too.
pub fn grant_script(kind: RoleKind, role: &str, schema: &SchemaName, migrator: Option<&str>) -> String {
    let (role, schema) = (quoted(role), quoted(schema.as_str()));
    let mut script = format!("-- {role} as {} of schema {schema}\n", kind.name());
    if kind == RoleKind::Migrator {
        script.push_str(&format!("create schema if not exists {schema};\n"));
    }
    let mut objects: Vec<(Option<&str>, String, Vec<String>)> = Vec::new();
    for grant in kind.grants() {
        let Grant { object, privilege, column, .. } = grant;
        let privilege = column.map_or(privilege.to_owned(), |column| format!("{privilege} ({column})"));
        if objects.last().is_none_or(|(last, ..)| *last != object) {
            let name = object.map(|name| format!(".{name}")).unwrap_or_default();
            let what = format!("{} {schema}{name}", grant.object_type());
            objects.push((object, what, Vec::new()));
        }
        objects.last_mut().expect("one was pushed").2.push(privilege);
    }
    for (_, what, privileges) in objects {
        script.push_str(&format!("grant {} on {what} to {role};\n", privileges.join(", ")));
    }
    if let Some(privileges) = kind.later_privileges() {
        let of = migrator.map(|migrator| format!("for role {} ", quoted(migrator))).unwrap_or_default();
        let default = format!("alter default privileges {of}in schema {schema}");
        script.push_str(&format!("{default} grant {privileges} on tables to {role};\n"));
        if kind != RoleKind::Reader {
            script.push_str(&format!("{default} grant usage on sequences to {role};\n"));
            script.push_str(&format!("{default} grant execute on functions to {role};\n"));
        }
    }
    script
}

/// Returns what a role lacks of what it is meant for, and as which kind of role; nothing when it lacks nothing.
///
/// It is meant for a kind when it has at least half of the privileges that tell this kind from lesser ones: a role that
/// only reads is no worker that lacks much. `holds` says whether the role has a privilege.
pub fn missing(holds: impl Fn(&Grant) -> bool) -> Option<(RoleKind, Vec<Grant>)> {
    const MEANT: [(RoleKind, &[RoleKind]); 4] = [
        (RoleKind::Operator, &[RoleKind::Worker]),
        (RoleKind::Worker, &[RoleKind::Enqueuer, RoleKind::Reader]),
        (RoleKind::Enqueuer, &[RoleKind::Reader]),
        (RoleKind::Reader, &[RoleKind::Enqueuer]),
    ];
    for (kind, lesser) in MEANT {
        let lesser: Vec<_> = lesser.iter().flat_map(|kind| kind.grants()).collect();
        let (own, shared): (Vec<_>, Vec<_>) = kind.grants().into_iter().partition(|grant| !lesser.contains(grant));
        let held = own.iter().filter(|grant| holds(grant)).count();
        if held > 0 && held * 2 >= own.len() {
            let lacked: Vec<_> = shared.into_iter().chain(own).filter(|grant| !holds(grant)).collect();
            if !lacked.is_empty() || kind != RoleKind::Enqueuer {
                return (!lacked.is_empty()).then_some((kind, lacked));
            }
            // An enqueuer may be a reader as well.
        }
    }
    None
}

fn on_table(table: &'static str, privilege: &'static str) -> Grant {
    let (privilege, column) = match privilege.split_once(" (") {
        Some((privilege, column)) => (privilege, Some(column.trim_end_matches(')'))),
        None => (privilege, None),
    };
    Grant { object: Some(table), is_sequence: false, privilege, column }
}

/// Returns the kinds of roles that run a statement, beside operators, who run them all; the one that needs least first.
fn kinds_of(statement: StatementId) -> &'static [RoleKind] {
    use RoleKind::{Enqueuer, Reader, Worker};
    match statement {
        StatementId::SchemaVersion | StatementId::Encoding | StatementId::Relations | StatementId::Privileges => {
            &[Reader, Enqueuer, Worker]
        }
        StatementId::Enqueue
        | StatementId::EnqueueKeyed
        | StatementId::EnqueueEach
        | StatementId::KeyHolder
        | StatementId::ReplaceJobs
        | StatementId::Notify => &[Enqueuer, Worker],
        StatementId::Claim
        | StatementId::Poll
        | StatementId::Settle
        | StatementId::Outcome
        | StatementId::Extend
        | StatementId::Reap
        | StatementId::Promote
        | StatementId::ReleaseClaim
        | StatementId::NotifyIdle
        | StatementId::FetchJob
        | StatementId::DueSchedules
        | StatementId::FireSchedules => &[Worker],
        StatementId::CountPending
        | StatementId::ListQueues
        | StatementId::Activity
        | StatementId::TableSizes
        | StatementId::RowHolders
        | StatementId::TableHealth
        | StatementId::IndexHealth
        | StatementId::QueueHealth
        | StatementId::QueueSettings
        | StatementId::ListJobs
        | StatementId::Job
        | StatementId::Payload
        | StatementId::ResolveSuffix
        | StatementId::Attempts
        | StatementId::NextJobs
        | StatementId::ListSchedules
        | StatementId::Sequences
        | StatementId::Orphans
        | StatementId::SearchPaths => &[Reader, Worker],
        _ => &[],
    }
}

/// Returns a name as SQL has it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_names_schema_and_role_in_quotes() {
        let script = grant_script(RoleKind::Worker, "my \"app", &SchemaName::new("my jobs").unwrap(), Some("owner"));
        for line in [
            "grant usage on schema \"my jobs\" to \"my \"\"app\";",
            "grant select, update (idle_until) on table \"my jobs\".queue to \"my \"\"app\";",
            "grant usage, update on sequence \"my jobs\".job_seq to \"my \"\"app\";",
            "alter default privileges for role \"owner\" in schema \"my jobs\" grant usage on sequences to \"my \"\"app\";",
        ] {
            assert!(script.lines().any(|it| it == line), "{line}\n{script}");
        }
    }

    /// Whatever one privilege a role of some kind lacks, it is found, and a role with all of them lacks nothing.
    #[test]
    fn each_lacking_privilege_is_found() {
        for kind in RoleKind::ALL.into_iter().filter(|kind| *kind != RoleKind::Migrator) {
            let grants = kind.grants();
            let holds = |grant: &Grant| grants.contains(grant) || grants.contains(&Grant { column: None, ..*grant });
            assert_eq!(missing(holds), None, "{kind:?}");
            for lacking in &grants {
                let holds = |grant: &Grant| holds(grant) && Grant { column: lacking.column, ..*grant } != *lacking;
                let found = missing(holds);
                assert_eq!(found, Some((kind, vec![*lacking])), "{kind:?} without {lacking}");
            }
        }
        assert_eq!(missing(|_| false), None, "a role without any is meant for nothing");
    }

    #[test]
    fn a_role_that_may_read_and_enqueue_is_no_worker() {
        let both = [RoleKind::Reader.grants(), RoleKind::Enqueuer.grants()].concat();
        assert_eq!(missing(|grant| both.contains(grant)), None);
        let worker = RoleKind::Worker.grants();
        let broad = |grant: &Grant| worker.contains(grant) || grant.privilege == "insert";
        assert_eq!(missing(broad), None, "a worker that may add rows to all tables is no operator");
    }
}
