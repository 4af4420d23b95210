use std::env;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::address::Address;
use crate::wire::{Connection, quoted};
use crate::{Error, Rows, Server, ServerOptions};

/// The environment variable with the URL of the server that test processes share.
pub const TEST_SERVER_VARIABLE: &str = "PM_TEST_SERVER";

/// A database for one test. It is dropped from the server when this value is dropped.
///
/// It is on the server given by `PM_TEST_SERVER`. Without that variable it is on a server that
/// this process starts for all its test databases, and that ends with the process.
#[derive(Debug)]
pub struct TestDatabase {
    address: Address,
    name: String,
}

impl TestDatabase {
    /// Creates an empty database with a unique name.
    ///
    /// # Errors
    ///
    /// [`Error::ServerUrl`] if `PM_TEST_SERVER` is not a URL that `pm-sandbox` printed; otherwise
    /// as [`Server::start`] and [`Server::create_database`].
    pub fn create() -> Result<Self, Error> {
        Self::create_from("template1")
    }

    /// Creates a copy of another database of the same server, to which no session may be
    /// connected.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_from(template: &str) -> Result<Self, Error> {
        Self::create_as(&format!("TEMPLATE {}", quoted(template)))
    }

    /// Creates an empty database with an encoding other than UTF-8: `LATIN1`, `SQL_ASCII`,
    /// `EUC_JP`.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create); [`Error::Sql`] when the server does not know the encoding.
    pub fn create_encoded(encoding: &str) -> Result<Self, Error> {
        Self::create_as(&format!("TEMPLATE template0 LOCALE 'C' ENCODING '{encoding}'"))
    }

    fn create_as(options: &str) -> Result<Self, Error> {
        let address = match env::var(TEST_SERVER_VARIABLE) {
            Ok(url) => Address::parse(&url)?,
            Err(env::VarError::NotUnicode(url)) => return Err(Error::ServerUrl(url.to_string_lossy().into_owned())),
            Err(env::VarError::NotPresent) => own_server()?,
        };
        let name = unique_name();
        let sql = format!("CREATE DATABASE {} {options}", quoted(&name));
        Connection::open(&address.socket(), "postgres")?.query(&sql)?;
        Ok(Self { address, name })
    }

    /// Returns the database's URL, through a Unix socket. Its user is a superuser.
    pub fn url(&self) -> String {
        self.address.url_of(&self.name)
    }

    /// Returns the database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs statements as [`Server::execute`] does.
    ///
    /// # Errors
    ///
    /// As [`Server::execute`].
    pub fn execute(&self, sql: &str) -> Result<Rows, Error> {
        Connection::open(&self.address.socket(), &self.name)?.query(sql)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&self.name));
        // If this fails, the database is removed with the server.
        Connection::open(&self.address.socket(), "postgres").and_then(|mut connection| connection.query(&sql)).ok();
    }
}

/// Returns the address of the server of this process, which the first call starts. It is never
/// dropped: its supervisor stops it when the process ends.
fn own_server() -> Result<Address, Error> {
    static OWN: Mutex<Option<Server>> = Mutex::new(None);
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = match &mut *own {
        Some(server) => server,
        none => none.insert(Server::start_with(ServerOptions::shared())?),
    };
    Address::parse(&server.url())
}

fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // A clock before 1970 does no harm: process id and count make the name unique.
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    format!("test_{}_{count}_{time:x}", std::process::id())
}
