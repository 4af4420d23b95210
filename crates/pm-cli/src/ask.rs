//! Confirmation prompts.

use crate::error::CommandError;
use crate::render::write_stderr;
use crate::text::printable;
use std::io::{self, BufRead, IsTerminal};

/// Returns whether the user can be asked: stdin and stderr are terminals.
pub(crate) fn is_possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question; every answer but yes is a no. Errors: exit code 1 when the answer is no.
pub(crate) fn confirm(question: &str) -> Result<(), CommandError> {
    write_stderr(&format!("{} [y/N] ", printable(question)));
    let mut answer = String::new();
    // A failed read counts as no.
    let is_yes = io::stdin().lock().read_line(&mut answer).is_ok()
        && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str());
    if is_yes { Ok(()) } else { Err(CommandError::refused("Cancelled.")) }
}
