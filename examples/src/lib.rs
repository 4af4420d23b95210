//! What the examples share: the job they work on, and bytes in and out of the `postgres` crate.

pub mod bytes;

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A mail to be sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mail {
    /// Who gets it.
    pub to: String,
    /// How long it takes, in milliseconds.
    pub takes_ms: u64,
}

impl Mail {
    /// Returns whose server gets it.
    ///
    /// # Panics
    ///
    /// When it is addressed to no one: a handler's bug, for which a worker must be prepared.
    pub fn domain(&self) -> &str {
        self.to.split_once('@').expect("an address has an @").1
    }

    /// Returns how long it takes.
    pub fn takes(&self) -> Duration {
        Duration::from_millis(self.takes_ms)
    }
}

/// Returns where the database is: what `DATABASE_URL` says.
///
/// # Errors
///
/// When it says nothing.
pub fn database_url() -> Result<String, String> {
    std::env::var("DATABASE_URL").map_err(|_| "set DATABASE_URL, to postgres://localhost/app for example".to_owned())
}
