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
    let missing = || CommandError::refused(format!("no job's id ends in {}", suffix.digits()));
    only(suffix, &matches)?.ok_or_else(missing)
}

/// Returns the id of the one job whose id ends in `suffix`, if there is one, having looked at all jobs: for commands
/// that must not hit the wrong one. A whole id is returned as it is, unasked.
///
/// # Errors
///
/// Exit code 2 when several do; their ids are listed.
pub(crate) async fn resolve_among_all(queue: &Queue, suffix: &IdSuffix) -> Result<Option<Uuid>, CommandError> {
    if let Some(id) = suffix.whole_id() {
        return Ok(Some(id));
    }
    only(suffix, &queue.resolve_ids_among_all(suffix.digits()).await?)
}

fn only(suffix: &IdSuffix, matches: &[JobMatch]) -> Result<Option<Uuid>, CommandError> {
    match matches {
        [] => Ok(None),
        [one] => Ok(Some(one.id)),
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
