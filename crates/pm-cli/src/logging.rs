//! The log on stderr, for `--log`.

use std::io;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// What is logged at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogLevel {
    /// Errors
    Error,
    /// Trouble: outages, lost leases
    Warn,
    /// And each attempt at a job
    Info,
    /// And each claim, settle and enqueue
    Debug,
    /// Everything
    Trace,
}

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for humans
    Text,
    /// A JSON object per line
    Json,
}

/// Starts to log on stderr. A span is logged when it ends, with its duration. To be called once.
pub(crate) fn start(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr);
    let builder = builder.with_span_events(FmtSpan::CLOSE).log_internal_errors(false);
    let started = match format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().finish().try_init(),
    };
    // It fails only if there is a log already.
    drop(started);
}
