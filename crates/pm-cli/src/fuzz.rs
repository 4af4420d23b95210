//! Entry points of the fuzzer: any configuration file and any arguments are accepted or rejected with a message.

use crate::cli::Cli;
use crate::config::Settings;
use crate::error::Exit;
use crate::redact::{Secrets, hide_in_urls};
use clap::Parser;

/// Reads `text` as the configuration file.
///
/// # Panics
///
/// When the error is not a message, or contains control characters.
pub fn file(text: &str) {
    let Err(error) = Settings::of_file(text) else { return };
    let report = error.report(&Secrets::of_connection(text));
    assert_eq!(error.exit(), Exit::Usage);
    assert!(report.starts_with("Error: "), "{report:?}");
    assert!(!report.chars().any(|c| c.is_control() && c != '\n'), "{report:?}");
}

/// Parses the arguments after `pm`, and does not run the command.
///
/// # Panics
///
/// When a second pass over the error would hide more.
pub fn arguments<'a>(arguments: impl Iterator<Item = &'a str>) {
    let Err(error) = Cli::try_parse_from(std::iter::once("pm").chain(arguments)) else { return };
    let shown = hide_in_urls(&error.render().to_string());
    assert_eq!(hide_in_urls(&shown), shown);
}
