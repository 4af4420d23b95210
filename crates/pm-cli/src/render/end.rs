//! How jobs have ended, for `pm job wait`.

use super::output::Json;
use super::time::utc;
use super::value::Value;
use pm_core::State;
use pm_driver_tokio_postgres::{JobMetadata, Uuid};

/// A job that was waited for.
pub(crate) struct JobEnd {
    pub(crate) id: Uuid,
    /// `None` for a job that does not exist, or was deleted.
    pub(crate) job: Option<JobMetadata>,
}

impl JobEnd {
    pub(crate) fn is_finished(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.state == State::Finished)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.job.as_ref().is_none_or(|job| job.state.is_ended())
    }

    /// Returns how it has ended, or its status.
    fn end(&self) -> &'static str {
        match &self.job {
            None => "not found",
            Some(job) if job.state == State::Failed && job.cancelled_at.is_some() => "cancelled",
            Some(job) => job.state.name(),
        }
    }

    /// Returns it as a human-readable line.
    pub(crate) fn line(&self) -> String {
        let reason = self.job.as_ref().filter(|job| job.state.is_ended()).and_then(|job| job.reason.as_deref());
        let line = format!("{}  {}", self.id, self.end());
        let line = reason.and_then(|reason| reason.lines().next()).map_or(line.clone(), |why| format!("{line}: {why}"));
        crate::text::printable(&line).into_owned()
    }
}

impl Json for JobEnd {
    fn json(&self) -> Value {
        let job = self.job.as_ref();
        Value::named([
            ("id", Value::plain(self.id)),
            ("end", Value::plain(self.end())),
            ("has_ended", self.has_ended().into()),
            ("ended", job.and_then(|job| utc(job.ended_at?)).into()),
            ("reason", job.and_then(|job| job.reason.as_deref()).into()),
            ("result_bytes", job.and_then(|job| job.result_bytes.map(Value::number)).into()),
        ])
    }
}
