//! What can be done to many jobs.

use crate::error::CommandError;
use crate::render::ActionWords;
use pm_core::{Event, State};
use pm_driver_tokio_postgres::{BulkAction, BulkReport, Error, JobMetadata, Precondition, Queue, QueueName, Uuid};

/// What is done to the jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands::job) enum Action {
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

impl Action {
    pub(super) fn words(&self) -> ActionWords {
        let words = |order, done, doing| ActionWords { order, done, doing, tail: String::new() };
        match self {
            Action::Restart { .. } => words("restart", "Restarted", "Restarting jobs"),
            Action::Done { .. } => words("finish", "Finished", "Finishing jobs"),
            Action::Fail { .. } => words("fail", "Failed", "Failing jobs"),
            Action::Delete => words("delete", "Deleted", "Deleting jobs"),
            Action::Move { to } => {
                ActionWords { tail: format!(" to queue \"{to}\""), ..words("move", "Moved", "Moving jobs") }
            }
        }
    }

    /// Sees whether it can be done at all.
    ///
    /// # Errors
    ///
    /// Exit code 1 when the target queue does not exist.
    pub(super) async fn check(&self, queue: &Queue) -> Result<(), CommandError> {
        if let Action::Move { to } = self {
            queue.queue_settings(to).await?;
        }
        Ok(())
    }

    /// Does it to those of at most 1,000 jobs that still meet the precondition, and are under the lease if it names one.
    pub(super) async fn change(&self, queue: &Queue, ids: &[Uuid], still: &Precondition) -> Result<BulkReport, Error> {
        let action = match self {
            Action::Restart { force } => BulkAction::Restart { force: *force },
            Action::Done { .. } => BulkAction::Finish,
            Action::Fail { reason, .. } => BulkAction::Fail { reason: reason.clone() },
            Action::Delete => BulkAction::Delete,
            Action::Move { to } => BulkAction::Move { to: QueueName::new(to)? },
        };
        queue.change_jobs(&action, ids, &Precondition { lease: self.lease(), ..still.clone() }).await
    }

    /// Returns whether the job would be changed as it stands, as far as its state tells.
    pub(super) fn is_allowed(&self, job: &JobMetadata) -> bool {
        let allows = |event| job.state.after(event).is_some();
        let lease = self.lease();
        let is_under = lease.is_none() || (job.state == State::InProgress && job.lease == lease);
        match self {
            Action::Restart { force: false } => allows(Event::Restart),
            Action::Restart { force: true } => allows(Event::ForceRestart),
            Action::Done { .. } => allows(Event::Done) && is_under,
            Action::Fail { .. } => allows(Event::Fail) && is_under,
            Action::Delete | Action::Move { .. } => true,
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
            Action::Move { to } => format!("its key is held by another job in queue \"{to}\""),
            _ => "its key is held by another job of its queue".to_owned(),
        }
    }

    /// Returns what to do about refused jobs.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Action::Restart { force: false } => Some("--force takes jobs in progress from their holders"),
            Action::Done { lease: None } | Action::Fail { lease: None, .. } => {
                Some("to start ended jobs again: pm job restart")
            }
            _ => None,
        }
    }

    /// Returns the number of the lease that jobs must be under.
    fn lease(&self) -> Option<i64> {
        match self {
            Action::Done { lease } | Action::Fail { lease, .. } => *lease,
            _ => None,
        }
    }
}
