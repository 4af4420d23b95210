//! Resolves the end of an id to a job's id.

use crate::error::CommandError;
use pm_core::IdSuffix;
use pm_driver_tokio_postgres::{JobMetadata, Queue, Uuid};

/// How many candidates are listed.
const MAX_LISTED: usize = 10;

/// Returns the id of the only job whose id ends in `suffix`. A complete id is returned without a query. Errors: exit
/// code 1 when no job matches, 2 when several do; these are listed.
pub(crate) async fn resolve(queue: &Queue, suffix: &IdSuffix) -> Result<Uuid, CommandError> {
    if let Some(id) = suffix.whole_id() {
        return Ok(id);
    }
    let matches = queue.resolve_ids(suffix.digits()).await?;
    let missing = || CommandError::refused(format!("no job matches {}", suffix.digits()));
    only(suffix, &matches)?.ok_or_else(missing)
}

/// Returns the id of the only job whose id ends in `suffix`, if there is one. All jobs are searched: for commands that
/// must not change the wrong job. A complete id is returned without a query. Errors: exit code 2 when several jobs
/// match; these are listed.
pub(crate) async fn resolve_among_all(queue: &Queue, suffix: &IdSuffix) -> Result<Option<Uuid>, CommandError> {
    if let Some(id) = suffix.whole_id() {
        return Ok(Some(id));
    }
    only(suffix, &queue.resolve_ids_among_all(suffix.digits()).await?)
}

fn only(suffix: &IdSuffix, matches: &[JobMetadata]) -> Result<Option<Uuid>, CommandError> {
    match matches {
        [] => Ok(None),
        [one] => Ok(Some(one.id)),
        several => Err(ambiguous(suffix, several)),
    }
}

fn ambiguous(suffix: &IdSuffix, matches: &[JobMetadata]) -> CommandError {
    let shown = matches.iter().take(MAX_LISTED);
    let mut lines: Vec<_> = shown.map(|job| format!("  {}  {}  {}", job.id, job.queue, job.state)).collect();
    if matches.len() > MAX_LISTED {
        lines.push("  … and more".to_owned());
    }
    let message = format!("{} matches several jobs:\n{}", suffix.digits(), lines.join("\n"));
    CommandError::usage(message).hint("give more digits")
}
