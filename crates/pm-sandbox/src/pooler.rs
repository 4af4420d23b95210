use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;
use crate::account::Account;
use crate::address::Address;
use crate::wire::Connection;

/// A private PgBouncer in transaction mode, in front of a server. Stopped and removed when
/// dropped.
///
/// It is also removed when this process ends in any other way. It has two connections to the
/// server for each database and uses them in turn, so that code which relies on a session fails.
/// Like a fresh installation, it refuses unknown start-up parameters.
#[derive(Debug)]
pub struct Pooler {
    shell: Child,
    address: Address,
}

impl Pooler {
    /// Starts a pooler in front of the server of this URL, whose database is ignored. Returns when
    /// it answers.
    ///
    /// # Errors
    ///
    /// [`Error::ServerUrl`] if the URL is not one of this crate's; [`Error::NoPooler`] if there is
    /// no PgBouncer on this machine; [`Error::Program`] with its log if it does not start.
    pub fn before(server_url: &str) -> Result<Self, Error> {
        Self::before_with(server_url, &[])
    }

    /// Does what [`before`](Self::before) does, with additional PgBouncer settings, name and
    /// value.
    ///
    /// # Errors
    ///
    /// As [`before`](Self::before).
    pub fn before_with(server_url: &str, further: &[(&str, &str)]) -> Result<Self, Error> {
        let server = Address::parse(server_url)?;
        let program = program().ok_or(Error::NoPooler)?;
        let account = Account::for_server()?;
        let further: String = further.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        let settings = SETTINGS
            .replace("{host}", &server.socket_dir.to_string_lossy())
            .replace("{port}", &server.port.to_string())
            + &further;
        let failed = || Error::io("cannot start sh");
        let mut shell = account
            .command(Path::new("sh"))
            .args(["-c", include_str!("pooler.sh"), "pm-pooler"])
            .arg(program)
            .arg(settings)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed())?;
        let mut dir = String::new();
        if let Some(output) = shell.stdout.take() {
            BufReader::new(output).read_line(&mut dir).map_err(failed())?;
        }
        let pooler = Self { shell, address: Address { socket_dir: dir.trim_end().into(), port: PORT } };
        pooler.wait_until_it_answers()?;
        Ok(pooler)
    }

    /// Returns the URL of a database through the pooler, over a Unix socket.
    pub fn url_of(&self, database: &str) -> String {
        self.address.url_of(database)
    }

    fn wait_until_it_answers(&self) -> Result<(), Error> {
        let deadline = Instant::now() + START;
        while Connection::open(&self.address.socket(), "pgbouncer").is_err() {
            if Instant::now() > deadline {
                let output = fs::read_to_string(self.address.socket_dir.join("log")).unwrap_or_default();
                return Err(Error::Program { name: "pgbouncer".into(), output });
            }
            thread::sleep(READY_INTERVAL);
        }
        Ok(())
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // `drop` cannot report an error.
        self.shell.wait().ok();
    }
}

const PORT: u16 = 6432;
const START: Duration = Duration::from_secs(10);
const READY_INTERVAL: Duration = Duration::from_millis(5);

const SETTINGS: &str = "\
[databases]
* = host={host} port={port}
[pgbouncer]
pool_mode = transaction
min_pool_size = 2
default_pool_size = 4
server_round_robin = 1
max_client_conn = 200
listen_addr =
listen_port = 6432
unix_socket_dir = {dir}
auth_type = trust
auth_file = {dir}/users
admin_users = postgres
";

fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian installs it in a directory that is only in root's PATH.
    let dirs = env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    dirs.map(|dir| dir.join("pgbouncer")).find(|program| program.is_file())
}
