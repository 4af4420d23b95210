//! Reporting the progress of a job.

use super::ack::JobAck;
use super::settling::as_json;
use super::waiters::Worker;
use crate::Error;
use crate::sending::Link;
use pm_core::{Error as CoreError, JsonText, Lease};
use serde::Serialize;
use std::sync::Arc;

impl JobAck {
    /// Reports how far the job has come: any serializable value, stored as JSON with the job, for
    /// [`JobMetadata::progress`](crate::JobMetadata::progress) and `pm job show`.
    ///
    /// Returns at once. The worker's task stores it, at most once a second for each job, together with that of other
    /// jobs; of what is reported in between, only the newest is stored. What was reported within the last second before
    /// the job is settled may not be. It stays with the job when that ends or is retried, until a restart or newer
    /// progress. It may be up to 8 KiB, with each character beyond ASCII counted as its escape (`\u00e9`).
    ///
    /// # Errors
    ///
    /// `Payload` when it cannot be encoded as JSON, `Invalid` when it is too large, `LeaseLost` when the lease can no
    /// longer be trusted. Under a lease that was lost nothing is stored, also if the ack does not know it yet.
    pub fn set_progress(&self, progress: impl Serialize) -> Result<(), Error> {
        self.reporter().set(&progress)
    }

    /// Returns what reports the job's progress without the ack.
    pub(crate) fn reporter(&self) -> Reporter {
        Reporter { worker: self.worker.clone(), link: self.link.clone(), lease: self.lease }
    }
}

/// Reports the progress of the job of a lease.
#[derive(Clone)]
pub(crate) struct Reporter {
    pub(super) worker: Arc<Worker>,
    pub(super) link: Arc<Link>,
    pub(super) lease: Lease,
}

impl Reporter {
    /// Does what [`JobAck::set_progress`](crate::JobAck::set_progress) does.
    pub(crate) fn set(&self, progress: &impl Serialize) -> Result<(), Error> {
        let progress = JsonText::progress(as_json("progress", progress)?)?;
        let (lease, now) = (self.lease, self.link.now());
        self.worker.update(|state| match state.has_ended {
            true => Err(CoreError::LeaseLost.into()),
            false => state.machine.set_progress(lease, progress, now).map_err(Error::from),
        })
    }
}

impl Reporter {
    /// Returns whether the worker still has the lease, lost or not: the job is not settled.
    pub(crate) fn has_lease(&self) -> bool {
        let state = self.worker.lock();
        state.has_ended || state.machine.has_lease(&self.lease)
    }
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter").field("lease", &self.lease).finish_non_exhaustive()
    }
}
