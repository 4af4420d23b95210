//! Sequences that are behind the numbers in use.

use super::finding::{Check, Finding, Remedy};
use super::text::{literal, table_of};
use crate::SchemaName;
use crate::op::SequenceReading;

/// How far beyond the highest number in use a sequence is set, so that numbers drawn concurrently stay below it.
const MARGIN: u64 = 1_000;

/// Returns a finding if the sequence will draw numbers that are already in use.
pub(super) fn lagging(reading: &SequenceReading, schema: &SchemaName) -> Option<Finding> {
    let SequenceReading { name, used, drawn } = reading;
    let why = match name.as_str() {
        "job_seq" => "new jobs are ordered before older ones",
        _ => "inserts fail: the sequence returns numbers that are taken",
    };
    let sequence = table_of(schema, name);
    let remedy = format!(
        "select setval({}, greatest({}, (select last_value from {sequence})))",
        literal(&sequence),
        used.saturating_add(MARGIN)
    );
    (used > drawn).then(|| Finding {
        check: Check::LaggingSequence,
        what: format!(
            "sequence {name} is at {drawn}, but {used} is already in use: a failover or a partial restore left it behind"
        ),
        why,
        remedy: Remedy::Sql(vec![remedy]),
    })
}
