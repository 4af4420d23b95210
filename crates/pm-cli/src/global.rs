//! The global options.

use crate::duration::parse_timeout;
use crate::logging::{self, LogFormat, LogLevel};
use crate::render::Format;
use std::time::Duration;

/// The global options.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// The database: a URL like postgres://user@host:5432/database, or key=value pairs as in psql
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) db: Option<String>,
    /// The schema of pm's tables [default: PM_SCHEMA, then `schema` in the configuration file, then pm]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) schema: Option<String>,
    /// How long to wait for each host, unless the URL sets connect_timeout
    #[arg(long, global = true, value_name = "TIME", default_value = "5s", value_parser = parse_timeout)]
    pub(crate) connect_timeout: Duration,
    /// Print a single JSON document
    #[arg(long, global = true, conflicts_with = "ndjson")]
    json: bool,
    /// Print JSON, one row per line
    #[arg(long, global = true)]
    ndjson: bool,
    // The possible values would take ten lines in the help of every command.
    /// Log to stderr: error, warn, info (each job), debug (each claim, settle and enqueue) or trace
    #[arg(long, global = true, value_name = "LEVEL", hide_possible_values = true)]
    log: Option<LogLevel>,
    /// The format of the log: text or json
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    log_format: LogFormat,
}

impl GlobalArgs {
    /// Starts the log, if there is to be one.
    pub(crate) fn start_log(&self) {
        if let Some(level) = self.log {
            logging::start(level, self.log_format);
        }
    }

    /// Returns the requested output format.
    pub(crate) fn format(&self) -> Format {
        match (self.json, self.ndjson) {
            (true, _) => Format::Json,
            (_, true) => Format::Ndjson,
            _ => Format::Human,
        }
    }
}
