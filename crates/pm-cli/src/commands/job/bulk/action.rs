//! What the commands say about actions on jobs, and which jobs they allow.

use crate::error::CommandError;
use crate::render::{ActionText, Tally};
use pm_core::{Event, State};
use pm_driver_tokio_postgres::{BulkAction, JobMetadata, Queue};

/// An action on jobs.
pub(super) struct Action {
    pub(super) what: BulkAction,
    /// The number that the jobs' lease must have.
    pub(super) lease: Option<i64>,
}

impl Action {
    pub(super) fn text(&self) -> ActionText {
        let text = |verb, done, doing| ActionText { verb, done, doing, suffix: String::new() };
        match &self.what {
            BulkAction::Restart { .. } => text("Restart", "Restarted", "Restarting jobs"),
            BulkAction::Finish => text("Finish", "Finished", "Finishing jobs"),
            BulkAction::Fail { .. } => text("Fail", "Failed", "Failing jobs"),
            BulkAction::Cancel { .. } => text("Cancel", "Cancelled", "Cancelling jobs"),
            BulkAction::Delete => text("Delete", "Deleted", "Deleting jobs"),
            BulkAction::Move { to } => {
                ActionText { suffix: format!(" to queue \"{to}\""), ..text("Move", "Moved", "Moving jobs") }
            }
            _ => text("Change", "Changed", "Changing jobs"),
        }
    }

    /// Checks the action before it is run. Errors: exit code 1 when the target queue does not exist.
    pub(super) async fn check(&self, queue: &Queue) -> Result<(), CommandError> {
        if let BulkAction::Move { to } = &self.what {
            queue.queue_settings(to.as_str()).await?;
        }
        Ok(())
    }

    /// Counts what the action would do to a job, if it exists.
    pub(super) fn foresee(&self, tally: &mut Tally, job: Option<JobMetadata>) {
        let count = match job {
            Some(job) if self.is_allowed(&job) => &mut tally.changed,
            Some(_) => &mut tally.skipped,
            None => &mut tally.not_found,
        };
        *count += 1;
    }

    /// Returns whether the job's state and lease allow the action.
    fn is_allowed(&self, job: &JobMetadata) -> bool {
        let allows = |event| job.state.after(event).is_some();
        let lease_matches = self.lease.is_none() || (job.state == State::InProgress && job.lease == self.lease);
        match self.what {
            BulkAction::Restart { force: false } => allows(Event::Restart),
            BulkAction::Restart { force: true } => allows(Event::ForceRestart),
            BulkAction::Finish => allows(Event::Done) && lease_matches,
            BulkAction::Fail { .. } => allows(Event::Fail) && lease_matches,
            BulkAction::Cancel { .. } => allows(Event::ForceCancel),
            _ => true,
        }
    }

    /// Returns why a job in this state was refused.
    pub(super) fn refusal_reason(&self, state: State) -> String {
        match (self.lease, state) {
            (Some(_), State::InProgress) => "in_progress with another lease".to_owned(),
            (Some(_), state) => format!("{state}, not leased"),
            (None, state) if state.is_ended() => format!("already {state}"),
            (None, state) => state.to_string(),
        }
    }

    /// Returns the reason for refusing a job whose key is reserved by another job.
    pub(super) fn key_is_reserved(&self) -> String {
        match &self.what {
            BulkAction::Move { to } => format!("its key is reserved by another job in queue \"{to}\""),
            _ => "its key is reserved by another job of its queue".to_owned(),
        }
    }

    /// Returns a hint about refused jobs.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self.what {
            BulkAction::Restart { force: false } => {
                Some("--force also restarts jobs in progress, taking them from their workers")
            }
            BulkAction::Finish | BulkAction::Fail { .. } | BulkAction::Cancel { .. } if self.lease.is_none() => {
                Some("to restart ended jobs: pm job restart")
            }
            _ => None,
        }
    }
}
