//! Names, counts and times in the texts of findings.

use crate::SchemaName;
use std::time::Duration;

/// Returns the table's name, qualified with the quoted schema.
pub(super) fn table_of(schema: &SchemaName, name: &str) -> String {
    format!("\"{schema}\".{name}")
}

/// Returns the text as an SQL string literal.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Returns "1 lease" or "7 leases".
pub(super) fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Returns the duration in its two largest units: `2h 5m`.
pub(super) fn length(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}
