//! Findings of `pm db doctor`.

use super::output::Json;
use super::value::Value;
use crate::text::printable;
use pm_driver_tokio_postgres::Finding;

impl Json for Finding {
    fn json(&self) -> Value {
        Value::named([
            ("check", self.check.name().into()),
            ("what", self.what.as_str().into()),
            ("why", self.why.into()),
            // A shell command.
            ("remedy", self.remedy.command().into()),
        ])
    }
}

/// Returns the findings, a human-readable paragraph each; the names of the checks may be coloured.
pub(crate) fn finding_paragraphs(findings: &[Finding], colour: bool) -> String {
    let paragraph = |finding: &Finding| {
        let Finding { check, what, why, remedy } = finding;
        let check = if colour { format!("\u{1b}[31m{}\u{1b}[0m", check.name()) } else { check.name().to_owned() };
        format!("{check}: {}\n  why: {why}\n  run: {}\n", printable(what), printable(&remedy.command()))
    };
    findings.iter().map(paragraph).collect::<Vec<_>>().join("\n")
}
