//! Code that the examples share: their payload, and encoded values for the `postgres` crate.

pub mod bytes;

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The payload: a mail to be sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mail {
    /// The address of the recipient.
    pub to: String,
    /// How long sending it takes, in milliseconds.
    pub takes_ms: u64,
}

impl Mail {
    /// Returns the domain of the recipient.
    ///
    /// # Panics
    ///
    /// When the address has no `@`. This stands for a bug in a handler, which a worker must survive.
    pub fn domain(&self) -> &str {
        self.to.split_once('@').expect("an address has an @").1
    }

    /// Returns how long sending it takes.
    pub fn takes(&self) -> Duration {
        Duration::from_millis(self.takes_ms)
    }
}

/// Returns the URL of the database from the environment variable `DATABASE_URL`.
///
/// # Errors
///
/// When the variable is not set.
pub fn database_url() -> Result<String, String> {
    std::env::var("DATABASE_URL").map_err(|_| "set DATABASE_URL, for example to postgres://localhost/app".to_owned())
}
