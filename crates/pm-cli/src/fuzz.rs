//! What the fuzzer feeds `pm`: whatever is in its file or in its arguments is understood or refused in words.

use crate::cli::Cli;
use crate::config::Settings;
use crate::error::Exit;
use crate::redact::{Secrets, hide_in_urls};
use clap::Parser;

/// Reads `text` as the configuration file.
///
/// # Panics
///
/// When the refusal is none in words, or could move the cursor of a terminal.
pub fn file(text: &str) {
    let Err(error) = Settings::of_file(text) else { return };
    let report = error.report(&Secrets::of_connection(text));
    assert_eq!(error.exit(), Exit::Usage);
    assert!(report.starts_with("Error: "), "{report:?}");
    assert!(!report.chars().any(|c| c.is_control() && c != '\n'), "{report:?}");
}

/// Reads `words` as the arguments after `pm`, and does nothing of what they say.
///
/// # Panics
///
/// When the refusal shows what another look would hide.
pub fn arguments<'a>(words: impl Iterator<Item = &'a str>) {
    let Err(error) = Cli::try_parse_from(std::iter::once("pm").chain(words)) else { return };
    let shown = hide_in_urls(&error.render().to_string());
    assert_eq!(hide_in_urls(&shown), shown);
}
