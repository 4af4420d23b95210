//! Where to connect, and how: everything that was left open filled in.

use super::files::{self, Login};
use super::parameters::{Origin, Parameters, variables};
use super::surroundings::{Surroundings, System};
use super::{conninfo, tls::Tls};
use crate::{ConnectOptions, Error, application_name};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most places in one connection string.
const MOST_PLACES: usize = 100;
const DEFAULT_PORT: u16 = 5432;
/// Where servers keep their sockets, by who built them; the first that has one counts.
const SOCKET_DIRECTORIES: [&str; 3] = ["/var/run/postgresql", "/run/postgresql", "/tmp"];
/// An idle connection whose server is gone without a word is given up after about a minute.
const PROBES: Keepalives =
    Keepalives { idle: Duration::from_secs(30), interval: Duration::from_secs(10), count: Some(3) };

/// Where to connect, and how.
#[derive(Debug, Clone)]
pub struct Target {
    /// The places to try, in the order of the connection string; at least one.
    pub places: Vec<Place>,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// Settings that the session starts with, as `-c name=value`.
    pub options: Option<String>,
    /// The name the server shows.
    pub application_name: String,
    /// How long one address may take until the session is ready; `None` for ever.
    pub connect_timeout: Option<Duration>,
    /// Which servers will do.
    pub session: SessionAttrs,
    /// Whether places and addresses are tried in random order.
    pub balances: bool,
    /// Whether and how connections are encrypted.
    pub tls: Tls,
    /// When an idle TCP connection is probed; `None` never.
    pub keepalives: Option<Keepalives>,
    /// How long sent bytes may stay unconfirmed; `None` as long as the system says.
    pub tcp_user_timeout: Option<Duration>,
    /// What was passed over, for people: a password file that others can read.
    pub warnings: Vec<String>,
}

/// One place where the server may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The host.
    pub host: Host,
    /// The TCP port, or the number in the socket's name.
    pub port: u16,
    /// The password for it, if there is one.
    pub password: Option<Password>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// The directory of a Unix socket.
    Socket(PathBuf),
    /// A name, which may stand for several addresses.
    Name(String),
    /// An address, and the name that the server's certificate has to bear.
    Address(IpAddr, String),
}

/// A password, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Returns the password: for logging in.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Which servers will do: `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionAttrs {
    /// Not said: the first of several that takes writes, or else the first that answers.
    Unsaid,
    /// The first that answers.
    Any,
    /// One that takes writes.
    ReadWrite,
    /// One that takes none.
    ReadOnly,
    /// One that is no standby.
    Primary,
    /// A standby.
    Standby,
    /// A standby, or else the first that answers.
    PreferStandby,
}

/// When an idle TCP connection is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalives {
    /// After how long an idle connection is probed.
    pub idle: Duration,
    /// The pause before another probe.
    pub interval: Duration,
    /// After how many unanswered probes it is given up; `None` as the system says.
    pub count: Option<u32>,
}

impl Target {
    /// Reads a connection string in the surroundings of this process.
    ///
    /// # Errors
    ///
    /// As [`Target::resolve`].
    pub fn read(text: &str, options: &ConnectOptions) -> Result<Target, Error> {
        Target::resolve(text, options, &System)
    }

    /// Reads a connection string, a URL or `key=value` pairs, and fills in what it leaves open: from the service it
    /// names, then the variables, then the options, then libpq's defaults; a password at last from the password file.
    ///
    /// # Errors
    ///
    /// `Invalid` with the parameter that is wrong, and where it was given. No password is in the message.
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
            balances: reader.one_of("load_balance_hosts", &[("disable", false), ("random", true)], false)?,
            tls: Tls::read(&found, surroundings)?,
            keepalives: reader.keepalives()?,
            tcp_user_timeout: match reader.number("tcp_user_timeout")? {
                None => Some(options.statement_timeout),
                Some(ms) => u64::try_from(ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis),
            },
            places,
            user,
            database,
            warnings,
        })
    }

    /// Refuses what is no connection string, without a look at the surroundings.
    ///
    /// # Errors
    ///
    /// `Invalid`. No value is in the message: it could be a part of a password.
    pub fn check(text: &str) -> Result<(), Error> {
        conninfo::parse(text).map(drop)
    }

    /// Returns whether anything names a database, or a server, in the surroundings alone.
    pub fn is_named_by(surroundings: &dyn Surroundings) -> bool {
        const NAMING: [&str; 6] = ["PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"];
        NAMING.iter().any(|variable| files::set(surroundings, variable).is_some())
    }
}

/// Reads single parameters.
pub(super) struct Reader<'a> {
    pub(super) found: &'a Parameters,
    pub(super) surroundings: &'a dyn Surroundings,
}

