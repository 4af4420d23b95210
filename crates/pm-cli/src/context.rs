//! What every command uses: settings, connection, output.

use crate::config::Settings;
use crate::error::CommandError;
use crate::global::GlobalArgs;
use crate::redact::Secrets;
use crate::render::Output;
use crate::text::shell_option;
use pm_core::SchemaName;
use pm_driver_tokio_postgres::connecting::Target;
use pm_driver_tokio_postgres::{Advice, ConnectOptions, Queue, connect_with};
use std::time::Duration;

/// How long closing the connection may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The context of one run of a command.
pub(crate) struct Context {
    /// The global options.
    pub(crate) args: GlobalArgs,
    /// Where results and messages go.
    pub(crate) output: Output,
    secrets: Secrets,
    connected: Option<Queue>,
}

impl Context {
    /// Returns a context for these options; nothing is read or connected yet.
    pub(crate) fn new(args: GlobalArgs) -> Self {
        let output = Output::new(args.format());
        Context { args, output, secrets: Secrets::default(), connected: None }
    }

    /// Reads the settings. Errors: as [`Settings::read`].
    pub(crate) fn settings(&mut self) -> Result<Settings, CommandError> {
        let settings = Settings::read(&self.args)?;
        self.secrets = settings.secrets();
        Ok(settings)
    }

    /// Returns how to run pm on the same schema from a shell with the same environment and configuration. Errors: as
    /// [`Settings::read`].
    pub(crate) fn pm_on_schema(&mut self) -> Result<String, CommandError> {
        let schema = self.settings()?.schema;
        Ok(match self.args.schema.is_none() && schema == SchemaName::default() {
            true => "pm".to_owned(),
            false => format!("pm {}", shell_option("--schema", schema.as_str())),
        })
    }

    /// Returns the text of an error for stderr.
    pub(crate) fn report(&self, error: &CommandError) -> String {
        error.report(&self.secrets)
    }

    /// Connects to a database that has pm's tables; writes nothing. Errors: exit code 2 when no database is set, 3 when
    /// it cannot be used.
    pub(crate) async fn connect(&mut self) -> Result<Queue, CommandError> {
        let settings = self.settings()?;
        self.connect_with(options(&settings)).await
    }

    /// Connects without checking for pm's tables: for `db migrate` and `db doctor`. Errors: as [`Context::connect`].
    pub(crate) async fn connect_unchecked(&mut self) -> Result<Queue, CommandError> {
        let settings = self.settings()?;
        self.connect_with(options(&settings).check_schema(false)).await
    }

    /// Connects with these options; reconnects in pooler mode when a transaction pooler is detected. Errors: as
    /// [`Context::connect`].
    pub(crate) async fn connect_with(&mut self, options: ConnectOptions) -> Result<Queue, CommandError> {
        let settings = self.settings()?;
        for warning in Target::read(settings.url()?, &options)?.warnings {
            self.output.message(&format!("Warning: {warning}"));
        }
        let mut connected = connect_with(settings.url()?, options.clone()).await;
        if !options.check_schema
            && let Ok(queue) = &connected
        {
            // No statement has run yet, so a pooler has not been detected. Other errors surface in the command itself.
            connected = match queue.schema_version().await {
                Err(error) if error.advice() == Some(&Advice::Pooler) => Err(error),
                _ => connected,
            };
        }
        let queue = match connected {
            Err(error) if error.advice() == Some(&Advice::Pooler) => {
                connect_with(settings.url()?, options.pooler(true)).await?
            }
            connected => connected?,
        };
        self.connected = Some(queue.clone());
        Ok(queue)
    }

    /// Closes the connection and flushes the output; returns the passwords to hide in messages.
    pub(crate) async fn finish(mut self) -> (Result<(), CommandError>, Secrets) {
        if let Some(queue) = self.connected.take() {
            // The server copes with a client that disconnects without closing.
            drop(tokio::time::timeout(CLOSE_TIMEOUT, queue.close()).await);
        }
        (self.output.flush(), self.secrets)
    }
}

/// Returns the options for one command: one connection, no migration.
pub(crate) fn options(settings: &Settings) -> ConnectOptions {
    ConnectOptions::default()
        .schema(settings.schema.as_str())
        .migrate(false)
        .connections(1)
        .waiting_connections(0)
        .connect_timeout(settings.connect_timeout)
        .application_name("pm")
}
