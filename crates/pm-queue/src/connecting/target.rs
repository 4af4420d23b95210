//! The complete parameters of a connection, with all defaults filled in.

use super::files::{self, Login};
use super::parameters::{Origin, Parameters, variables};
use super::surroundings::{Surroundings, System};
use super::{conninfo, tls::Tls};
use crate::driver::application_name;
use crate::{ConnectOptions, Error};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The maximum number of hosts in one connection string.
const MAX_HOSTS: usize = 100;
const DEFAULT_PORT: u16 = 5432;
/// The usual directories of the server's Unix socket. The first that contains one is used.
const SOCKET_DIRECTORIES: [&str; 3] = ["/var/run/postgresql", "/run/postgresql", "/tmp"];
/// The default keepalives, with which a connection to a server that has vanished is closed after about a minute.
const PROBES: Keepalives =
    Keepalives { idle: Duration::from_secs(30), interval: Duration::from_secs(10), count: Some(3) };

/// Where to connect, and how: a connection string with all defaults filled in.
#[derive(Debug, Clone)]
pub struct Target {
    /// The hosts to try, in the order of the connection string; at least one.
    pub places: Vec<Place>,
    /// The name of the role.
    pub user: String,
    /// The name of the database.
    pub database: String,
    /// Settings of the session, in the form `-c name=value`.
    pub options: Option<String>,
    /// The `application_name` of the session.
    pub application_name: String,
    /// The time limit for opening a session on one address; `None` for no limit.
    pub connect_timeout: Option<Duration>,
    /// Which servers are acceptable.
    pub session: SessionAttrs,
    /// Whether hosts and addresses are tried in random order.
    pub balances: bool,
    /// The TLS parameters.
    pub tls: Tls,
    /// The TCP keepalives; `None` for none.
    pub keepalives: Option<Keepalives>,
    /// How long sent data may stay unacknowledged; `None` for the system's default.
    pub tcp_user_timeout: Option<Duration>,
    /// Warnings for humans, for example about a password file that is ignored because other users can read it.
    pub warnings: Vec<String>,
}

/// One host of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The host.
    pub host: Host,
    /// The TCP port, or the number in the socket's name.
    pub port: u16,
    /// The password for this host, if there is one.
    pub password: Option<Password>,
}

/// How to reach a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// The Unix socket in this directory.
    Socket(PathBuf),
    /// A host name, which may resolve to several addresses.
    Name(String),
    /// An address, and the name for which the server's certificate must be issued.
    Address(IpAddr, String),
}

/// A password. Its `Debug` output does not contain it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub(super) String);

impl Password {
    /// Returns the password in plain text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Which servers are acceptable: the parameter `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionAttrs {
    /// Not set: the first of several servers that accepts writes or, if none does, the first that answers.
    Unsaid,
    /// The first server that answers.
    Any,
    /// A server that accepts writes.
    ReadWrite,
    /// A server that does not accept writes.
    ReadOnly,
    /// A server that is not a standby.
    Primary,
    /// A standby.
    Standby,
    /// A standby or, if there is none, the first server that answers.
    PreferStandby,
}

/// When idle TCP connections are probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalives {
    /// The idle time before the first probe.
    pub idle: Duration,
    /// The interval between probes.
    pub interval: Duration,
    /// The number of unanswered probes after which the connection is closed; `None` for the system's default.
    pub count: Option<u32>,
}

impl Target {
    /// Reads a connection string, completed from the environment of this process.
    ///
    /// # Errors
    ///
    /// As [`Target::resolve`].
    pub fn read(text: &str, options: &ConnectOptions) -> Result<Target, Error> {
        Target::resolve(text, options, &System)
    }

