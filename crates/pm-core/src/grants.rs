//! The privileges that each kind of role needs. They are printed as SQL, checked by doctor, and named in errors.

use crate::SchemaName;
use crate::named::named;
use std::fmt;

named! {
    /// The purposes of a role. A kind comes after those whose privileges it includes.
    pub enum RoleKind {
        /// Creates pm's tables and changes them; owns what it creates.
        Migrator = "migrator",
        /// Reads everything and changes nothing.
        Reader = "reader",
        /// Enqueues jobs, and replaces those that have not started; reads jobs and their attempts.
        Enqueuer = "enqueuer",
        /// Works on jobs, enqueues, reaps, promotes and fires schedules; reads everything.
        Worker = "worker",
        /// Does everything except migrations.
        Operator = "operator",
    }
}

/// One privilege on one object in pm's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// The name of the table, sequence or function; `None` for the schema itself.
    pub object: Option<&'static str>,
    /// Whether the object is a sequence.
    pub is_sequence: bool,
    /// The privilege: `select`, `insert`, `update`, `delete`, `usage` or `create`; `execute` for a function.
    pub privilege: &'static str,
    /// The column of the table, if the privilege is needed on only one.
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
/// Replacing a job with a shared payload changes the shared one. Whether a job has started is read from its attempts.
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
/// Drawing positions needs `usage`; advancing the sequence if it is behind after a failover needs `update`.
const DRAW_POSITIONS: &[OnTable] = &[("job_seq", &["usage", "update"])];
/// Checking whether a sequence is behind needs `select` or `usage`.
const READ_SEQUENCES: &[OnTable] = &[
    ("job_seq", &["select"]),
    ("payload_id_seq", &["select"]),
    ("queue_id_seq", &["select"]),
    ("schedule_id_seq", &["select"]),
];

/// Inserts a job whose key may be locked. It is granted because a database may revoke `execute` from PUBLIC.
const INSERT_JOB: &str = "insert_job";

impl RoleKind {
    /// Returns the name with an article, for sentences.
    pub fn article(self) -> &'static str {
        match self {
            RoleKind::Migrator => "a migrator",
            RoleKind::Reader => "a reader",
            RoleKind::Enqueuer => "an enqueuer",
            RoleKind::Worker => "a worker",
            RoleKind::Operator => "an operator",
        }
    }

    /// Returns the kind with this name.
    pub fn from_name(name: &str) -> Option<RoleKind> {
        RoleKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns exactly the privileges that a role of this kind needs.
    pub fn grants(self) -> Vec<Grant> {
        let schema = |privilege| Grant { object: None, is_sequence: false, privilege, column: None };
        let (tables, sequences) = match self {
            RoleKind::Migrator => return vec![schema("usage"), schema("create")],
            RoleKind::Reader => (READER, READ_SEQUENCES.to_vec()),
            RoleKind::Enqueuer => (ENQUEUER, DRAW_POSITIONS.to_vec()),
            RoleKind::Worker => (WORKER, [DRAW_POSITIONS, &READ_SEQUENCES[1..]].concat()),
            RoleKind::Operator => (OPERATOR, [DRAW_POSITIONS, &READ_SEQUENCES[1..]].concat()),
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

    /// Returns the privileges of a role of this kind on tables that later migrations add.
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
    /// Returns whether the object is a function.
    pub fn is_function(&self) -> bool {
        self.privilege == "execute"
    }

    /// Returns the type of the object in SQL: `table`, `sequence`, `function` or `schema`.
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
    /// Writes a human-readable form: `insert on table attempt`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.object, self.column) {
            (None, _) => write!(f, "{} on the schema", self.privilege),
            (Some(name), None) => write!(f, "{} on {} {name}", self.privilege, self.object_type()),
            (Some(name), Some(column)) => write!(f, "{} ({column}) on table {name}", self.privilege),
        }
    }
}

/// Returns SQL that grants a role the privileges of this kind. It can be run repeatedly.
///
/// `migrator` is the role that runs migrations: privileges on objects that later migrations add are granted by default.
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

/// Guesses for which kind a role is meant, and returns the kind and the privileges that the role lacks for it; `None`
/// if it lacks none, or is meant for no kind.
///
/// A role is meant for a kind if it has at least half of the privileges that distinguish this kind from lesser ones: a
/// role that can only read is not a worker that lacks privileges. `holds` returns whether the role has a privilege.
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
        let count = own.iter().filter(|grant| holds(grant)).count();
        if count > 0 && count * 2 >= own.len() {
            let lacking: Vec<_> = shared.into_iter().chain(own).filter(|grant| !holds(grant)).collect();
            if !lacking.is_empty() || kind != RoleKind::Enqueuer {
                return (!lacking.is_empty()).then_some((kind, lacking));
            }
            // An enqueuer that lacks nothing may be meant to read as well.
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

/// Returns a name as a quoted SQL identifier.
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

    /// Each privilege that a role of some kind may lack is found, and a role with all of them lacks nothing.
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
        assert_eq!(missing(|_| false), None, "a role without privileges is meant for no kind");
    }

    #[test]
    fn a_role_that_may_read_and_enqueue_is_not_taken_for_a_worker() {
        let both = [RoleKind::Reader.grants(), RoleKind::Enqueuer.grants()].concat();
        assert_eq!(missing(|grant| both.contains(grant)), None);
        let worker = RoleKind::Worker.grants();
        let broad = |grant: &Grant| worker.contains(grant) || grant.privilege == "insert";
        assert_eq!(missing(broad), None, "a worker that may insert into all tables is not taken for an operator");
    }
}
