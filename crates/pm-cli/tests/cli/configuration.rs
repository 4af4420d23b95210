//! Where `pm` finds its database.

use crate::support::{Home, Place, run};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn without_a_database_all_four_ways_are_named() {
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
fn the_first_that_is_set_counts() {
    let place = Place::with_queues(&["mail"]);
    let url = place.database.url();
    let nowhere = "postgres://nobody@127.0.0.1:1/nowhere";
    let status = |arguments: &[&str], variables: &[(&str, &str)]| {
        run(place.home.command().args(["queue", "ls"]).args(arguments).envs(variables.iter().copied()), b"").status
    };
    let (common, own) = ("DATABASE_URL", "PM_DATABASE_URL");
    place.home.configure(&format!("database_url = \"{url}\""));
    assert_eq!(status(&[], &[]), 0);
    place.home.configure(&format!("database_url = \"{nowhere}\""));
    assert_eq!(status(&[], &[]), 3);
    assert_eq!(status(&[], &[(common, &url)]), 0);
    assert_eq!(status(&[], &[(common, nowhere), (own, &url)]), 0);
    assert_eq!(status(&["--db", &url], &[(own, nowhere)]), 0);
    assert_eq!(status(&["--db", nowhere], &[(own, &url)]), 3);
    assert_eq!(status(&[], &[(common, &url), (own, "")]), 0, "an empty variable is none");
}

/// Returns the directory of a database's socket, and its port.
fn socket_of(url: &str) -> (String, String) {
    let (_, rest) = url.split_once('@').unwrap();
    let (place, _) = rest.split_once('/').unwrap();
    let (directory, port) = place.split_once(':').unwrap();
    (directory.replace("%2F", "/"), port.to_owned())
}

#[test]
fn the_variables_and_services_of_psql_name_the_database_too() {
    let place = Place::with_queues(&["mail"]);
    let (directory, port) = socket_of(&place.database.url());
    let variables = [
        ("PGHOST", directory.as_str()),
        ("PGPORT", &port),
        ("PGUSER", "postgres"),
        ("PGDATABASE", place.database.name()),
    ];
    let ran = run(place.home.command().args(["queue", "ls"]).envs(variables), b"");
    assert!(ran.status == 0 && ran.stdout.contains("mail"), "{}", ran.stderr);
    // They fill in what the URL leaves open, and no more.
    let ran = run(place.home.command().args(["queue", "ls", "--db", "postgres:///"]).envs(variables), b"");
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let ran = run(place.home.command().args(["queue", "ls", "--db", "postgres://127.0.0.1:1"]).envs(variables), b"");
    ran.assert_refused(3, &["127.0.0.1:1"]);
    let (name, service) = (place.database.name(), place.home.path().join("services"));
    let text = format!("[shop]\nhost={directory}\nport={port}\nuser=postgres\ndbname={name}\n");
    std::fs::write(&service, text).unwrap();
    let mut command = place.home.command();
    let ran = run(command.args(["queue", "ls", "--db", "service=shop"]).env("PGSERVICEFILE", &service), b"");
    assert!(ran.status == 0 && ran.stdout.contains("mail"), "{}", ran.stderr);
}

#[test]
fn a_second_host_serves_when_the_first_is_gone_or_silent() {
    let place = Place::with_queues(&["mail"]);
    let (directory, port) = socket_of(&place.database.url());
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (mute, name) = (mute.local_addr().unwrap().port(), place.database.name());
    for first in [1, mute] {
        let db = format!("host=127.0.0.1,{directory} port={first},{port} user=postgres dbname={name}");
        let ran = run(place.home.command().args(["queue", "ls", "--connect-timeout", "1s", "--db", &db]), b"");
        assert!(ran.status == 0 && ran.stdout.contains("mail"), "{}", ran.stderr);
    }
}

#[test]
fn a_password_file_that_others_can_read_is_warned_of_and_an_unknown_parameter_is_named() {
    let place = Place::with_queues(&["mail"]);
    let file = place.home.path().join("passwords");
    std::fs::write(&file, "*:*:*:*:hunter2\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let ran = run(place.command().args(["queue", "ls"]).env("PGPASSFILE", &file), b"");
    assert_eq!(ran.status, 0);
    assert!(ran.stderr.contains("chmod 600") && !ran.stderr.contains("hunter2"), "{}", ran.stderr);
    let ran = run(place.home.command().args(["queue", "ls", "--db", "postgres://ada:hunter2@db/app?sslmod=x"]), b"");
    ran.assert_refused(2, &["--db: ", "\"sslmod\""]);
    let ran = run(place.command().args(["queue", "ls"]).env("PGSSLMODE", "sometimes"), b"");
    ran.assert_refused(2, &["PGSSLMODE", "verify-full"]);
}

#[test]
fn the_file_is_also_found_in_the_home_directory() {
    let place = Place::with_queues(&["mail"]);
    let directory = place.home.path().join(".config/postmodern");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("config.toml"), format!("database_url = \"{}\"", place.database.url())).unwrap();
    let mut command = place.home.command();
    let ran = run(command.env_remove("XDG_CONFIG_HOME").args(["queue", "ls"]), b"");
    assert_eq!(ran.status, 0, "{}", ran.stderr);
}

#[test]
fn the_schema_comes_from_the_same_places() {
    let place = Place::with_queues(&["mail"]);
    assert_eq!(place.pm(&["db", "migrate", "--schema", "other"]).status, 0);
    place.home.configure("schema = \"other\"");
    place.pm(&["queue", "ls"]).assert(0, "", "No queues.\n");
    let ran = run(place.command().env("PM_SCHEMA", "pm").args(["queue", "ls"]), b"");
    assert!(ran.stdout.contains("mail"), "{}", ran.stderr);
    let ran = run(place.command().env("PM_SCHEMA", "pm").args(["queue", "ls", "--schema", "other"]), b"");
    assert_eq!(ran.stderr, "No queues.\n");
}

#[test]
fn a_bad_file_is_named_with_the_line_and_no_password() {
    let home = Home::new();
    for (text, words) in [
        (
            "schema = \"pm\"\ndatabase_ulr = \"postgres://ada:hunter2@db/app\"",
            &["line 2", "`database_ulr`", "`database_url`"][..],
        ),
        ("database_url = \"postgres://ada:hunter2@db/app", &["line 1"]),
        ("database_url = 5", &["line 1", "string"]),
        ("database_url = \"mysql://ada:hunter2@db/app\"", &["database_url in", "no Postgres URL"]),
        ("database_url = \"postgres://db/app\"\nschema = \"pg_x\"", &["schema in", "pg_"]),
    ] {
        let path = home.configure(text);
        let ran = run(home.command().args(["queue", "ls"]), b"");
        ran.assert_refused(2, words);
        assert!(ran.stderr.contains(path.to_str().unwrap()) && !ran.stderr.contains("hunter2"), "{}", ran.stderr);
    }
}

#[test]
fn a_file_that_is_none_is_refused_and_not_waited_for() {
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
    assert!(stderr.contains(&format!("cannot read {}: it is no regular file", path.display())), "{stderr}");
}

#[test]
fn nonsense_for_a_url_is_refused_before_anything_is_tried() {
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

/// What the page says of the file is what the program takes, and each key has an effect.
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
    let place = Place::with_queues(&["mail"]);
    assert_eq!(place.pm(&["db", "migrate", "--schema", "other"]).status, 0);
    let url = place.database.url();
    for (key, text, expected) in [
        ("database_url", format!("database_url = \"{url}\""), "mail"),
        ("schema", format!("database_url = \"{url}\"\nschema = \"other\""), "No queues."),
    ] {
        assert!(documented.contains(&key.to_owned()), "{key} is tested and not documented");
        place.home.configure(&text);
        let ran = run(place.home.command().args(["queue", "ls"]), b"");
        assert!(ran.status == 0 && (ran.stdout + &ran.stderr).contains(expected), "{key}");
    }
    assert_eq!(documented.len(), 2, "a new key needs a line above");
}

#[test]
fn every_option_that_all_commands_have_is_documented() {
    let page = include_str!("../../../../docs/configuration.md");
    for word in ["--db", "--schema", "--connect-timeout", "PM_DATABASE_URL", "DATABASE_URL", "PM_SCHEMA", "NO_COLOR"] {
        assert!(page.contains(&format!("`{word}")), "{word}");
    }
}