    /// Reads a connection string, a URL or `key=value` pairs. Parameters that it does not set come from the service
    /// that it names, then the environment variables, then the options, then libpq's defaults. A password comes last
    /// from the password file.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the bad parameter and where it was set. The message contains no password.
    pub fn resolve(text: &str, options: &ConnectOptions, surroundings: &dyn Surroundings) -> Result<Target, Error> {
        let mut found = conninfo::parse(text)?;
        files::add_service(&mut found, surroundings)?;
        for (variable, name) in variables() {
            if let Some(value) = files::set(surroundings, variable) {
                found.set_default(name, value, Origin::Variable(variable));
            }
        }
        found.check_supported()?;
        let reader = Reader { found: &found, surroundings };
        let user = reader.user()?;
        let database = found.filled("dbname").unwrap_or(&user).to_owned();
        let mut warnings = Vec::new();
        let places = reader.places(&user, &database, &mut warnings)?;
        Ok(Target {
            options: found.filled("options").map(str::to_owned),
            application_name: reader.application_name(options)?,
            connect_timeout: reader.connect_timeout(options)?,
            session: reader.session()?,
            balances: found.one_of("load_balance_hosts", &[("disable", false), ("random", true)], false)?,
            tls: Tls::read(&found, surroundings)?,
            keepalives: reader.keepalives()?,
            tcp_user_timeout: match found.number("tcp_user_timeout")? {
                None => Some(options.statement_timeout),
                Some(ms) => u64::try_from(ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis),
            },
            places,
            user,
            database,
            warnings,
        })
    }

    /// Checks the syntax of a connection string, without reading the environment.
    ///
    /// # Errors
    ///
    /// `Invalid`. The message contains no value, which could be part of a password.
    pub fn check(text: &str) -> Result<(), Error> {
        conninfo::parse(text).map(drop)
    }

    /// Returns whether an environment variable names a server or a database.
    pub fn is_named_by(surroundings: &dyn Surroundings) -> bool {
        const NAMING: [&str; 6] = ["PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"];
        NAMING.iter().any(|variable| files::set(surroundings, variable).is_some())
    }
}

/// Interprets single parameters.
struct Reader<'a> {
    found: &'a Parameters,
    surroundings: &'a dyn Surroundings,
}

