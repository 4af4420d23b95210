//! What can be done to many jobs.

use crate::error::CommandError;
use crate::render::Deeds;
use pm_core::{Event, State};
use pm_driver_tokio_postgres::{Change, Error, JobMetadata, Queue, StillIs, Uuid};

/// What is done to the jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands::job) enum Deed {
    Restart {
        /// Whether jobs in progress are taken from their holders.
        force: bool,
    },
    Done {
        /// The number of the lease that the job must be under.
        lease: Option<i64>,
    },
    Fail {
        reason: String,
        /// The number of the lease that the job must be under.
        lease: Option<i64>,
    },
    Delete,
    Move {
        to: String,
    },
}

impl Deed {
    pub(super) fn words(&self) -> Deeds {
        let words = |order, done, doing| Deeds { order, done, doing, tail: String::new() };
        match self {
            Deed::Restart { .. } => words("restart", "Restarted", "Restarting jobs"),
            Deed::Done { .. } => words("finish", "Finished", "Finishing jobs"),
            Deed::Fail { .. } => words("fail", "Failed", "Failing jobs"),
            Deed::Delete => words("delete", "Deleted", "Deleting jobs"),
            Deed::Move { to } => Deeds { tail: format!(" to queue \"{to}\""), ..words("move", "Moved", "Moving jobs") },
        }
    }

    /// Sees whether it can be done at all.
    ///
    /// # Errors
    ///
    /// Exit code 1 when the target queue does not exist.
    pub(super) async fn check(&self, queue: &Queue) -> Result<(), CommandError> {
        if let Deed::Move { to } = self {
            queue.move_jobs_told(&[], to, &StillIs::default()).await?;
        }
        Ok(())
    }

    /// Does it to those of at most 1,000 jobs that still are this, and under the lease if it names one; all or none.
    pub(super) async fn change(&self, queue: &Queue, ids: &[Uuid], still_is: &StillIs) -> Result<Vec<Change>, Error> {
        let still_is = &StillIs { lease: self.lease(), ..still_is.clone() };
        match self {
            Deed::Restart { force } => queue.restart_jobs_told(ids, *force, still_is).await,
            Deed::Done { .. } => queue.finish_jobs_told(ids, still_is).await,
            Deed::Fail { reason, .. } => queue.fail_jobs_told(ids, reason, still_is).await,
            Deed::Delete => queue.delete_jobs_told(ids, still_is).await,
            Deed::Move { to } => queue.move_jobs_told(ids, to, still_is).await,
        }
    }

    /// Returns whether the job would be changed as it stands, as far as its state tells.
    pub(super) fn is_allowed(&self, job: &JobMetadata) -> bool {
        let allows = |event| job.state.after(event).is_some();
        let lease = self.lease();
        let is_under = lease.is_none() || (job.state == State::InProgress && job.lease == lease);
        match self {
            Deed::Restart { force: false } => allows(Event::Restart),
            Deed::Restart { force: true } => allows(Event::ForceRestart),
            Deed::Done { .. } => allows(Event::Done) && is_under,
            Deed::Fail { .. } => allows(Event::Fail) && is_under,
            Deed::Delete | Deed::Move { .. } => true,
        }
    }

    /// Returns why a job in this state was refused.
    pub(super) fn why_not(&self, state: State) -> String {
        match (self, state) {
            (_, State::InProgress) if self.lease().is_some() => "in_progress under another lease".to_owned(),
            (_, state) if self.lease().is_some() => format!("{state}, so under no lease"),
            (_, state) if state.is_ended() => format!("{state} already"),
            (_, state) => state.to_string(),
        }
    }

    /// Returns why a job was refused whose key another job holds.
    pub(super) fn key_is_held(&self) -> String {
        match self {
            Deed::Move { to } => format!("its key is held by another job in queue \"{to}\""),
            _ => "its key is held by another job of its queue".to_owned(),
        }
    }

    /// Returns what to do about refused jobs.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Deed::Restart { force: false } => Some("--force takes jobs in progress from their holders"),
            Deed::Done { lease: None } | Deed::Fail { lease: None, .. } => {
                Some("to start ended jobs again: pm job restart")
            }
            _ => None,
        }
    }

    /// Returns the number of the lease that jobs must be under.
    fn lease(&self) -> Option<i64> {
        match self {
            Deed::Done { lease } | Deed::Fail { lease, .. } => *lease,
            _ => None,
        }
    }
}
