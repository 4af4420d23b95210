use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::account::{Account, run};
use crate::address::Address;
use crate::binaries::Binaries;
use crate::supervisor::Supervisor;
use crate::template::{self, Sync};
use crate::wire::{Connection, quoted};
use crate::{Error, Rows, ServerOptions};

/// A running private server. Stopped and removed when dropped.
///
/// It is also removed when this process ends in any other way, even by SIGKILL. Only root and the
/// account that it runs as can reach its socket. Its superuser is `postgres`, without a password.
/// The locale is C, the encoding UTF-8, the time zone UTC.
#[derive(Debug)]
pub struct Server {
    supervisor: Supervisor,
    binaries: Binaries,
    address: Address,
    data_dir: PathBuf,
    tcp: bool,
}

impl Server {
    /// Starts a temporary server for tests, which syncs nothing to disk. Takes about 0.2 s, and a
    /// second more for the first one on a machine.
    ///
    /// # Errors
    ///
    /// As [`start_with`](Self::start_with).
    pub fn start() -> Result<Self, Error> {
        Self::start_with(ServerOptions::default())
    }

    /// Starts a server with these options. Returns when it answers.
    ///
    /// If the environment variable `PM_PG_BINDIR` is set, only that directory is searched for
    /// Postgres. Otherwise these are, in order: the directories of `PATH`, the output of
    /// `pg_config --bindir`, `/usr/lib/postgresql/*/bin` and `/usr/pgsql-*/bin` (highest version
    /// first), and the directories of Homebrew and Postgres.app.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] and [`Error::NotABinaryDirectory`] if there is no Postgres in these;
    /// [`Error::Program`] with the end of the log if the server does not start;
    /// [`Error::Deadline`] if it does not answer within 30 s; other errors for problems of the
    /// machine.
    pub fn start_with(options: ServerOptions) -> Result<Self, Error> {
        let binaries = Binaries::find()?;
        let account = Account::for_server()?;
        let absolute =
            |dir: &PathBuf| std::path::absolute(dir).map_err(Error::io(format!("cannot find {}", dir.display())));
        let kept = options.data_dir.as_ref().map(absolute).transpose()?;
        let postgres = binaries.bin_dir.join("postgres");
        let supervisor = Supervisor::start(account, &postgres, &options.arguments(), kept.as_deref())?;
        let data_dir = match kept {
            Some(data_dir) => {
                keep(&data_dir, &supervisor, &binaries)?;
                data_dir
            }
            None => {
                let data_dir = supervisor.dir.join("data");
                template::fill(&data_dir, &supervisor, &binaries)?;
                data_dir
            }
        };
        let address = Address { socket_dir: supervisor.dir.clone(), port: DEFAULT_PORT };
        let mut server = Self { supervisor, binaries, address, data_dir, tcp: options.tcp };
        if options.tcp {
            server.launch_on_free_port()?
        } else {
            server.launch()?
        }
        Ok(server)
    }

    /// Returns the URL of the database `postgres`, through the Unix socket.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Returns the URL of a database, which need not exist, through the Unix socket.
    ///
    /// psql, tokio-postgres and sqlx accept it.
    pub fn url_of(&self, database: &str) -> String {
        self.address.url_of(database)
    }

    /// Returns the URL of a database over TCP, or `None` without [`ServerOptions::tcp`].
    pub fn tcp_url_of(&self, database: &str) -> Option<String> {
        let database = crate::address::encode(database);
        let port = self.address.port;
        self.tcp.then(|| format!("postgres://postgres@127.0.0.1:{port}/{database}"))
    }

