use std::path::PathBuf;

/// How a [`Server`](crate::Server) is to run.
///
/// The default is a throwaway server: nothing is synced to disk, only a Unix socket listens.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Whether fsync, synchronous_commit and full_page_writes are on, as in production.
    ///
    /// Off by default. Benches and tests of faults need it; `data_dir` implies it.
    pub durable: bool,
    /// Whether the server also listens on a free TCP port of 127.0.0.1. Off by default.
    ///
    /// Anyone on this machine may then connect as superuser: there is no password.
    pub tcp: bool,
    /// Postgres settings, name and value; a later one wins over an earlier one and over ours.
    pub settings: Vec<(String, String)>,
    /// Where to keep the data after the server stops; a temporary directory if `None`.
    ///
    /// Made on first use, found again on the next.
    pub data_dir: Option<PathBuf>,
    /// The directory of `initdb` and `postgres`; searched for if `None`.
    pub bin_dir: Option<PathBuf>,
}

impl ServerOptions {
    /// Returns the options of a throwaway server that many tests share: 200 connections.
    pub fn shared() -> Self {
        Self::default().setting("max_connections", "200")
    }

    /// Turns fsync, synchronous_commit and full_page_writes on or off.
    #[must_use]
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Makes the server listen on a free TCP port of 127.0.0.1 too, or not.
    #[must_use]
    pub fn tcp(mut self, tcp: bool) -> Self {
        self.tcp = tcp;
        self
    }

    /// Adds a Postgres setting, for example `("shared_preload_libraries", "pg_stat_statements")`.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Keeps the data in this directory, durably.
    #[must_use]
    pub fn data_dir(mut self, data_dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(data_dir.into());
        self
    }

    /// Runs the binaries of this directory instead of searching for some.
    #[must_use]
    pub fn bin_dir(mut self, bin_dir: impl Into<PathBuf>) -> Self {
        self.bin_dir = Some(bin_dir.into());
        self
    }

    pub(crate) fn arguments(&self) -> Vec<String> {
        let durable = if self.durable || self.data_dir.is_some() { "on" } else { "off" };
        let ours = [
            ("fsync", durable),
            ("synchronous_commit", durable),
            ("full_page_writes", durable),
            ("listen_addresses", if self.tcp { "127.0.0.1" } else { "" }),
            ("unix_socket_permissions", "0700"),
            ("logging_collector", "off"),
            // Files in the data directory, which do not outlive a killed server.
            ("dynamic_shared_memory_type", "mmap"),
        ];
        let theirs = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        ours.into_iter().chain(theirs).flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]).collect()
    }
}
