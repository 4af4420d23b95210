//! Bulk actions.

use crate::error::CommandError;
use crate::render::ActionText;
use pm_core::{Event, State};
use pm_driver_tokio_postgres::{BulkAction, BulkReport, Error, JobMetadata, Precondition, Queue, QueueName, Uuid};

/// An action on jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands::job) enum Action {
    Restart {
        /// Whether to also restart jobs in progress.
        force: bool,
    },
    Done {
        /// The number that the job's lease must have.
        lease: Option<i64>,
    },
    Fail {
        reason: String,
        /// The number that the job's lease must have.
        lease: Option<i64>,
    },
    Delete,
    Move {
        to: String,
    },
}

impl Action {
    pub(super) fn text(&self) -> ActionText {
        let text = |verb, done, doing| ActionText { verb, done, doing, suffix: String::new() };
        match self {
            Action::Restart { .. } => text("restart", "Restarted", "Restarting jobs"),
            Action::Done { .. } => text("finish", "Finished", "Finishing jobs"),
            Action::Fail { .. } => text("fail", "Failed", "Failing jobs"),
            Action::Delete => text("delete", "Deleted", "Deleting jobs"),
            Action::Move { to } => {
                ActionText { suffix: format!(" to queue \"{to}\""), ..text("move", "Moved", "Moving jobs") }
            }
        }
    }

    /// Checks the action before it is run.
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

    /// Applies the action to at most 1,000 jobs; skips those that do not meet the precondition or have another lease.
    pub(super) async fn change(
        &self,
        queue: &Queue,
        ids: &[Uuid],
        precondition: &Precondition,
    ) -> Result<BulkReport, Error> {
        let action = match self {
            Action::Restart { force } => BulkAction::Restart { force: *force },
            Action::Done { .. } => BulkAction::Finish,
            Action::Fail { reason, .. } => BulkAction::Fail { reason: reason.clone() },
            Action::Delete => BulkAction::Delete,
            Action::Move { to } => BulkAction::Move { to: QueueName::new(to)? },
        };
        queue.change_jobs(&action, ids, &Precondition { lease: self.lease(), ..precondition.clone() }).await
    }

    /// Returns whether the job's state and lease allow the action.
    pub(super) fn is_allowed(&self, job: &JobMetadata) -> bool {
        let allows = |event| job.state.after(event).is_some();
        let lease = self.lease();
        let lease_matches = lease.is_none() || (job.state == State::InProgress && job.lease == lease);
        match self {
            Action::Restart { force: false } => allows(Event::Restart),
            Action::Restart { force: true } => allows(Event::ForceRestart),
            Action::Done { .. } => allows(Event::Done) && lease_matches,
            Action::Fail { .. } => allows(Event::Fail) && lease_matches,
            Action::Delete | Action::Move { .. } => true,
        }
    }

    /// Returns why a job in this state was refused.
    pub(super) fn refusal_reason(&self, state: State) -> String {
        match (self, state) {
            (_, State::InProgress) if self.lease().is_some() => "in_progress with another lease".to_owned(),
            (_, state) if self.lease().is_some() => format!("{state}, not leased"),
            (_, state) if state.is_ended() => format!("already {state}"),
            (_, state) => state.to_string(),
        }
    }

    /// Returns the reason for refusing a job whose key is reserved by another job.
    pub(super) fn key_is_reserved(&self) -> String {
        match self {
            Action::Move { to } => format!("its key is reserved by another job in queue \"{to}\""),
            _ => "its key is reserved by another job of its queue".to_owned(),
        }
    }

    /// Returns a hint about refused jobs.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Action::Restart { force: false } => {
                Some("--force also restarts jobs in progress, taking them from their workers")
            }
            Action::Done { lease: None } | Action::Fail { lease: None, .. } => {
                Some("to restart ended jobs: pm job restart")
            }
            _ => None,
        }
    }

    /// Returns the number that the jobs' lease must have.
    fn lease(&self) -> Option<i64> {
        match self {
            Action::Done { lease } | Action::Fail { lease, .. } => *lease,
            _ => None,
        }
    }
}
