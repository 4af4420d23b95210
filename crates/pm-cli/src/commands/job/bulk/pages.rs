//! Walking over jobs that match, newest first, a page at a time.

use super::CHUNK;
use crate::error::CommandError;
use crate::input::Condition;
use pm_core::{QueueName, State};
use pm_driver_tokio_postgres::{JobFilter, JobMetadata, Precondition, Queue, Uuid};
use std::collections::BTreeMap;
use std::time::Duration;

/// What the jobs must be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::commands::job) struct Filter {
    pub(in crate::commands::job) queue: Option<QueueName>,
    pub(in crate::commands::job) state: Option<State>,
    /// They were added longer ago than this, by the database's clock.
    pub(in crate::commands::job) older_than: Option<Duration>,
    /// All of them hold of the job.
    pub(in crate::commands::job) conditions: Vec<Condition>,
}

/// The jobs that match, in pages of at most 1,000. Jobs that come in later are newer and not met any more.
#[derive(Debug, Clone)]
pub(in crate::commands::job) struct Pages {
    filter: Filter,
    after: Option<Uuid>,
    newest: Option<Uuid>,
    is_over: bool,
}

impl Pages {
    /// Returns the pages from the newest job on.
    pub(in crate::commands::job) fn new(filter: Filter) -> Self {
        Pages { filter, after: None, newest: None, is_over: false }
    }

    /// Leaves out jobs that are newer than this one.
    pub(super) fn no_newer_than(mut self, newest: Option<Uuid>) -> Self {
        self.newest = newest;
        self
    }

    /// Returns the next page, never an empty one; `None` at the end.
    ///
    /// # Errors
    ///
    /// Exit code 1 when the queue does not exist.
    pub(in crate::commands::job) async fn next(
        &mut self,
        queue: &Queue,
    ) -> Result<Option<Vec<JobMetadata>>, CommandError> {
        while !self.is_over {
            let mut filter = JobFilter::default().limit(CHUNK);
            filter.queue = self.filter.queue.as_ref().map(QueueName::to_string);
            (filter.state, filter.after) = (self.filter.state, self.after);
            let mut page = queue.list_jobs(filter).await?;
            self.is_over = page.len() < CHUNK;
            self.after = page.last().map(|job| job.id).or(self.after);
            page.retain(|job| self.fits(job));
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    /// Returns the jobs of a page, by what they must still be when they are changed: in the queue that was asked for,
    /// and in the state in which they were found, where the choice depends on it.
    pub(super) fn by_what_they_are(&self, page: &[JobMetadata]) -> Vec<(Precondition, Vec<Uuid>)> {
        let is_state_chosen = self.filter.state.is_some() || !self.filter.conditions.is_empty();
        let mut ids: BTreeMap<Option<State>, Vec<Uuid>> = BTreeMap::new();
        for job in page {
            ids.entry(is_state_chosen.then_some(job.state)).or_default().push(job.id);
        }
        let precondition = |state| Precondition { state, queue: self.filter.queue.clone(), ..Precondition::default() };
        ids.into_iter().map(|(state, ids)| (precondition(state), ids)).collect()
    }

    fn fits(&self, job: &JobMetadata) -> bool {
        let age_us = job.read_at.unix_us().saturating_sub(job.created_at.unix_us());
        let is_old = self.filter.older_than.is_none_or(|age| i128::from(age_us) > age.as_micros() as i128);
        let fits = self.filter.conditions.iter().all(|condition| condition.holds(job));
        is_old && fits && self.newest.is_none_or(|newest| job.id <= newest)
    }
}