impl Reader<'_> {
    fn user(&self) -> Result<String, Error> {
        let user = self.found.filled("user").map(str::to_owned).or_else(|| self.surroundings.user());
        user.ok_or_else(|| Error::invalid("no user is set, and the operating system reports none: add one to the URL"))
    }

    fn places(&self, user: &str, database: &str, warnings: &mut Vec<String>) -> Result<Vec<Place>, Error> {
        let list = |name: &str| -> Vec<String> {
            let text = self.found.filled(name).unwrap_or_default();
            text.split(',').map(|part| part.trim().to_owned()).collect()
        };
        let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
        let has_addresses = self.found.filled("hostaddr").is_some();
        let has_hosts = self.found.filled("host").is_some();
        if has_hosts && has_addresses && hosts.len() != addresses.len() {
            let (hosts, addresses) = (hosts.len(), addresses.len());
            return Err(Error::invalid(format!("{hosts} hosts but {addresses} addresses (hostaddr): give as many")));
        }
        let count = if has_addresses { addresses.len() } else { hosts.len() };
        if count > MAX_HOSTS {
            return Err(Error::invalid(format!("{count} hosts are given, more than the {MAX_HOSTS} allowed")));
        }
        if ports.len() != 1 && ports.len() != count {
            return Err(Error::invalid(format!("{} ports for {count} hosts: give one, or one for each", ports.len())));
        }
        let passfile = self.passfile(warnings);
        (0..count)
            .map(|at| {
                let port = self.port(ports.get(at).unwrap_or(&ports[0]))?;
                let address = addresses.get(at).filter(|address| !address.is_empty());
                let host = self.host(hosts.get(at).map_or("", String::as_str), address, port)?;
                let given = self.found.filled("password").map(str::to_owned);
                let login = Login { hosts: &host.names(), port, database, user };
                let password = given.or_else(|| files::password(passfile.as_deref()?, &login)).map(Password);
                Ok(Place { port, password, host })
            })
            .collect()
    }

    fn host(&self, name: &str, address: Option<&String>, port: u16) -> Result<Host, Error> {
        if let Some(address) = address {
            let wrong = || Error::invalid(format!("{} is not an IP address", self.found.described("hostaddr")));
            let address: IpAddr = address.parse().map_err(|_| wrong())?;
            let name = if name.is_empty() { address.to_string() } else { name.to_owned() };
            return Ok(Host::Address(address, name));
        }
        if name.is_empty() {
            let has_socket =
                |directory: &&str| self.surroundings.exists(&Path::new(directory).join(format!(".s.PGSQL.{port}")));
            let directory = SOCKET_DIRECTORIES.iter().find(|directory| has_socket(directory));
            return Ok(Host::Socket(PathBuf::from(directory.unwrap_or(&SOCKET_DIRECTORIES[0]))));
        }
        if name.starts_with('/') {
            return Ok(Host::Socket(PathBuf::from(name)));
        }
        if name.starts_with('@') {
            return Err(Error::invalid("abstract sockets are not supported: give the directory of the socket"));
        }
        Ok(name.parse().map_or_else(|_| Host::Name(name.to_owned()), |address| Host::Address(address, name.to_owned())))
    }

    fn port(&self, text: &str) -> Result<u16, Error> {
        if text.is_empty() {
            return Ok(DEFAULT_PORT);
        }
        let port = text.parse().ok().filter(|port| *port > 0);
        port.ok_or_else(|| Error::invalid(format!("{} is not a port (1 to 65535)", self.found.described("port"))))
    }

    /// Returns the text of the password file, unless the password is set or other users can read the file.
    fn passfile(&self, warnings: &mut Vec<String>) -> Option<String> {
        if self.found.filled("password").is_some() {
            return None;
        }
        let named = self.found.filled("passfile").map(PathBuf::from);
        let path = named.or_else(|| Some(self.surroundings.home()?.join(".pgpass")))?;
        // As in libpq, a missing or unreadable file is ignored.
        let text = self.surroundings.read(&path).ok()?;
        if self.surroundings.is_private(&path) {
            return Some(text);
        }
        let path = path.display();
        warnings
            .push(format!("the password file {path} was ignored, because other users can read it: chmod 600 {path}"));
        None
    }

    /// Returns the name in the connection string, else the one that the program chose, else the environment
    /// variable's.
    fn application_name(&self, options: &ConnectOptions) -> Result<String, Error> {
        let given = self.found.filled("application_name");
        let chosen = options.application_name != ConnectOptions::default().application_name;
        let given = given.filter(|_| !(chosen && self.is_variable("application_name")));
        application_name(given.or_else(|| self.found.filled("fallback_application_name").filter(|_| !chosen)), options)
    }

    fn connect_timeout(&self, options: &ConnectOptions) -> Result<Option<Duration>, Error> {
        let chosen = options.connect_timeout != ConnectOptions::default().connect_timeout;
        match self.found.number("connect_timeout")? {
            None => Ok(Some(options.connect_timeout)),
            Some(_) if chosen && self.is_variable("connect_timeout") => Ok(Some(options.connect_timeout)),
            Some(seconds) => Ok(u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)),
        }
    }

    fn is_variable(&self, name: &str) -> bool {
        self.found.described(name).starts_with("the variable")
    }

    fn session(&self) -> Result<SessionAttrs, Error> {
        use SessionAttrs::{Any, PreferStandby, Primary, ReadOnly, ReadWrite, Standby, Unsaid};
        let choices = [
            ("any", Any),
            ("read-write", ReadWrite),
            ("read-only", ReadOnly),
            ("primary", Primary),
            ("standby", Standby),
            ("prefer-standby", PreferStandby),
        ];
        self.found.one_of("target_session_attrs", &choices, Unsaid)
    }

    fn keepalives(&self) -> Result<Option<Keepalives>, Error> {
        if self.found.number("keepalives")? == Some(0) {
            return Ok(None);
        }
        // Zero means the system's default; our own default is used instead.
        let positive =
            |name| Ok::<_, Error>(self.found.number(name)?.and_then(|it| u32::try_from(it).ok()).filter(|it| *it > 0));
        let seconds = |name| Ok::<_, Error>(positive(name)?.map(|it| Duration::from_secs(u64::from(it))));
        Ok(Some(Keepalives {
            idle: seconds("keepalives_idle")?.unwrap_or(PROBES.idle),
            interval: seconds("keepalives_interval")?.unwrap_or(PROBES.interval),
            count: positive("keepalives_count")?.or(PROBES.count),
        }))
    }
}

impl Host {
    /// Returns the names under which a password file may list the host.
    fn names(&self) -> Vec<&str> {
        match self {
            Host::Socket(directory) => vec![directory.to_str().unwrap_or("localhost"), "localhost"],
            Host::Name(name) | Host::Address(_, name) => vec![name],
        }
    }
}
