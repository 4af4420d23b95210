//! Where `pm` finds its database.

use crate::support::{Fixture, Home, run};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn without_a_database_the_error_lists_all_ways_to_set_it() {
    let home = Home::new();
    for arguments in [&["queue", "ls"][..], &["job", "add", "mail", "1"], &["db", "migrate"]] {
        let ran = run(home.command().args(arguments), b"");
        ran.assert_refused(
            2,
            &["--db", "PM_DATABASE_URL", "\n  DATABASE_URL", "database_url", "config/postmodern/config.toml"],
        );
    }
}

#[test]
fn the_first_source_that_is_set_is_used() {
    let fixture = Fixture::with_queues(&["mail"]);
    let url = fixture.database.url();
    let nowhere = "postgres://nobody@127.0.0.1:1/nowhere";
    let status = |arguments: &[&str], variables: &[(&str, &str)]| {
        run(fixture.home.command().args(["queue", "ls"]).args(arguments).envs(variables.iter().copied()), b"").status
    };
    let (common, own) = ("DATABASE_URL", "PM_DATABASE_URL");
    fixture.home.configure(&format!("database_url = \"{url}\""));
    assert_eq!(status(&[], &[]), 0);
    fixture.home.configure(&format!("database_url = \"{nowhere}\""));
    assert_eq!(status(&[], &[]), 3);
    assert_eq!(status(&[], &[(common, &url)]), 0);
    assert_eq!(status(&[], &[(common, nowhere), (own, &url)]), 0);
    assert_eq!(status(&["--db", &url], &[(own, nowhere)]), 0);
    assert_eq!(status(&["--db", nowhere], &[(own, &url)]), 3);
    assert_eq!(status(&[], &[(common, &url), (own, "")]), 0, "an empty variable counts as unset");
}

/// Returns the directory of a database's socket, and its port.
fn socket_of(url: &str) -> (String, String) {
    let (_, rest) = url.split_once('@').unwrap();
    let (address, _) = rest.split_once('/').unwrap();
    let (directory, port) = address.split_once(':').unwrap();
    (directory.replace("%2F", "/"), port.to_owned())
}

#[test]
fn the_variables_and_services_of_psql_set_the_database() {
    let fixture = Fixture::with_queues(&["mail"]);
    let (directory, port) = socket_of(&fixture.database.url());
    let variables = [
        ("PGHOST", directory.as_str()),
        ("PGPORT", &port),
        ("PGUSER", "postgres"),
        ("PGDATABASE", fixture.database.name()),
    ];
    let ran = run(fixture.home.command().args(["queue", "ls"]).envs(variables), b"");
    assert!(ran.status == 0 && ran.stdout.contains("mail"), "{}", ran.stderr);
    // They fill in only what the URL leaves out.
    let ran = run(fixture.home.command().args(["queue", "ls", "--db", "postgres:///"]).envs(variables), b"");
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let ran = run(fixture.home.command().args(["queue", "ls", "--db", "postgres://127.0.0.1:1"]).envs(variables), b"");
    ran.assert_refused(3, &["127.0.0.1:1"]);
    let (name, service) = (fixture.database.name(), fixture.home.path().join("services"));
    let text = format!("[shop]\nhost={directory}\nport={port}\nuser=postgres\ndbname={name}\n");
    std::fs::write(&service, text).unwrap();
    let mut command = fixture.home.command();
    let ran = run(command.args(["queue", "ls", "--db", "service=shop"]).env("PGSERVICEFILE", &service), b"");
    assert!(ran.status == 0 && ran.stdout.contains("mail"), "{}", ran.stderr);
}

#[test]
fn the_second_host_is_used_when_the_first_is_down_or_does_not_respond() {
    let fixture = Fixture::with_queues(&["mail"]);
    let (directory, port) = socket_of(&fixture.database.url());
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (mute, name) = (mute.local_addr().unwrap().port(), fixture.database.name());
    for first in [1, mute] {
        let db = format!("host=127.0.0.1,{directory} port={first},{port} user=postgres dbname={name}");
        let ran = run(fixture.home.command().args(["queue", "ls", "--connect-timeout", "1s", "--db", &db]), b"");
        assert!(ran.status == 0 && ran.stdout.contains("mail"), "{}", ran.stderr);
    }
}

#[test]
fn readable_password_files_cause_a_warning_and_unknown_parameters_an_error() {
    let fixture = Fixture::with_queues(&["mail"]);
    let file = fixture.home.path().join("passwords");
    std::fs::write(&file, "*:*:*:*:hunter2\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let ran = run(fixture.command().args(["queue", "ls"]).env("PGPASSFILE", &file), b"");
    assert_eq!(ran.status, 0);
    assert!(ran.stderr.contains("chmod 600") && !ran.stderr.contains("hunter2"), "{}", ran.stderr);
    let ran = run(fixture.home.command().args(["queue", "ls", "--db", "postgres://ada:hunter2@db/app?sslmod=x"]), b"");
    ran.assert_refused(2, &["--db: ", "\"sslmod\""]);
    let ran = run(fixture.command().args(["queue", "ls"]).env("PGSSLMODE", "sometimes"), b"");
    ran.assert_refused(2, &["PGSSLMODE", "verify-full"]);
}

#[test]
fn the_file_is_found_in_the_home_directory() {
    let fixture = Fixture::with_queues(&["mail"]);
    let directory = fixture.home.path().join(".config/postmodern");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("config.toml"), format!("database_url = \"{}\"", fixture.database.url())).unwrap();
    let mut command = fixture.home.command();
    let ran = run(command.env_remove("XDG_CONFIG_HOME").args(["queue", "ls"]), b"");
    assert_eq!(ran.status, 0, "{}", ran.stderr);
}