    /// Returns the directory that contains the Unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.address.socket_dir
    }

    /// Returns the port, which is part of the socket's name, and the TCP port if there is one.
    pub fn port(&self) -> u16 {
        self.address.port
    }

    /// Returns the process id of the postmaster, which changes with each start.
    pub fn pid(&self) -> u32 {
        self.supervisor.pid.map_or(0, |pid| pid.as_raw_nonzero().get().cast_unsigned())
    }

    /// Returns whether any process of the server is running.
    pub fn is_running(&self) -> bool {
        // If the server cannot be watched, assume that it is running.
        !self.supervisor.has_ended_by(Instant::now()).unwrap_or(false)
    }

    /// Returns the data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Returns the end of the server's log, at most 16 KiB; empty if it cannot be read.
    pub fn log(&self) -> String {
        tail(&self.supervisor.dir.join("log"))
    }

    /// Creates an empty database and returns its URL.
    ///
    /// # Errors
    ///
    /// [`Error::Sql`] if a database of this name exists.
    pub fn create_database(&self, name: &str) -> Result<String, Error> {
        self.execute("postgres", &format!("CREATE DATABASE {}", quoted(name)))?;
        Ok(self.url_of(name))
    }

    /// Creates a copy of the database `template` and returns its URL.
    ///
    /// # Errors
    ///
    /// [`Error::Sql`] if a database of this name exists, or if a session is connected to the
    /// template.
    pub fn create_database_from(&self, name: &str, template: &str) -> Result<String, Error> {
        self.execute("postgres", &format!("CREATE DATABASE {} TEMPLATE {}", quoted(name), quoted(template)))?;
        Ok(self.url_of(name))
    }

    /// Runs statements on a new connection and returns the rows of all of them.
    ///
    /// For tests: each call opens a connection, values are text, and COPY is not supported.
    ///
    /// # Errors
    ///
    /// [`Error::Sql`] if the server reports an error; [`Error::Io`] if it cannot be reached, or
    /// does not answer for 60 s.
    pub fn execute(&self, database: &str, sql: &str) -> Result<Rows, Error> {
        Connection::open(&self.address.socket(), database)?.query(sql)
    }

    /// Copies this running server into a new directory, for a streaming standby.
    ///
    /// Start the standby with [`ServerOptions::data_dir`]. It follows this server until it is
    /// promoted, by `pg_promote()` for example. The caller removes the directory.
    ///
    /// # Errors
    ///
    /// [`Error::Program`] if there is no `pg_basebackup` beside `postgres`, or if it fails; other
    /// errors for problems of the machine.
    pub fn copy_as_standby(&self, data_dir: &Path) -> Result<(), Error> {
        let failed = || Error::io(format!("cannot create {}", data_dir.display()));
        DirBuilder::new().mode(0o700).create(data_dir).map_err(failed())?;
        let account = &self.supervisor.account;
        if account.is_other {
            chown(data_dir, Some(account.uid), Some(account.gid)).map_err(failed())?;
        }
        let mut command = account.command(&self.binaries.tool("pg_basebackup"));
        command.args(["--write-recovery-conf", "--checkpoint=fast", "--username=postgres", "--pgdata"]).arg(data_dir);
        command.arg("--host").arg(self.socket_dir()).arg(format!("--port={}", self.port()));
        run(&mut command, "pg_basebackup", BACKUP_SECONDS).map(drop)
    }

    /// Kills the postmaster with SIGKILL, to simulate a crash. Does nothing if it is not running.
    ///
    /// Returns when its backends have ended too, but after 10 s at most.
    /// [`restart`](Self::restart) recovers the server. Data only survive with
    /// [`ServerOptions::durable`].
    pub fn kill(&mut self) {
        // Neither can fail for our own child; if one does, `restart` reports it.
        self.supervisor.signal(Signal::KILL).ok();
        self.supervisor.has_ended_by(Instant::now() + STOP).ok();
    }

    /// Starts the server again, with the same data and port. Stops it first if it is running.
    ///
    /// # Errors
    ///
    /// As [`start_with`](Self::start_with).
    pub fn restart(&mut self) -> Result<(), Error> {
        for signal in [Signal::INT, Signal::QUIT, Signal::KILL] {
            self.supervisor.signal(signal)?;
            if self.supervisor.has_ended_by(Instant::now() + STOP)? {
                return self.launch();
            }
        }
        Err(self.deadline("stopping", STOP * 3))
    }

    /// Stops the server and removes its directory. Dropping it does the same, but ignores errors.
    ///
    /// # Errors
    ///
    /// [`Error::Deadline`] if that takes longer than 30 s; the server is then killed.
    pub fn stop(mut self) -> Result<(), Error> {
        self.supervisor.finish()
    }

    fn launch(&mut self) -> Result<(), Error> {
        self.supervisor.launch(self.address.port)?;
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if Connection::open(&self.address.socket(), "postgres").is_ok() {
                return Ok(());
            }
            if self.supervisor.has_ended_by(Instant::now() + READY_INTERVAL)? {
                return Err(Error::Program { name: "postgres".into(), output: self.log() });
            }
        }
        Err(self.deadline("starting", START))
    }

    /// Starts the server on a free port. If another process takes the port first, tries another
    /// one.
    fn launch_on_free_port(&mut self) -> Result<(), Error> {
        let mut attempts = 1;
        loop {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            self.address.port = free.map_err(Error::io("no TCP port is available"))?.port();
            match self.launch() {
                Err(Error::Program { output, .. })
                    if attempts < PORT_ATTEMPTS && output.contains("any TCP/IP sockets") =>
                {
                    attempts += 1;
                }
                launched => return launched,
            }
        }
    }

    fn deadline(&self, waiting_for: &'static str, bound: Duration) -> Error {
        Error::Deadline { waiting_for, seconds: bound.as_secs(), output: self.log() }
    }
}

