//! Changes of jobs as they are shown.

use super::time::{local, utc};
use pm_core::{State, Timestamp};
use pm_driver_tokio_postgres::{JobMetadata, Uuid};
use serde::Serialize;

/// A change of a job as programs get it. The names are documented and stay.
#[derive(Serialize)]
pub(crate) struct ChangeView {
    /// When it was seen; `null` for what is gone.
    at: Option<String>,
    id: String,
    /// `null` for what is gone from where it was.
    queue: Option<String>,
    /// `null` for a job that was not there before.
    from: Option<&'static str>,
    /// `null` for a job that was deleted or moved away.
    to: Option<&'static str>,
    attempt: Option<u32>,
    reason: Option<String>,
    #[serde(skip)]
    seen_at: Option<Timestamp>,
}

impl ChangeView {
    /// Returns what is shown of a job that is new or changed.
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

    /// Returns what is shown of a job that is not there any more.
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

    /// Returns the change in one line for people.
    pub(crate) fn line(&self) -> String {
        let at = self.seen_at.map_or_else(|| "-".repeat(25), local);
        let queue = self.queue.as_deref().unwrap_or("-");
        let change = format!("{} → {}", self.from.unwrap_or("new"), self.to.unwrap_or("gone"));
        let reason = self.reason.as_deref().and_then(|reason| reason.lines().next());
        let reason = reason.map(|reason| format!("  {reason}")).unwrap_or_default();
        super::printable(&format!("{at}  {}  {queue}  {change}{reason}", self.id)).into_owned()
    }
}
