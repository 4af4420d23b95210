use std::path::PathBuf;

/// The options of a [`Server`](crate::Server).
///
/// The default is a temporary server that syncs nothing to disk and listens on a Unix socket only.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    durable: bool,
    pub(crate) tcp: bool,
    settings: Vec<(String, String)>,
    pub(crate) data_dir: Option<PathBuf>,
}

impl ServerOptions {
    /// Returns the options of a temporary server that many tests share, with 200 connections.
    pub fn shared() -> Self {
        Self::default().setting("max_connections", "200")
    }

    /// Sets whether fsync, synchronous_commit and full_page_writes are on, as in production (default
    /// false).
    ///
    /// Benchmarks and tests of faults need it. `data_dir` implies it.
    #[must_use]
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Sets whether the server also listens on a free TCP port of 127.0.0.1 (default false).
    ///
    /// Any user of this machine can then connect as superuser, because there is no password.
    #[must_use]
    pub fn tcp(mut self, tcp: bool) -> Self {
        self.tcp = tcp;
        self
    }

    /// Adds a Postgres setting, for example `("shared_preload_libraries", "pg_stat_statements")`. A
    /// later one overrides an earlier one, and those of this crate.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Sets the directory of the data, which is kept after the server stops (default: a temporary
    /// directory, which is removed). It is created on first use.
    #[must_use]
    pub fn data_dir(mut self, data_dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(data_dir.into());
        self
    }

    pub(crate) fn arguments(&self) -> Vec<String> {
        let durable = if self.durable || self.data_dir.is_some() { "on" } else { "off" };
        let defaults = [
            ("fsync", durable),
            ("synchronous_commit", durable),
            ("full_page_writes", durable),
            ("listen_addresses", if self.tcp { "127.0.0.1" } else { "" }),
            ("unix_socket_permissions", "0700"),
            ("logging_collector", "off"),
            // Shared memory as files in the data directory, which are removed with it after a
            // crash.
            ("dynamic_shared_memory_type", "mmap"),
        ];
        let given = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        defaults
            .into_iter()
            .chain(given)
            .flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")])
            .collect()
    }
}
