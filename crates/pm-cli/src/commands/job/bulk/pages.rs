//! Paging through the jobs that match a filter, newest first.

use super::selection::Filter;
use crate::error::CommandError;
use pm_core::{QueueName, State};
use pm_driver_tokio_postgres::{JobFilter, JobMetadata, Precondition, Queue, Uuid};
use std::collections::BTreeMap;

/// How many jobs are read and changed by one call.
pub(super) const CHUNK: usize = 1_000;

/// The jobs that match, in pages of at most 1,000. Jobs added after the first page was read are not included.
#[derive(Debug, Clone)]
pub(in crate::commands::job) struct Pages {
    filter: Filter,
    after: Option<Uuid>,
    newest: Option<Uuid>,
    is_exhausted: bool,
}

impl Pages {
    /// Returns the pages, beginning with the newest job.
    pub(in crate::commands::job) fn new(filter: Filter) -> Self {
        Pages { filter, after: None, newest: None, is_exhausted: false }
    }

    /// Excludes jobs newer than this one.
    pub(super) fn no_newer_than(mut self, newest: Option<Uuid>) -> Self {
        self.newest = newest;
        self
    }

    /// Returns the next page, which is never empty; `None` at the end. Errors: exit code 1 when the queue does not
    /// exist.
    pub(in crate::commands::job) async fn next(
        &mut self,
        queue: &Queue,
    ) -> Result<Option<Vec<JobMetadata>>, CommandError> {
        while !self.is_exhausted {
            let mut filter = JobFilter::default().limit(CHUNK);
            filter.queue = self.filter.queue.as_ref().map(QueueName::to_string);
            (filter.state, filter.after) = (self.filter.status, self.after);
            let mut page = queue.list_jobs(filter).await?;
            self.is_exhausted = page.len() < CHUNK;
            self.after = page.last().map(|job| job.id).or(self.after);
            page.retain(|job| self.matches(job));
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    /// Groups the jobs of a page by the precondition of a change: the selected queue, and the state in which they were
    /// found if the filter depends on it.
    pub(super) fn by_precondition(&self, page: &[JobMetadata]) -> Vec<(Precondition, Vec<Uuid>)> {
        let Filter { status, conditions, without_cancelled, .. } = &self.filter;
        let depends_on_state = status.is_some() || !conditions.is_empty() || *without_cancelled;
        let mut ids: BTreeMap<Option<State>, Vec<Uuid>> = BTreeMap::new();
        for job in page {
            ids.entry(depends_on_state.then_some(job.state)).or_default().push(job.id);
        }
        let precondition = |state| Precondition { state, queue: self.filter.queue.clone(), ..Precondition::default() };
        ids.into_iter().map(|(state, ids)| (precondition(state), ids)).collect()
    }

    fn matches(&self, job: &JobMetadata) -> bool {
        let age_us = job.read_at.unix_us().saturating_sub(job.created_at.unix_us());
        let is_old = self.filter.older_than.is_none_or(|age| i128::from(age_us) > age.as_micros() as i128);
        let meets_conditions = self.filter.conditions.iter().all(|condition| condition.matches(job));
        let is_cancelled = job.state == State::Failed && job.cancelled_at.is_some();
        is_old
            && !(self.filter.without_cancelled && is_cancelled)
            && meets_conditions
            && self.newest.is_none_or(|newest| job.id <= newest)
    }
}
