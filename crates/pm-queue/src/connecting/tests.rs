//! Connection strings with fake environments, without a network.

use super::*;
use crate::{ConnectOptions, Error};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A fake environment: variables, and files by path. Other users can read the paths in `shared`.
#[derive(Default)]
struct FakeSurroundings {
    variables: BTreeMap<&'static str, String>,
    files: BTreeMap<PathBuf, String>,
    shared: Vec<PathBuf>,
}

impl FakeSurroundings {
    fn new(variables: &[(&'static str, &str)], files: &[(&str, &str)]) -> FakeSurroundings {
        FakeSurroundings {
            variables: variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            files: files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect(),
            shared: Vec::new(),
        }
    }

    fn resolve(&self, text: &str) -> Result<Target, Error> {
        Target::resolve(text, &ConnectOptions::default(), self)
    }
}

impl Surroundings for FakeSurroundings {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn user(&self) -> Option<String> {
        Some("ada".to_owned())
    }

    fn home(&self) -> Option<PathBuf> {
        Some(PathBuf::from("/h"))
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn is_private(&self, path: &Path) -> bool {
        !self.shared.iter().any(|shared| shared == path)
    }
}

fn password(target: &Target, place: usize) -> Option<&str> {
    target.places[place].password.as_ref().map(Password::reveal)
}

#[test]
fn an_empty_string_means_the_local_socket_and_the_current_user() {
    let target = FakeSurroundings::default().resolve("").unwrap();
    assert_eq!(target.places[0].host, Host::Socket("/var/run/postgresql".into()));
    assert_eq!((target.user.as_str(), target.database.as_str(), target.places[0].port), ("ada", "ada", 5432));
    assert_eq!((target.tls.mode, target.session), (SslMode::Prefer, SessionAttrs::Unsaid));
    assert_eq!(target.connect_timeout, Some(Duration::from_secs(5)));
    let target = FakeSurroundings::new(&[], &[("/tmp/.s.PGSQL.5433", "")]).resolve("port=5433 user=eve").unwrap();
    assert_eq!(target.places[0].host, Host::Socket("/tmp".into()));
    assert_eq!(target.database, "eve");
}

#[test]
fn the_string_overrides_the_service_and_the_service_the_variables() {
    let service = "[shop]\nhost=service\nuser=service\nport=1\n";
    let variables = [
        ("PGHOST", "variable"),
        ("PGUSER", "variable"),
        ("PGPORT", "2"),
        ("PGDATABASE", "variable"),
        ("PGSERVICE", "shop"),
        ("PGCONNECT_TIMEOUT", "7"),
        ("PGAPPNAME", "variable"),
    ];
    let surroundings = FakeSurroundings::new(&variables, &[("/h/.pg_service.conf", service)]);
    let target = surroundings.resolve("postgres://string").unwrap();
    assert_eq!(target.places[0].host, Host::Name("string".into()));
    assert_eq!((target.user.as_str(), target.places[0].port, target.database.as_str()), ("service", 1, "variable"));
    assert_eq!((target.connect_timeout, target.application_name.as_str()), (Some(Duration::from_secs(7)), "variable"));
    // What the program chose overrides the variables, and is overridden by the string.
    let options = ConnectOptions::default().application_name("shop").connect_timeout(Duration::from_secs(9));
    let target = Target::resolve("", &options, &surroundings).unwrap();
    assert_eq!((target.connect_timeout, target.application_name.as_str()), (Some(Duration::from_secs(9)), "shop"));
    let target = Target::resolve("connect_timeout=0 application_name=x", &options, &surroundings).unwrap();
    assert_eq!((target.connect_timeout, target.application_name.as_str()), (None, "x"));
}

#[test]
fn a_service_is_read_from_its_file_and_an_unknown_one_is_refused() {
    let files =
        [("/h/.pg_service.conf", "[a]\nhost=1"), ("/s/pg_service.conf", "[b]\nhost=2\n"), ("/f", "[c]\nhost=3")];
    let surroundings = FakeSurroundings::new(&[("PGSYSCONFDIR", "/s")], &files);
    let host = |text| surroundings.resolve(text).map(|target| target.places[0].host.clone());
    assert_eq!(host("service=b").unwrap(), Host::Name("2".into()));
    assert_eq!(host("postgres:///?service=a").unwrap(), Host::Name("1".into()));
    assert_eq!(host("service=c servicefile=/f").unwrap(), Host::Name("3".into()));
    let error = host("service=nope").unwrap_err().to_string();
    assert!(error.contains("\"nope\" is not defined in /h/.pg_service.conf or /s/pg_service.conf"), "{error}");
    for (bad, named) in [("[x]\nhots=1", "\"hots\""), ("[x]\nhost", "without ="), ("[x]\nservice=a", "another service")]
    {
        let surroundings = FakeSurroundings::new(&[], &[("/h/.pg_service.conf", bad)]);
        let error = surroundings.resolve("service=x").unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn several_hosts_have_one_port_or_one_each_and_their_own_passwords() {
    let passfile = "a:1:app:ada:first\n10.0.0.2:*:*:*:second\nlocalhost:3:*:*:third\n";
    let surroundings = FakeSurroundings::new(&[], &[("/h/.pgpass", passfile)]);
    let target = surroundings.resolve("host=a,,/run port=1,2,3 dbname=app").unwrap();
    assert_eq!(target.places.iter().map(|place| place.port).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(
        (password(&target, 0), password(&target, 1), password(&target, 2)),
        (Some("first"), None, Some("third"))
    );
    let target = surroundings.resolve("host=a,b hostaddr=10.0.0.1,10.0.0.2 dbname=app port=1").unwrap();
    assert_eq!(target.places[1].host, Host::Address([10, 0, 0, 2].into(), "b".into()));
    assert_eq!(password(&target, 0), Some("first"));
    assert_eq!(password(&surroundings.resolve("hostaddr=10.0.0.2").unwrap(), 0), Some("second"));
    let target = surroundings.resolve("postgres://[::1]:7,b/app?password=own").unwrap();
    assert_eq!(target.places[0].host, Host::Address("::1".parse().unwrap(), "::1".into()));
    assert_eq!((target.places[1].port, password(&target, 1)), (5432, Some("own")));
    for bad in ["host=a,b port=1,2,3", "host=a,b hostaddr=10.0.0.1", "port=0", "port=65536", "hostaddr=x", "host=@x"] {
        assert!(surroundings.resolve(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_password_file_that_others_can_read_is_ignored_with_a_warning() {
    let mut surroundings =
        FakeSurroundings::new(&[("PGPASSFILE", "/f")], &[("/f", "*:*:*:*:hunter2"), ("/h/.pgpass", "*:*:*:*:no")]);
    assert_eq!(password(&surroundings.resolve("").unwrap(), 0), Some("hunter2"));
    assert_eq!(password(&surroundings.resolve("password=own").unwrap(), 0), Some("own"));
    surroundings.shared.push("/f".into());
    let target = surroundings.resolve("").unwrap();
    assert_eq!(password(&target, 0), None);
    assert!(target.warnings[0].contains("chmod 600 /f"), "{:?}", target.warnings);
    assert_eq!(password(&surroundings.resolve("passfile=/h/.pgpass").unwrap(), 0), Some("no"));
}

#[test]
fn tls_parameters_are_read_as_libpq_does() {
    let mut surroundings =
        FakeSurroundings::new(&[], &[("/k", ""), ("/r", ""), ("/c", ""), ("/h/.postgresql/postgresql.crt", "")]);
    surroundings.files.insert("/h/.postgresql/postgresql.key".into(), String::new());
    let tls = |surroundings: &FakeSurroundings, text: &str| surroundings.resolve(text).map(|target| target.tls);
    let is = |text, mode, roots| {
        let tls = tls(&surroundings, text).unwrap();
        assert_eq!((tls.mode, tls.roots), (mode, roots), "{text}");
    };
    is("", SslMode::Prefer, Roots::System);
    is("sslmode=require", SslMode::Require, Roots::System);
    is("sslmode=require sslrootcert=/r", SslMode::VerifyCa, Roots::File("/r".into()));
    is("sslmode=verify-full", SslMode::VerifyFull, Roots::System);
    is("sslrootcert=system", SslMode::VerifyFull, Roots::System);
    is("requiressl=1", SslMode::Require, Roots::System);
    for bad in [
        "sslmode=requier",
        "sslmode=require sslrootcert=system",
        "sslnegotiation=direct",
        "channel_binding=x",
        "sslcrl=/x",
        "sslrootcert=/nowhere sslmode=verify-ca",
        "sslcert=/nowhere",
        "sslpassword=hunter2",
    ] {
        let error = tls(&surroundings, bad).unwrap_err().to_string();
        assert!(error.contains(bad.split(['=', ' ']).next().unwrap()) && !error.contains("hunter2"), "{error}");
    }
    let client = tls(&surroundings, "sslmode=require").unwrap().client;
    assert_eq!(client, Some(("/h/.postgresql/postgresql.crt".into(), "/h/.postgresql/postgresql.key".into())));
    surroundings.shared.push("/k".into());
    let error = tls(&surroundings, "sslcert=/c sslkey=/k").unwrap_err().to_string();
    assert!(error.contains("chmod 600 /k"), "{error}");
    let surroundings = FakeSurroundings::new(&[("PGSSLMODE", "bad"), ("PGSSLROOTCERT", "/r")], &[("/r", "")]);
    assert!(tls(&surroundings, "").unwrap_err().to_string().starts_with("the variable PGSSLMODE is not one of"));
    assert_eq!(tls(&surroundings, "sslmode=verify-ca").unwrap().roots, Roots::File("/r".into()));
}

#[test]
fn errors_name_unknown_and_unsupported_parameters() {
    let surroundings = FakeSurroundings::default();
    let error = |text: &str| surroundings.resolve(text).unwrap_err().to_string();
    assert!(error("postgres://h/?sslmod=require").contains("\"sslmod\""));
    assert!(error("host=h require_auth=scram-sha-256").contains("require_auth"));
    assert!(error("gssencmode=require").contains("except as disable, prefer"));
    assert!(error("target_session_attrs=master").contains("read-write"));
    assert!(error("connect_timeout=soon").contains("connect_timeout"));
    // This may be part of a password that contains an &.
    assert!(!error("postgres://h/?password=hun&Ter2!=x").contains("Ter2"));
    assert!(surroundings.resolve("gssencmode=prefer client_encoding=utf8 sslcompression=1 replication=false").is_ok());
}

#[test]
fn tcp_keepalives_are_on_unless_the_string_turns_them_off() {
    let surroundings = FakeSurroundings::default();
    let of = |text| surroundings.resolve(text).unwrap();
    let usual = of("").keepalives.unwrap();
    assert_eq!((usual.idle, usual.count), (Duration::from_secs(30), Some(3)));
    assert_eq!(of("keepalives=0").keepalives, None);
    let chosen = of("keepalives_idle=7 keepalives_interval=0 keepalives_retries=9").keepalives.unwrap();
    assert_eq!((chosen.idle, chosen.interval, chosen.count), (Duration::from_secs(7), usual.interval, Some(9)));
    assert_eq!(of("").tcp_user_timeout, Some(Duration::from_secs(30)));
    assert_eq!(of("tcp_user_timeout=1500").tcp_user_timeout, Some(Duration::from_millis(1_500)));
    assert_eq!(of("tcp_user_timeout=0").tcp_user_timeout, None);
}

#[test]
fn a_password_is_in_no_debug_output() {
    let surroundings = FakeSurroundings::new(&[("PGPASSWORD", "hunter2")], &[]);
    let route = Route::new(surroundings.resolve("host=a").unwrap());
    assert_eq!(password(route.target(), 0), Some("hunter2"));
    assert!(!format!("{route:?}").contains("hunter2"));
}
