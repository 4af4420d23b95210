//! Sequences that are behind what they number.

use super::{Check, Finding, Remedy, literal, table_of};
use crate::SchemaName;
use crate::op::SequenceReading;

/// How far beyond what is in use a sequence is set: what others draw at the same moment stays below.
const MARGIN: u64 = 1_000;

/// Returns what is wrong with a sequence that draws numbers which are in use.
pub(super) fn lagging(reading: &SequenceReading, schema: &SchemaName) -> Option<Finding> {
    let SequenceReading { name, used, drawn } = reading;
    let why = match name.as_str() {
        "job_seq" => "new jobs are put before older ones",
        _ => "what it numbers cannot be made: its number is taken",
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
        remedy: Remedy::Sql(remedy),
    })
}