#[test]
fn the_schema_comes_from_the_same_sources() {
    let fixture = Fixture::with_queues(&["mail"]);
    assert_eq!(fixture.pm(&["db", "migrate", "--schema", "other"]).status, 0);
    fixture.home.configure("schema = \"other\"");
    fixture.pm(&["queue", "ls"]).assert(0, "", "No queues.\n");
    let ran = run(fixture.command().env("PM_SCHEMA", "pm").args(["queue", "ls"]), b"");
    assert!(ran.stdout.contains("mail"), "{}", ran.stderr);
    let ran = run(fixture.command().env("PM_SCHEMA", "pm").args(["queue", "ls", "--schema", "other"]), b"");
    assert_eq!(ran.stderr, "No queues.\n");
}

#[test]
fn an_invalid_file_is_reported_with_the_line_and_without_passwords() {
    let home = Home::new();
    for (text, expected) in [
        (
            "schema = \"pm\"\ndatabase_ulr = \"postgres://ada:hunter2@db/app\"",
            &["line 2", "`database_ulr`", "`database_url`"][..],
        ),
        ("database_url = \"postgres://ada:hunter2@db/app", &["line 1"]),
        ("database_url = 5", &["line 1", "string"]),
        ("database_url = \"mysql://ada:hunter2@db/app\"", &["database_url in", "not a Postgres URL"]),
        ("database_url = \"postgres://db/app\"\nschema = \"pg_x\"", &["schema in", "pg_"]),
    ] {
        let path = home.configure(text);
        let ran = run(home.command().args(["queue", "ls"]), b"");
        ran.assert_refused(2, expected);
        assert!(ran.stderr.contains(path.to_str().unwrap()) && !ran.stderr.contains("hunter2"), "{}", ran.stderr);
    }
}

#[test]
fn a_fifo_is_refused_without_reading_it() {
    let home = Home::new();
    let path = home.configure("");
    std::fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut command = home.command();
    let mut child = command.args(["queue", "ls"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(&format!("cannot read {}: not a regular file", path.display())), "{stderr}");
}

#[test]
fn an_invalid_url_is_refused_before_connecting() {
    let home = Home::new();
    for url in ["nonsense", "mysql://ada:hunter2@db/app", "postgres://ada:hun@ter2@db/app"] {
        let ran = run(home.command().args(["queue", "ls", "--db", url]), b"");
        ran.assert_refused(2, &["--db: ", "Hint: "]);
        assert!(!ran.stderr.contains("ter2"), "{}", ran.stderr);
        let ran = run(home.command().args(["queue", "ls"]).env("DATABASE_URL", url), b"");
        ran.assert_refused(2, &["DATABASE_URL: "]);
    }
}

#[test]
fn usage_errors_exit_with_2_and_help_with_0() {
    let home = Home::new();
    for arguments in [&["nonsense"][..], &["queue"], &[], &["job", "show"], &["queue", "ls", "--json", "--ndjson"]] {
        let ran = run(home.command().args(arguments), b"");
        assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["-h"], &["--version"], &["help", "job", "add"], &["queue", "set", "--help"]] {
        let ran = run(home.command().args(arguments), b"");
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{arguments:?}");
        assert!(!ran.stdout.contains('\u{1b}'));
    }
}

/// Returns the first cells of the table rows that follow this heading.
fn keys(page: &str, heading: &str) -> Vec<String> {
    let (_, section) = page.split_once(heading).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(str::to_owned).collect()
}

/// The page documents exactly the keys that the program accepts, and each key has an effect.
#[test]
fn every_setting_of_the_file_is_documented_and_works() {
    let page = include_str!("../../../../docs/configuration.md");
    let documented = keys(page, "## The file");
    let home = Home::new();
    home.configure("no_such_key = 1");
    let refused = run(home.command().args(["queue", "ls"]), b"").stderr;
    let (_, known) = refused.split_once("expected").unwrap();
    let known: Vec<_> = known.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(documented, known, "{refused}");
    let fixture = Fixture::with_queues(&["mail"]);
    assert_eq!(fixture.pm(&["db", "migrate", "--schema", "other"]).status, 0);
    let url = fixture.database.url();
    for (key, text, expected) in [
        ("database_url", format!("database_url = \"{url}\""), "mail"),
        ("schema", format!("database_url = \"{url}\"\nschema = \"other\""), "No queues."),
    ] {
        assert!(documented.contains(&key.to_owned()), "{key} is tested and not documented");
        fixture.home.configure(&text);
        let ran = run(fixture.home.command().args(["queue", "ls"]), b"");
        assert!(ran.status == 0 && (ran.stdout + &ran.stderr).contains(expected), "{key}");
    }
    assert_eq!(documented.len(), 2, "add a case above for each new key");
}

#[test]
fn every_global_option_is_documented() {
    let page = include_str!("../../../../docs/configuration.md");
    for name in ["--db", "--schema", "--connect-timeout", "PM_DATABASE_URL", "DATABASE_URL", "PM_SCHEMA", "NO_COLOR"] {
        assert!(page.contains(&format!("`{name}")), "{name}");
    }
}
