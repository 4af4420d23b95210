//! Where the demo takes place: a server of its own, or a schema of its own.

use crate::config::{COMMON_URL_VARIABLE, SCHEMA_VARIABLE, URL_VARIABLE};
use crate::context::Context;
use crate::error::CommandError;
use pm_driver_tokio_postgres::{ConnectOptions, Driver, Queue, TokioPostgres, connect_with};
use pm_sandbox::Server;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::process::Command;

/// A database, and a schema in it that nobody else uses.
pub(super) struct Place {
    url: String,
    schema: String,
    /// The server, when it is ours.
    server: Option<Server>,
    connect_timeout: Duration,
}

impl Place {
    /// Starts a server, or takes the one that `--db` names. In the latter nothing is made yet.
    ///
    /// # Errors
    ///
    /// Exit code 3 with pm-sandbox's advice when this machine has no Postgres.
    pub(super) async fn prepare(context: &mut Context) -> Result<Self, CommandError> {
        let connect_timeout = context.args.connect_timeout;
        if context.args.schema.is_some() {
            return Err(CommandError::usage("the demo makes a schema of its own; leave out --schema"));
        }
        if context.args.db.is_some() {
            let url = context.settings()?.url()?.to_owned();
            return Ok(Place { url, schema: new_schema(), server: None, connect_timeout });
        }
        let started = tokio::task::spawn_blocking(|| {
            let server = Server::start()?;
            let url = server.create_database("demo")?;
            Ok::<_, pm_sandbox::Error>((server, url))
        });
        let started =
            started.await.map_err(|error| CommandError::trouble(format!("cannot start Postgres: {error}")))?;
        let (server, url) = started?;
        Ok(Place { url, schema: "pm".to_owned(), server: Some(server), connect_timeout })
    }

    /// Returns a sentence about the place.
    pub(super) fn sentence(&self) -> String {
        match &self.server {
            Some(server) => format!("A private Postgres runs as process {}; it goes at the end.", server.pid()),
            None => format!("In your database, schema \"{}\" is ours; it goes at the end.", self.schema),
        }
    }

    /// Connects, and makes pm's tables.
    ///
    /// # Errors
    ///
    /// As `connect_with`.
    pub(super) async fn connect(&self) -> Result<Queue, CommandError> {
        Ok(connect_with(&self.url, self.options().migrate(true)).await?)
    }

    /// Returns this very program with the place in its environment, where no other process reads it.
    ///
    /// # Errors
    ///
    /// Exit code 3 when the system cannot say which program this is.
    pub(super) fn command(&self) -> Result<Command, CommandError> {
        let program = std::env::current_exe();
        let program = program.map_err(|error| CommandError::trouble(format!("cannot find this program: {error}")))?;
        let mut command = Command::new(program);
        command.env(URL_VARIABLE, &self.url).env(SCHEMA_VARIABLE, &self.schema).env_remove(COMMON_URL_VARIABLE);
        command.kill_on_drop(true);
        Ok(command)
    }

    /// Removes what the demo made.
    ///
    /// # Errors
    ///
    /// Exit code 3 names what is left.
    pub(super) async fn clean_up(self) -> Result<(), CommandError> {
        let Some(server) = self.server else {
            let driver = TokioPostgres::new(&self.url, &self.options())?;
            let script = format!("drop schema if exists \"{}\" cascade", self.schema);
            let left = |error: pm_driver_tokio_postgres::Failure| {
                CommandError::trouble(format!("schema \"{}\" could not be dropped: {error}", self.schema))
                    .hint(format!("drop it yourself: {script}"))
            };
            return driver.run_script(&script).await.map_err(left);
        };
        let stopped = tokio::task::spawn_blocking(move || server.stop()).await;
        Ok(stopped.map_err(|error| CommandError::trouble(format!("cannot stop Postgres: {error}")))??)
    }

    fn options(&self) -> ConnectOptions {
        ConnectOptions::default()
            .schema(&self.schema)
            .connections(1)
            .connect_timeout(self.connect_timeout)
            .application_name("pm demo")
    }
}

/// Returns a name that no other demo has: two cannot have one process id at one time.
fn new_schema() -> String {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    format!("pm_demo_{}_{time:x}", std::process::id())
}
