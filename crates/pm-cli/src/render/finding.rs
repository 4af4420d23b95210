//! Findings of `pm db doctor`.

use crate::text::printable;
use pm_driver_tokio_postgres::Finding;
use serde::Serialize;

/// A finding as JSON. The names are documented: do not change them.
#[derive(Serialize)]
pub(crate) struct FindingView {
    /// The name of the check.
    check: &'static str,
    what: String,
    why: &'static str,
    /// A shell command.
    remedy: String,
}

impl FindingView {
    /// Returns the view of a finding.
    pub(crate) fn new(finding: &Finding) -> Self {
        FindingView {
            check: finding.check.name(),
            what: finding.what.clone(),
            why: finding.why,
            remedy: finding.remedy.command(),
        }
    }

    /// Returns the finding as a human-readable paragraph; the name of the check may be coloured.
    pub(crate) fn paragraph(&self, colour: bool) -> String {
        let check = if colour { format!("\u{1b}[31m{}\u{1b}[0m", self.check) } else { self.check.to_owned() };
        format!("{check}: {}\n  why: {}\n  run: {}\n", printable(&self.what), self.why, printable(&self.remedy))
    }
}