const DEFAULT_PORT: u16 = 5432;
const PORT_ATTEMPTS: u32 = 10;
const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(10);
const READY_INTERVAL: Duration = Duration::from_millis(5);
const UNFINISHED_NAMES: u32 = 1_000;
const LOG_TAIL: u64 = 16 << 10;
const BACKUP_SECONDS: u64 = 60;

/// Creates a data directory that is kept, unless it exists. It gets its name when it is complete.
fn keep(data_dir: &Path, supervisor: &Supervisor, binaries: &Binaries) -> Result<(), Error> {
    if data_dir.join("PG_VERSION").exists() {
        return Ok(());
    }
    let failed = || Error::io(format!("cannot create {}", data_dir.display()));
    if let Some(parent) = data_dir.parent() {
        fs::create_dir_all(parent).map_err(failed())?;
    }
    let unfinished = create_beside(data_dir).map_err(failed())?;
    let made = fill(&unfinished, supervisor, binaries);
    let made = made.and_then(|()| fs::rename(&unfinished, data_dir).map_err(failed()));
    if made.is_err() {
        // The first error matters; the directory contains only our own files.
        fs::remove_dir_all(&unfinished).ok();
    }
    made
}

/// Creates a directory with an unused name, so that it contains no foreign files.
fn create_beside(data_dir: &Path) -> io::Result<PathBuf> {
    let mut number = 1;
    loop {
        // Collecting the components removes a trailing slash.
        let mut unfinished = data_dir.components().collect::<PathBuf>().into_os_string();
        unfinished.push(format!(".unfinished-{number}"));
        match DirBuilder::new().mode(0o700).create(&unfinished) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < UNFINISHED_NAMES => number += 1,
            created => return created.map(|()| unfinished.into()),
        }
    }
}

fn fill(unfinished: &Path, supervisor: &Supervisor, binaries: &Binaries) -> Result<(), Error> {
    let account = &supervisor.account;
    if account.is_other {
        let failed = Error::io(format!("cannot change the owner of {}", unfinished.display()));
        chown(unfinished, Some(account.uid), Some(account.gid)).map_err(failed)?;
    }
    template::initdb(unfinished, supervisor, binaries, Sync::On)
}

fn tail(path: &Path) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}
