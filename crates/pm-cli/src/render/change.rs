//! Changes of jobs, for `pm job watch`.

use super::time::{local, utc};
use pm_core::{State, Timestamp};
use pm_driver_tokio_postgres::{JobMetadata, Uuid};
use serde::Serialize;

/// A change of a job as JSON. The names are documented: do not change them.
#[derive(Serialize)]
pub(crate) struct ChangeView {
    /// When the change was observed; `null` for a job that is gone.
    at: Option<String>,
    id: String,
    /// `null` for a job that is gone.
    queue: Option<String>,
    /// `null` for a new job.
    from: Option<&'static str>,
    /// `null` for a job that was deleted or moved away.
    to: Option<&'static str>,
    attempt: Option<u32>,
    reason: Option<String>,
    #[serde(skip)]
    seen_at: Option<Timestamp>,
}

impl ChangeView {
    /// Returns the change of a job that is new or changed.
    pub(crate) fn new(job: &JobMetadata, from: Option<State>) -> Self {
        ChangeView {
            at: utc(job.read_at),
            id: job.id.to_string(),
            queue: Some(job.queue.clone()),
            from: from.map(State::name),
            to: Some(job.state.name()),
            attempt: Some(job.attempt),
            reason: job.reason.clone(),
            seen_at: Some(job.read_at),
        }
    }

    /// Returns the change of a job that was deleted or moved away.
    pub(crate) fn gone(id: Uuid, from: State) -> Self {
        ChangeView {
            at: None,
            id: id.to_string(),
            queue: None,
            from: Some(from.name()),
            to: None,
            attempt: None,
            reason: None,
            seen_at: None,
        }
    }

    /// Returns the change as a human-readable line.
    pub(crate) fn line(&self) -> String {
        let at = self.seen_at.map_or_else(|| "-".repeat(25), local);
        let queue = self.queue.as_deref().unwrap_or("-");
        let change = format!("{} → {}", self.from.unwrap_or("new"), self.to.unwrap_or("gone"));
        let reason = self.reason.as_deref().and_then(|reason| reason.lines().next());
        let reason = reason.map(|reason| format!("  {reason}")).unwrap_or_default();
        crate::text::printable(&format!("{at}  {}  {queue}  {change}{reason}", self.id)).into_owned()
    }
}
