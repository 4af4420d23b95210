//! Which jobs to list.

use crate::Error;
use pm_core::op;
use pm_core::{QueueName, State};
use uuid::Uuid;

/// Which jobs to list. Jobs are listed newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobFilter {
    /// Only jobs of this queue.
    pub queue: Option<String>,
    /// Only jobs in this state; [`State::Paused`] also means the pending jobs of a paused queue.
    pub state: Option<State>,
    /// Only jobs older than this one. To get the next page, give the last id of the page before.
    pub after: Option<Uuid>,
    /// The maximum number of jobs to return (default 100).
    pub limit: usize,
}

impl Default for JobFilter {
    fn default() -> Self {
        JobFilter { queue: None, state: None, after: None, limit: 100 }
    }
}

impl JobFilter {
    /// Lists only jobs of this queue.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Lists only jobs in this state.
    pub fn state(mut self, state: State) -> Self {
        self.state = Some(state);
        self
    }

    /// Lists only jobs older than this one.
    pub fn after(mut self, after: Uuid) -> Self {
        self.after = Some(after);
        self
    }

    /// Sets the maximum number of jobs to return.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn into_core(self) -> Result<op::JobFilter, Error> {
        let queue = self.queue.as_deref().map(QueueName::new).transpose()?;
        Ok(op::JobFilter { queue, state: self.state, after: self.after, limit: self.limit })
    }
}
