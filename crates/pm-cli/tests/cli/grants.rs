//! `pm db grants`, and commands run by a role without privileges.

use crate::support::{Fixture, run};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Returns the URL of the fixture's database for a role without a password.
fn url_of(fixture: &Fixture, role: &str) -> String {
    let url = fixture.database.url();
    let (before, after) = url.split_once("://").unwrap();
    format!("{before}://{role}@{}", after.split_once('@').map_or(after, |(_, rest)| rest))
}

/// A role that is dropped at the end of the test.
struct Role<'a>(&'a Fixture, String);

impl<'a> Role<'a> {
    fn new(fixture: &'a Fixture, kind: &str) -> Self {
        let name = format!("{}_{kind}", fixture.database.name());
        fixture.database.execute(&format!("create role {name} login")).unwrap();
        let printed = fixture.pm(&["db", "grants", "--role", &name, "--for", kind]);
        assert_eq!((printed.status, printed.stderr.as_str()), (0, ""));
        fixture.database.execute(&printed.stdout).unwrap();
        Role(fixture, name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.0.home.command();
        command.env("PM_DATABASE_URL", url_of(self.0, &self.1)).args(arguments);
        command
    }

    fn pm(&self, arguments: &[&str]) -> crate::support::Ran {
        run(&mut self.command(arguments), b"")
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        self.0.database.execute(&format!("drop owned by {0}; drop role {0}", self.1)).unwrap();
    }
}

#[test]
fn the_grants_are_printed_without_a_database() {
    let fixture = Fixture::empty();
    let mut command = fixture.home.command();
    let printed =
        run(command.args(["db", "grants", "--schema", "my jobs", "--role", "my \"app\"", "--for", "reader"]), b"");
    assert_eq!((printed.status, printed.stderr.as_str()), (0, ""));
    assert!(
        printed.stdout.contains("grant select on table \"my jobs\".job to \"my \"\"app\"\"\";\n"),
        "{}",
        printed.stdout
    );
    let all = fixture.pm(&["db", "grants"]).stdout;
    for role in ["pm_migrator", "pm_reader", "pm_enqueuer", "pm_worker", "pm_operator"] {
        assert!(all.contains(&format!(" to \"{role}\";\n")), "{role}: {all}");
    }
    fixture.pm(&["db", "grants", "--for", "king"]).assert_refused(2, &["migrator, reader, enqueuer, worker, operator"]);
    fixture.pm(&["db", "grants", "--role", ""]).assert_refused(2, &["is not a valid role name"]);
}

#[test]
fn the_printed_grants_suffice_for_each_role() {
    let fixture = Fixture::with_queues(&["mail"]);
    let enqueuer = Role::new(&fixture, "enqueuer");
    assert_eq!(enqueuer.pm(&["job", "add", "mail", "1"]).status, 0);
    let reader = Role::new(&fixture, "reader");
    for arguments in [&["queue", "ls"][..], &["job", "ls"], &["db", "stats"], &["db", "doctor"], &["schedule", "ls"]] {
        let ran = reader.pm(arguments);
        assert_eq!(ran.status, 0, "{arguments:?}: {}", ran.stderr);
    }
    let expected =
        ["lacks insert on table queue", "as the owner of the schema, run: pm db grants --role", "--for operator"];
    reader.pm(&["queue", "create", "post"]).assert_refused(3, &expected);
    let operator = Role::new(&fixture, "operator");
    for arguments in [&["queue", "create", "post"][..], &["queue", "delete", "post"], &["db", "prune"], &["db", "reap"]]
    {
        assert_eq!(operator.pm(arguments).status, 0, "{arguments:?}");
    }
}

#[test]
fn row_level_security_is_reported_by_every_command_and_by_doctor() {
    let fixture = Fixture::with_queues(&["mail"]);
    fixture.add(&["mail", "1"]);
    let worker = Role::new(&fixture, "worker");
    fixture.database.execute("alter table pm.job enable row level security").unwrap();
    for arguments in [&["job", "ls"][..], &["queue", "ls"], &["db", "reap"]] {
        worker.pm(arguments).assert_refused(3, &["row-level security filters", "table job", &worker.1]);
    }
    let ran = worker.pm(&["db", "doctor"]);
    let expected = format!(
        "row_security: row-level security of table job filters what role {:?} may see
  why: rows that a policy hides are never claimed, reaped or shown, and no error reports it
  run: psql \"$PM_DATABASE_URL\" -c 'alter table \"pm\".job disable row level security'\n",
        worker.1
    );
    ran.assert(1, &expected, "Error: 1 problem found\n");
    let found: serde_json::Value = serde_json::from_str(&worker.pm(&["db", "doctor", "--json"]).stdout).unwrap();
    assert_eq!(found[0]["check"], "row_security");
}

#[test]
fn doctor_finds_a_missing_grant_and_prints_the_fix() {
    let fixture = Fixture::with_queues(&["mail"]);
    let worker = Role::new(&fixture, "worker");
    fixture.database.execute(&format!("revoke insert on pm.attempt from {}", worker.1)).unwrap();
    let found: serde_json::Value = serde_json::from_str(&worker.pm(&["db", "doctor", "--json"]).stdout).unwrap();
    assert_eq!(found[0]["check"], "missing_grant", "{found}");
    assert!(found[0]["what"].as_str().unwrap().contains("lacks insert on table attempt"), "{found}");
    let pm = std::path::Path::new(env!("CARGO_BIN_EXE_pm")).parent().unwrap();
    let path = format!("{}:{}", pm.display(), std::env::var("PATH").unwrap());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", found[0]["remedy"].as_str().unwrap()]).env("PATH", &path);
    let output = shell.env("PM_DATABASE_URL", fixture.database.url()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    worker.pm(&["db", "doctor"]).assert(0, "", "No problems found.\n");
}

/// A worker tries again after such an error, so it must print the hint without ending.
#[test]
fn a_worker_without_grants_prints_how_to_get_them() {
    let fixture = Fixture::with_queues(&["mail"]);
    let enqueuer = Role::new(&fixture, "enqueuer");
    let mut working = enqueuer.command(&["work", "mail", "--", "true"]).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(working.stderr.take().unwrap()).lines().map(Result::unwrap);
    let printed: Vec<_> = lines.skip_while(|line| !line.starts_with("Error: ")).take(2).collect();
    working.kill().unwrap();
    working.wait().unwrap();
    assert!(printed[0].contains("insert on table claim_frontier"), "{printed:?}");
    assert!(printed[1].starts_with("Hint: ") && printed[1].contains("--for worker"), "{printed:?}");
}

#[test]
fn a_role_without_access_is_not_advised_to_migrate() {
    let fixture = Fixture::with_queues(&["mail"]);
    let worker = Role::new(&fixture, "worker");
    fixture.database.execute(&format!("revoke select on pm.migration from {}", worker.1)).unwrap();
    let ran = worker.pm(&["job", "ls"]);
    ran.assert_refused(3, &["select on table migration", "pm db grants"]);
    assert!(!ran.stderr.contains("pm db migrate"), "{}", ran.stderr);
}
