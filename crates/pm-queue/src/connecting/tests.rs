//! Connection strings and their surroundings, without a network.

use super::*;
use crate::{ConnectOptions, Error};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Made-up surroundings: variables, and files by their path; a path in `shared` can be read by others.
#[derive(Default)]
struct World {
    variables: BTreeMap<&'static str, String>,
    files: BTreeMap<PathBuf, String>,
    shared: Vec<PathBuf>,
}

impl World {
    fn new(variables: &[(&'static str, &str)], files: &[(&str, &str)]) -> World {
        World {
            variables: variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            files: files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect(),
            shared: Vec::new(),
        }
    }

    fn resolve(&self, text: &str) -> Result<Target, Error> {
        Target::resolve(text, &ConnectOptions::default(), self)
    }
}

impl Surroundings for World {
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
fn nothing_named_means_the_local_socket_and_the_own_user() {
    let target = World::default().resolve("").unwrap();
    assert_eq!(target.places[0].host, Host::Socket("/var/run/postgresql".into()));
    assert_eq!((target.user.as_str(), target.database.as_str(), target.places[0].port), ("ada", "ada", 5432));
    assert_eq!((target.tls.mode, target.session), (SslMode::Prefer, SessionAttrs::Unsaid));
    assert_eq!(target.connect_timeout, Some(Duration::from_secs(5)));
    let target = World::new(&[], &[("/tmp/.s.PGSQL.5433", "")]).resolve("port=5433 user=eve").unwrap();
    assert_eq!(target.places[0].host, Host::Socket("/tmp".into()));
    assert_eq!(target.database, "eve");
}

#[test]
fn the_string_comes_before_the_service_and_the_service_before_the_variables() {
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
    let world = World::new(&variables, &[("/h/.pg_service.conf", service)]);
    let target = world.resolve("postgres://string").unwrap();
    assert_eq!(target.places[0].host, Host::Name("string".into()));
    assert_eq!((target.user.as_str(), target.places[0].port, target.database.as_str()), ("service", 1, "variable"));
    assert_eq!((target.connect_timeout, target.application_name.as_str()), (Some(Duration::from_secs(7)), "variable"));
    // What the program chose comes before the variables, and after the string.
    let options = ConnectOptions::default().application_name("shop").connect_timeout(Duration::from_secs(9));
    let target = Target::resolve("", &options, &world).unwrap();
    assert_eq!((target.connect_timeout, target.application_name.as_str()), (Some(Duration::from_secs(9)), "shop"));
    let target = Target::resolve("connect_timeout=0 application_name=x", &options, &world).unwrap();
    assert_eq!((target.connect_timeout, target.application_name.as_str()), (None, "x"));
}

#[test]
fn a_service_is_looked_for_in_its_files_and_an_unknown_one_is_named() {
    let files =
        [("/h/.pg_service.conf", "[a]\nhost=1"), ("/s/pg_service.conf", "[b]\nhost=2\n"), ("/f", "[c]\nhost=3")];
    let world = World::new(&[("PGSYSCONFDIR", "/s")], &files);
    let host = |text| world.resolve(text).map(|target| target.places[0].host.clone());
    assert_eq!(host("service=b").unwrap(), Host::Name("2".into()));
    assert_eq!(host("postgres:///?service=a").unwrap(), Host::Name("1".into()));
    assert_eq!(host("service=c servicefile=/f").unwrap(), Host::Name("3".into()));
    let error = host("service=nope").unwrap_err().to_string();
    assert!(error.contains("\"nope\" is defined in none of /h/.pg_service.conf, /s/pg_service.conf"), "{error}");
    for (bad, named) in [("[x]\nhots=1", "\"hots\""), ("[x]\nhost", "without ="), ("[x]\nservice=a", "another service")]
    {
        let world = World::new(&[], &[("/h/.pg_service.conf", bad)]);
        let error = world.resolve("service=x").unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn several_hosts_have_one_port_or_one_each_and_passwords_of_their_own() {
    let passfile = "a:1:app:ada:first\n10.0.0.2:*:*:*:second\nlocalhost:3:*:*:third\n";
    let world = World::new(&[], &[("/h/.pgpass", passfile)]);
    let target = world.resolve("host=a,,/run port=1,2,3 dbname=app").unwrap();
    assert_eq!(target.places.iter().map(|place| place.port).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(
        (password(&target, 0), password(&target, 1), password(&target, 2)),
        (Some("first"), None, Some("third"))
    );
    let target = world.resolve("host=a,b hostaddr=10.0.0.1,10.0.0.2 dbname=app port=1").unwrap();
    assert_eq!(target.places[1].host, Host::Address([10, 0, 0, 2].into(), "b".into()));
    assert_eq!(password(&target, 0), Some("first"));
    assert_eq!(password(&world.resolve("hostaddr=10.0.0.2").unwrap(), 0), Some("second"));
    let target = world.resolve("postgres://[::1]:7,b/app?password=own").unwrap();
    assert_eq!(target.places[0].host, Host::Address("::1".parse().unwrap(), "::1".into()));
    assert_eq!((target.places[1].port, password(&target, 1)), (5432, Some("own")));
    for bad in ["host=a,b port=1,2,3", "host=a,b hostaddr=10.0.0.1", "port=0", "port=65536", "hostaddr=x", "host=@x"] {
        assert!(world.resolve(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_password_file_that_others_can_read_is_ignored_with_a_warning() {
    let mut world = World::new(&[("PGPASSFILE", "/f")], &[("/f", "*:*:*:*:hunter2"), ("/h/.pgpass", "*:*:*:*:no")]);
    assert_eq!(password(&world.resolve("").unwrap(), 0), Some("hunter2"));
    assert_eq!(password(&world.resolve("password=own").unwrap(), 0), Some("own"));
    world.shared.push("/f".into());
    let target = world.resolve("").unwrap();
    assert_eq!(password(&target, 0), None);
    assert!(target.warnings[0].contains("chmod 600 /f"), "{:?}", target.warnings);
    assert_eq!(password(&world.resolve("passfile=/h/.pgpass").unwrap(), 0), Some("no"));
}

#[test]
fn tls_is_read_as_libpq_reads_it() {
    let mut world = World::new(&[], &[("/k", ""), ("/r", ""), ("/c", ""), ("/h/.postgresql/postgresql.crt", "")]);
    world.files.insert("/h/.postgresql/postgresql.key".into(), String::new());
    let tls = |world: &World, text: &str| world.resolve(text).map(|target| target.tls);
    let is = |text, mode, roots| {
        let tls = tls(&world, text).unwrap();
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
        let error = tls(&world, bad).unwrap_err().to_string();
        assert!(error.contains(bad.split(['=', ' ']).next().unwrap()) && !error.contains("hunter2"), "{error}");
    }
    let client = tls(&world, "sslmode=require").unwrap().client;
    assert_eq!(client, Some(("/h/.postgresql/postgresql.crt".into(), "/h/.postgresql/postgresql.key".into())));
    world.shared.push("/k".into());
    let error = tls(&world, "sslcert=/c sslkey=/k").unwrap_err().to_string();
    assert!(error.contains("chmod 600 /k"), "{error}");
    let world = World::new(&[("PGSSLMODE", "bad"), ("PGSSLROOTCERT", "/r")], &[("/r", "")]);
    assert!(tls(&world, "").unwrap_err().to_string().starts_with("the variable PGSSLMODE is none of"));
    assert_eq!(tls(&world, "sslmode=verify-ca").unwrap().roots, Roots::File("/r".into()));
}

#[test]
fn what_is_unknown_or_unsupported_is_named() {
    let world = World::default();
    let error = |text: &str| world.resolve(text).unwrap_err().to_string();
    assert!(error("postgres://h/?sslmod=require").contains("\"sslmod\""));
    assert!(error("host=h require_auth=scram-sha-256").contains("require_auth"));
    assert!(error("gssencmode=require").contains("but as disable, prefer"));
    assert!(error("target_session_attrs=master").contains("read-write"));
    assert!(error("connect_timeout=soon").contains("connect_timeout"));
    // It may be a part of a password with an & in it.
    assert!(!error("postgres://h/?password=hun&Ter2!=x").contains("Ter2"));
    assert!(world.resolve("gssencmode=prefer client_encoding=utf8 sslcompression=1 replication=false").is_ok());
}

#[test]
fn sockets_are_probed_unless_the_string_says_otherwise() {
    let world = World::default();
    let of = |text| world.resolve(text).unwrap();
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
    let world = World::new(&[("PGPASSWORD", "hunter2")], &[]);
    let route = Route::new(world.resolve("host=a").unwrap());
    assert_eq!(password(route.target(), 0), Some("hunter2"));
    assert!(!format!("{route:?}").contains("hunter2"));
}
