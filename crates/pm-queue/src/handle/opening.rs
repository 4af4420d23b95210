//! Opening a handle, and the schema: check and migrate it.

use super::queue::{Inner, Queue};
use crate::driver::Driver;
use crate::producer::ProducerHandle;
use crate::runtime::{Randomness, Runtime, SystemRandomness};
use crate::sending::Link;
use crate::worker::{Listening, LocalWorkers};
use crate::{ConnectOptions, Error, ErrorKind};
use pm_core::doctor::{foreign_encoding, hidden_rows, other_schemas};
use pm_core::op::{Relations, SchemaFound, SchemaVersion, advance_positions_script};
use pm_core::{OTHER_TEXT_SQLSTATE, SCHEMA_VERSION, migration_script};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The shortest timeout: Postgres counts milliseconds, and zero turns a timeout off.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);
/// The longest timeout that Postgres accepts: 24 days, 20 h, 31 min, 23.647 s.
const LONGEST_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

impl Queue {
    /// Opens a handle over a driver and a runtime. For driver authors; programs call their driver's `connect`.
    ///
    /// Checks the schema's version and migrates a missing or older schema, unless the options turn that off.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the database cannot be reached; `Schema` when the schema is newer than this program, or is
    /// missing or older while [`ConnectOptions::migrate`] is off; `Invalid` for a bad schema name, or a timeout that
    /// is not between 1 ms and 24.8 days; `Forbidden` when the role lacks a privilege or row-level security hides rows
    /// from it.
    pub async fn open(
        driver: Arc<dyn Driver>,
        runtime: Arc<dyn Runtime>,
        options: &ConnectOptions,
    ) -> Result<Queue, Error> {
        Queue::open_with(driver, runtime, Arc::new(SystemRandomness), options).await
    }

    /// Does what [`Queue::open`] does, with the caller's source of randomness. For simulations.
    ///
    /// # Errors
    ///
    /// As [`Queue::open`].
    pub async fn open_with(
        driver: Arc<dyn Driver>,
        runtime: Arc<dyn Runtime>,
        randomness: Arc<dyn Randomness>,
        options: &ConnectOptions,
    ) -> Result<Queue, Error> {
        check_timeouts(options)?;
        let link = Arc::new(Link::new(driver, runtime, randomness, options)?);
        let workers = Arc::new(LocalWorkers::default());
        let producer = ProducerHandle::spawn(&link, &workers);
        let worker_name = format!("{}@{}", std::process::id(), host_name());
        let listening = Arc::new(Listening::default());
        let inner = Inner {
            link,
            producer,
            workers,
            listening,
            closed: AtomicBool::new(false),
            worker_name,
            fetching: OnceLock::new(),
        };
        let queue = Queue { inner: Arc::new(inner) };
        if options.check_schema {
            queue.check_schema(options.migrate).await?;
            if options.pooler || !queue.link().driver.opens_connections() {
                queue.advance_positions().await;
            }
        }
        Ok(queue)
    }

    /// Checks that the tables exist, at a version this program can use, and migrates them if `migrate` is set.
    pub(crate) async fn check_schema(&self, migrate: bool) -> Result<(), Error> {
        let schema = self.inner.link.catalog.schema();
        let relations = self.execute(Relations).await?;
        if let Some(message) = hidden_rows(&relations, schema) {
            return Err(Error::new(ErrorKind::Forbidden, message));
        }
        if let Some(message) = foreign_encoding(&relations) {
            return Err(Error::invalid(message));
        }
        match self.schema_version().await? {
            SCHEMA_VERSION => Ok(()),
            found if found > SCHEMA_VERSION => Err(newer_schema(schema.as_str(), found)),
            _ if migrate => self.migrate().await,
            0 => {
                let others: Vec<_> = other_schemas(&relations).iter().map(|name| format!("{name:?}")).collect();
                let missing = format!("there are no tables of pm in schema {:?}", schema.as_str());
                let which = match others.len() {
                    0 => return Err(Error::unmigrated(missing)),
                    1 => "that one",
                    _ => "one of them",
                };
                // Without the advice to migrate, which contradicts this one.
                let message = format!("{missing}, but there are in schema {}: use {which}", others.join(" and "));
                Err(Error::new(ErrorKind::Schema, message))
            }
            found => Err(Error::unmigrated(format!(
                "schema {:?} is at version {found}, this program needs {SCHEMA_VERSION}",
                schema.as_str()
            ))),
        }
    }

