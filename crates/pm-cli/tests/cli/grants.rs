//! `pm db grants`, and what commands say to a role that may not.

use crate::support::{Place, run};

/// Returns the URL of the place's database for a role without a password.
fn url_of(place: &Place, role: &str) -> String {
    let url = place.database.url();
    let (before, after) = url.split_once("://").unwrap();
    format!("{before}://{role}@{}", after.split_once('@').map_or(after, |(_, rest)| rest))
}

/// Makes a role that goes with the test.
struct Role<'a>(&'a Place, String);

impl<'a> Role<'a> {
    fn new(place: &'a Place, kind: &str) -> Self {
        let name = format!("{}_{kind}", place.database.name());
        place.database.execute(&format!("create role {name} login")).unwrap();
        let printed = place.pm(&["db", "grants", "--role", &name, "--for", kind]);
        assert_eq!((printed.status, printed.stderr.as_str()), (0, ""));
        place.database.execute(&printed.stdout).unwrap();
        Role(place, name)
    }

    fn pm(&self, arguments: &[&str]) -> crate::support::Ran {
        run(self.0.home.command().env("PM_DATABASE_URL", url_of(self.0, &self.1)).args(arguments), b"")
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        self.0.database.execute(&format!("drop owned by {0}; drop role {0}", self.1)).unwrap();
    }
}

#[test]
fn the_grants_are_printed_without_a_database() {
    let place = Place::empty();
    let mut command = place.home.command();
    let printed =
        run(command.args(["db", "grants", "--schema", "my jobs", "--role", "my \"app\"", "--for", "reader"]), b"");
    assert_eq!((printed.status, printed.stderr.as_str()), (0, ""));
    assert!(
        printed.stdout.contains("grant select on table \"my jobs\".job to \"my \"\"app\"\"\";\n"),
        "{}",
        printed.stdout
    );
    let all = place.pm(&["db", "grants"]).stdout;
    for role in ["pm_migrator", "pm_reader", "pm_enqueuer", "pm_worker", "pm_operator"] {
        assert!(all.contains(&format!(" to \"{role}\";\n")), "{role}: {all}");
    }
    place.pm(&["db", "grants", "--for", "king"]).assert_refused(2, &["migrator, reader, enqueuer, worker, operator"]);
    place.pm(&["db", "grants", "--role", ""]).assert_refused(2, &["cannot be the name of a role"]);
}

#[test]
fn a_role_may_do_its_part_with_what_was_printed() {
    let place = Place::with_queues(&["mail"]);
    let enqueuer = Role::new(&place, "enqueuer");
    assert_eq!(enqueuer.pm(&["job", "add", "mail", "1"]).status, 0);
    let reader = Role::new(&place, "reader");
    for arguments in [&["queue", "ls"][..], &["job", "ls"], &["db", "stats"], &["db", "doctor"], &["schedule", "ls"]] {
        let ran = reader.pm(arguments);
        assert_eq!(ran.status, 0, "{arguments:?}: {}", ran.stderr);
    }
    let words = ["lacks insert on table queue", "pm db grants --role", "--for operator"];
    reader.pm(&["queue", "create", "post"]).assert_refused(3, &words);
    let operator = Role::new(&place, "operator");
    for arguments in [&["queue", "create", "post"][..], &["queue", "delete", "post"], &["db", "prune"], &["db", "reap"]]
    {
        assert_eq!(operator.pm(arguments).status, 0, "{arguments:?}");
    }
}

#[test]
fn row_level_security_is_said_by_every_command_and_found_by_doctor() {
    let place = Place::with_queues(&["mail"]);
    place.add(&["mail", "1"]);
    let worker = Role::new(&place, "worker");
    place.database.execute("alter table pm.job enable row level security").unwrap();
    for arguments in [&["job", "ls"][..], &["queue", "ls"], &["db", "reap"]] {
        worker.pm(arguments).assert_refused(3, &["row-level security filters", "table job", &worker.1]);
    }
    let ran = worker.pm(&["db", "doctor"]);
    let expected = format!(
        "row_security: row-level security of table job filters what role {:?} may see
  why: rows that a policy hides are never claimed, reaped or shown, and no error tells
  run: psql \"$PM_DATABASE_URL\" -c 'alter table \"pm\".job disable row level security'\n",
        worker.1
    );
    ran.assert(1, &expected, "Error: 1 thing is wrong\n");
    let found: serde_json::Value = serde_json::from_str(&worker.pm(&["db", "doctor", "--json"]).stdout).unwrap();
    assert_eq!(found[0]["check"], "row_security");
}

#[test]
fn a_missing_grant_is_found_by_doctor_and_its_remedy_helps() {
    let place = Place::with_queues(&["mail"]);
    let worker = Role::new(&place, "worker");
    place.database.execute(&format!("revoke insert on pm.attempt from {}", worker.1)).unwrap();
    let found: serde_json::Value = serde_json::from_str(&worker.pm(&["db", "doctor", "--json"]).stdout).unwrap();
    assert_eq!(found[0]["check"], "missing_grant", "{found}");
    assert!(found[0]["what"].as_str().unwrap().contains("lacks insert on table attempt"), "{found}");
    let pm = std::path::Path::new(env!("CARGO_BIN_EXE_pm")).parent().unwrap();
    let path = format!("{}:{}", pm.display(), std::env::var("PATH").unwrap());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", found[0]["remedy"].as_str().unwrap()]).env("PATH", &path);
    let output = shell.env("PM_DATABASE_URL", place.database.url()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    worker.pm(&["db", "doctor"]).assert(0, "", "Nothing is wrong.\n");
}

/// A role that may not look is not sent to migrate.
#[test]
fn a_role_without_access_is_not_sent_to_migrate() {
    let place = Place::with_queues(&["mail"]);
    let worker = Role::new(&place, "worker");
    place.database.execute(&format!("revoke select on pm.migration from {}", worker.1)).unwrap();
    let ran = worker.pm(&["job", "ls"]);
    ran.assert_refused(3, &["select on table migration", "pm db grants"]);
    assert!(!ran.stderr.contains("pm db migrate"), "{}", ran.stderr);
}