impl Reader<'_> {
    fn user(&self) -> Result<String, Error> {
        let user = self.found.filled("user").map(str::to_owned).or_else(|| self.surroundings.user());
        user.ok_or_else(|| Error::invalid("no user is named, and the operating system names none: add one to the URL"))
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
            return Err(Error::invalid(format!("{hosts} hosts and {addresses} addresses (hostaddr): name as many")));
        }
        let count = if has_addresses { addresses.len() } else { hosts.len() };
        if count > MOST_PLACES {
            return Err(Error::invalid(format!("{count} hosts are named, at most {MOST_PLACES} may be")));
        }
        if ports.len() != 1 && ports.len() != count {
            return Err(Error::invalid(format!("{} ports for {count} hosts: name one, or one for each", ports.len())));
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
            let wrong = || Error::invalid(format!("{} is no IP address", self.found.described("hostaddr")));
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
            return Err(Error::invalid("abstract sockets are not supported: name the socket's directory"));
        }
        Ok(name.parse().map_or_else(|_| Host::Name(name.to_owned()), |address| Host::Address(address, name.to_owned())))
    }

    fn port(&self, text: &str) -> Result<u16, Error> {
        if text.is_empty() {
            return Ok(DEFAULT_PORT);
        }
        let port = text.parse().ok().filter(|port| *port > 0);
        port.ok_or_else(|| Error::invalid(format!("{} is no port: 1 to 65535", self.found.described("port"))))
    }

    /// Returns the text of the password file, unless the password is known or other users can read the file.
    fn passfile(&self, warnings: &mut Vec<String>) -> Option<String> {
        if self.found.filled("password").is_some() {
            return None;
        }
        let named = self.found.filled("passfile").map(PathBuf::from);
        let path = named.or_else(|| Some(self.surroundings.home()?.join(".pgpass")))?;
        // As libpq: a file that is not there, or no file, is passed over.
        let text = self.surroundings.read(&path).ok()?;
        if self.surroundings.is_private(&path) {
            return Some(text);
        }
        let path = path.display();
        warnings
            .push(format!("the password file {path} was ignored, because other users can read it: chmod 600 {path}"));
        None
    }

    /// Returns the connection string's name, or that of the options when the program chose one, or the variable's.
    fn application_name(&self, options: &ConnectOptions) -> Result<String, Error> {
        let given = self.found.filled("application_name");
        let chosen = options.application_name != ConnectOptions::default().application_name;
        let given = given.filter(|_| !(chosen && self.is_variable("application_name")));
        application_name(given.or_else(|| self.found.filled("fallback_application_name").filter(|_| !chosen)), options)
    }

    fn connect_timeout(&self, options: &ConnectOptions) -> Result<Option<Duration>, Error> {
        let chosen = options.connect_timeout != ConnectOptions::default().connect_timeout;
        match self.number("connect_timeout")? {
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
        self.one_of("target_session_attrs", &choices, Unsaid)
    }

    fn keepalives(&self) -> Result<Option<Keepalives>, Error> {
        if self.number("keepalives")? == Some(0) {
            return Ok(None);
        }
        // Zero is the system's own value, which nothing needs here.
        let positive =
            |name| Ok::<_, Error>(self.number(name)?.and_then(|it| u32::try_from(it).ok()).filter(|it| *it > 0));
        let seconds = |name| Ok::<_, Error>(positive(name)?.map(|it| Duration::from_secs(u64::from(it))));
        Ok(Some(Keepalives {
            idle: seconds("keepalives_idle")?.unwrap_or(PROBES.idle),
            interval: seconds("keepalives_interval")?.unwrap_or(PROBES.interval),
            count: positive("keepalives_count")?.or(PROBES.count),
        }))
    }

    fn number(&self, name: &str) -> Result<Option<i32>, Error> {
        let Some(text) = self.found.filled(name) else { return Ok(None) };
        let wrong = || Error::invalid(format!("{} is no whole number", self.found.described(name)));
        text.trim().parse().map(Some).map_err(|_| wrong())
    }

    pub(super) fn one_of<T: Copy>(&self, name: &str, choices: &[(&str, T)], default: T) -> Result<T, Error> {
        let Some(text) = self.found.filled(name) else { return Ok(default) };
        let chosen = choices.iter().find(|(choice, _)| *choice == text).map(|(_, value)| *value);
        chosen.ok_or_else(|| {
            let all: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
            Error::invalid(format!("{} is none of {}", self.found.described(name), all.join(", ")))
        })
    }
}

impl Host {
    /// Returns the names under which the host may stand in a password file.
    fn names(&self) -> Vec<&str> {
        match self {
            Host::Socket(directory) => vec![directory.to_str().unwrap_or("localhost"), "localhost"],
            Host::Name(name) | Host::Address(_, name) => vec![name],
        }
    }
}
