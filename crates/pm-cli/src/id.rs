//! From what people type for a job to its id.

use crate::error::CommandError;
use pm_core::IdSuffix;
use pm_driver_tokio_postgres::{JobMatch, Queue, Uuid};

/// The most candidates that are shown.
const SHOWN: usize = 10;

/// Returns the id of the one job whose id ends in `suffix`. A whole id is returned as it is, unasked.
///
/// # Errors
///
/// Exit code 1 when none does, 2 when several do; their ids are listed.
pub(crate) async fn resolve(queue: &Queue, suffix: &IdSuffix) -> Result<Uuid, CommandError> {
    if let Some(id) = suffix.whole_id() {
        return Ok(id);
    }
    let matches = queue.resolve_ids(suffix.digits()).await?;
    match matches.as_slice() {
        [] => Err(CommandError::refused(format!("no job's id ends in {}", suffix.digits()))),
        [one] => Ok(one.id),
        several => Err(ambiguous(suffix, several)),
    }
}

fn ambiguous(suffix: &IdSuffix, matches: &[JobMatch]) -> CommandError {
    let shown = matches.iter().take(SHOWN);
    let mut lines: Vec<_> = shown.map(|job| format!("  {}  {}  {}", job.id, job.queue, job.state)).collect();
    if matches.len() > SHOWN {
        lines.push("  … and more".to_owned());
    }
    let message = format!("the ids of several jobs end in {}:\n{}", suffix.digits(), lines.join("\n"));
    CommandError::usage(message).hint("give more digits")
}
