//! The database of the demo: a private server, or a separate schema of an existing database.

use crate::config::{COMMON_URL_VARIABLE, SCHEMA_VARIABLE, URL_VARIABLE};
use crate::context::Context;
use crate::error::CommandError;
use crate::sandbox::blocking;
use pm_driver_tokio_postgres::driver::Driver;
use pm_driver_tokio_postgres::{ConnectOptions, Queue, TokioPostgres, connect_with};
use pm_sandbox::Server;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::process::Command;

/// A database, and a schema in it that only the demo uses.
pub(super) struct Target {
    url: String,
    schema: String,
    /// The server, if it is private.
    server: Option<Server>,
    connect_timeout: Duration,
}

impl Target {
    /// Starts a server, or uses the database of `--db`, in which nothing is created yet. Errors: exit code 3 with
    /// pm-sandbox's message when Postgres is not installed.
    pub(super) async fn prepare(context: &mut Context) -> Result<Self, CommandError> {
        let connect_timeout = context.args.connect_timeout;
        if context.args.schema.is_some() {
            return Err(CommandError::usage("the demo creates its own schema; leave out --schema"));
        }
        if context.args.db.is_some() {
            let url = context.settings()?.url()?.to_owned();
            return Ok(Target { url, schema: new_schema(), server: None, connect_timeout });
        }
        let start = || {
            let server = Server::start()?;
            let url = server.create_database("demo")?;
            Ok((server, url))
        };
        let (server, url) = blocking("start", start).await?;
        Ok(Target { url, schema: "pm".to_owned(), server: Some(server), connect_timeout })
    }

    /// Returns a sentence that describes the database.
    pub(super) fn description(&self) -> String {
        match &self.server {
            Some(server) => {
                format!("A private Postgres is running as process {}; it is stopped at the end.", server.pid())
            }
            None => format!("The demo uses schema \"{}\" of your database; it is dropped at the end.", self.schema),
        }
    }

    /// Connects and creates pm's tables. Errors: as `connect_with`.
    pub(super) async fn connect(&self) -> Result<Queue, CommandError> {
        Ok(connect_with(&self.url, self.options().migrate(true)).await?)
    }

    /// Returns a command that runs this program on the database. The URL is passed in the environment, where other
    /// users cannot read it. Errors: exit code 3 when the path of this program is unknown.
    pub(super) fn command(&self) -> Result<Command, CommandError> {
        let program = std::env::current_exe();
        let program = program.map_err(|error| CommandError::trouble(format!("cannot find this program: {error}")))?;
        let mut command = Command::new(program);
        command.env(URL_VARIABLE, &self.url).env(SCHEMA_VARIABLE, &self.schema).env_remove(COMMON_URL_VARIABLE);
        command.kill_on_drop(true);
        Ok(command)
    }

    /// Drops the schema or stops the server. Errors: exit code 3; the hint says how to drop the schema.
    pub(super) async fn clean_up(self) -> Result<(), CommandError> {
        let Some(server) = self.server else {
            let driver = TokioPostgres::new(&self.url, &self.options())?;
            let script = format!("drop schema if exists \"{}\" cascade", self.schema);
            let failed = |error: pm_driver_tokio_postgres::Failure| {
                CommandError::trouble(format!("schema \"{}\" could not be dropped: {error}", self.schema))
                    .hint(format!("drop it yourself: {script}"))
            };
            return driver.run_script(&script).await.map_err(failed);
        };
        blocking("stop", move || server.stop()).await
    }

    fn options(&self) -> ConnectOptions {
        ConnectOptions::default()
            .schema(&self.schema)
            .connections(1)
            .connect_timeout(self.connect_timeout)
            .application_name("pm demo")
    }
}

/// Returns a unique name: no two processes have the same id at the same time.
fn new_schema() -> String {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    format!("pm_demo_{}_{time:x}", std::process::id())
}
