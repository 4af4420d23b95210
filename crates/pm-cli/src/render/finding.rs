//! What makes queues sick, as it is shown.

use super::printable;
use pm_driver_tokio_postgres::Finding;
use serde::Serialize;

/// Something that is wrong, as programs get it. The names are documented and stay.
#[derive(Serialize)]
pub(crate) struct FindingView {
    /// Which check found it.
    check: &'static str,
    what: String,
    why: &'static str,
    /// What to type into a shell.
    remedy: String,
}

impl FindingView {
    /// Returns what is shown of a finding.
    pub(crate) fn new(finding: &Finding) -> Self {
        FindingView {
            check: finding.check.name(),
            what: finding.what.clone(),
            why: finding.why,
            remedy: finding.remedy.command(),
        }
    }

    /// Returns the finding for people: its name in a colour, and a line each for what, why and what to do.
    pub(crate) fn paragraph(&self, colour: bool) -> String {
        let check = if colour { format!("\u{1b}[31m{}\u{1b}[0m", self.check) } else { self.check.to_owned() };
        format!("{check}: {}\n  why: {}\n  run: {}\n", printable(&self.what), self.why, printable(&self.remedy))
    }
}
