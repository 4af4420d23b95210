//! Changes of jobs, for `pm job watch`.

use super::output::Json;
use super::time::{local, utc};
use super::value::Value;
use pm_core::State;
use pm_driver_tokio_postgres::{JobMetadata, Uuid};

/// A change of a job.
pub(crate) struct JobChange {
    pub(crate) id: Uuid,
    /// `None` for a new job.
    pub(crate) from: Option<State>,
    /// `None` for a job that was deleted or moved away.
    pub(crate) job: Option<JobMetadata>,
}

impl Json for JobChange {
    fn json(&self) -> Value {
        let job = self.job.as_ref();
        Value::named([
            ("at", job.and_then(|job| utc(job.read_at)).into()),
            ("id", Value::plain(self.id)),
            ("queue", job.map(|job| job.queue.as_str()).into()),
            ("from", self.from.map(State::name).into()),
            ("to", job.map(|job| job.state.name()).into()),
            ("attempt", job.map(|job| Value::number(job.attempt)).into()),
            ("reason", job.and_then(|job| job.reason.as_deref()).into()),
        ])
    }
}

impl JobChange {
    /// Returns the change as a human-readable line.
    pub(crate) fn line(&self) -> String {
        let job = self.job.as_ref();
        let at = job.map_or_else(|| "-".repeat(25), |job| local(job.read_at));
        let queue = job.map_or("-", |job| &job.queue);
        let (from, to) = (self.from.map_or("new", State::name), job.map_or("gone", |job| job.state.name()));
        let reason = job.and_then(|job| job.reason.as_deref()?.lines().next());
        let reason = reason.map(|reason| format!("  {reason}")).unwrap_or_default();
        crate::text::printable(&format!("{at}  {}  {queue}  {from} → {to}{reason}", self.id)).into_owned()
    }
}