    /// Advances the sequence of positions when it is behind the positions that jobs already have. That happens after a
    /// failover to a logical replica, and would put new jobs ahead of older ones.
    ///
    /// For connections on which the driver does not send the opening script, which does the same. One attempt; does
    /// nothing when the sequence is not behind.
    async fn advance_positions(&self) {
        let script = advance_positions_script(self.inner.link.catalog.schema());
        let driver = self.inner.link.driver.clone();
        // After a failure, `doctor` reports the sequence.
        drop(self.spawned(async move { Ok(driver.run_script(&script).await?) }).await);
    }

    /// Migrates the schema to the version this program works with, creating it if it does not exist.
    ///
    /// Runs in one transaction and waits at most 10 s for a lock. Several processes may call it at the same time.
    ///
    /// # Errors
    ///
    /// `Schema` when the schema is newer than this program or was made by another development version of it;
    /// `Forbidden` when the role may not create tables, or may not create the schema if it does not exist.
    pub async fn migrate(&self) -> Result<(), Error> {
        self.check_open()?;
        let found = self.schema_version().await?;
        let schema = self.inner.link.catalog.schema().clone();
        if found > SCHEMA_VERSION {
            return Err(newer_schema(schema.as_str(), found));
        }
        if found == SCHEMA_VERSION {
            return Ok(());
        }
        let driver = self.inner.link.driver.clone();
        self.spawned(async move {
            driver.run_script(&migration_script(&schema)).await.map_err(|failure| match failure.sqlstate() {
                Some(OTHER_TEXT_SQLSTATE) => other_text(schema.as_str()).with_source(failure),
                _ => failure.into(),
            })
        })
        .await
    }

    /// Returns the version of the schema, or 0 if it does not exist.
    ///
    /// # Errors
    ///
    /// `Schema` when the schema was made by another development version of pm; `Unavailable` when the database cannot
    /// be reached.
    pub async fn schema_version(&self) -> Result<u32, Error> {
        match self.execute(SchemaVersion).await {
            Ok(SchemaFound { version, is_same_text }) if is_same_text || version > SCHEMA_VERSION => Ok(version),
            Ok(_) => Err(other_text(self.inner.link.catalog.schema().as_str())),
            Err(error) if error.kind() == ErrorKind::Schema => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// Refuses a timeout that the server would reject, or would treat as no timeout.
fn check_timeouts(options: &ConnectOptions) -> Result<(), Error> {
    let timeouts = [
        ("connect_timeout", options.connect_timeout),
        ("statement_timeout", options.statement_timeout),
        ("lock_timeout", options.lock_timeout),
    ];
    match timeouts.into_iter().find(|(_, timeout)| !(SHORTEST_TIMEOUT..=LONGEST_TIMEOUT).contains(timeout)) {
        Some((name, timeout)) => {
            Err(Error::invalid(format!("a {name} of {timeout:?} is not between 1 ms and 2147483647 ms (24.8 days)")))
        }
        None => Ok(()),
    }
}

fn newer_schema(schema: &str, found: u32) -> Error {
    let message = format!(
        "schema {schema:?} is at version {found}, newer than the {SCHEMA_VERSION} of this program: upgrade the program"
    );
    Error::new(ErrorKind::Schema, message)
}

fn other_text(schema: &str) -> Error {
    Error::unmigrated(format!(
        "schema {schema:?} was made by another development version of pm, and there is no migration from it: rename it \
         (alter schema \"{schema}\" rename to \"{schema} old\") or drop it, and migrate again"
    ))
}

fn host_name() -> String {
    let name = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}
