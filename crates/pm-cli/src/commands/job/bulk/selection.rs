//! Selecting jobs by their ids or by filters.

use super::pages::Filter;
use crate::duration::parse_duration;
use crate::error::CommandError;
use crate::input::{Condition, parse_condition, parse_id, parse_queue, parse_state};
use pm_core::{IdSuffix, QueueName, State};
use std::time::Duration;

/// The options that select jobs.
#[derive(clap::Args)]
pub(in crate::commands::job) struct SelectionArgs {
    /// The ids of the jobs, or the ends of the ids
    #[arg(value_name = "ID", value_parser = parse_id, conflicts_with_all = ["queue", "status", "older_than", "conditions"])]
    pub(in crate::commands::job) ids: Vec<IdSuffix>,
    /// Jobs of this queue
    #[arg(short, long, value_name = "QUEUE", value_parser = parse_queue, help_heading = "Instead of ids")]
    queue: Option<QueueName>,
    /// Jobs that are pending, paused, in-progress, finished or failed
    #[arg(short, long, value_name = "STATUS", value_parser = parse_state, help_heading = "Instead of ids")]
    status: Option<State>,
    /// Jobs added longer ago than this, like 7d
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Instead of ids")]
    older_than: Option<Duration>,
    /// Jobs that meet this condition, like reason~timeout, retries>2 or created<2026-01-01; can be repeated
    #[arg(long = "where", value_name = "CONDITION", value_parser = parse_condition, help_heading = "Instead of ids")]
    conditions: Vec<Condition>,
    /// Print how many jobs would be changed, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask for confirmation; it is asked for only on a terminal, and not when ids are given
    #[arg(short, long)]
    pub(super) yes: bool,
}

/// The selected jobs.
pub(super) enum Jobs {
    Ids(Vec<IdSuffix>),
    Matching(Filter),
}

impl SelectionArgs {
    /// Returns the selection.
    ///
    /// # Errors
    ///
    /// Exit code 2 when there is none.
    pub(super) fn jobs(&self) -> Result<Jobs, CommandError> {
        if !self.ids.is_empty() {
            return Ok(Jobs::Ids(self.ids.clone()));
        }
        let has_filter = self.queue.is_some() || self.status.is_some() || self.older_than.is_some();
        if !has_filter && self.conditions.is_empty() {
            let hint = "give ids or filters: --queue, --status, --older-than, --where";
            return Err(CommandError::usage("no job given").hint(hint));
        }
        Ok(Jobs::Matching(Filter {
            queue: self.queue.clone(),
            state: self.status,
            older_than: self.older_than,
            conditions: self.conditions.clone(),
        }))
    }
}
