//! Which jobs a command is about: by their ids, or by what they are.

use super::pages::Filter;
use crate::error::CommandError;
use crate::input::{Condition, parse_condition, parse_duration, parse_id, parse_queue, parse_state};
use pm_core::{IdSuffix, QueueName, State};
use std::time::Duration;

/// The options that say which jobs.
#[derive(clap::Args)]
pub(in crate::commands::job) struct SelectionArgs {
    /// The jobs' ids, or the ends of them
    #[arg(value_name = "ID", value_parser = parse_id, conflicts_with_all = ["queue", "status", "older_than", "conditions"])]
    pub(in crate::commands::job) ids: Vec<IdSuffix>,
    /// Instead of ids: the jobs of this queue
    #[arg(short, long, value_name = "QUEUE", value_parser = parse_queue, help_heading = "Instead of ids")]
    queue: Option<QueueName>,
    /// Jobs that are pending, paused, in-progress, finished or failed
    #[arg(short, long, value_name = "STATUS", value_parser = parse_state, help_heading = "Instead of ids")]
    status: Option<State>,
    /// Jobs added longer ago than this, like 7d
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Instead of ids")]
    older_than: Option<Duration>,
    /// Jobs of which this holds, like reason~timeout, retries>2 or created<2026-01-01; may be given several times
    #[arg(long = "where", value_name = "CONDITION", value_parser = parse_condition, help_heading = "Instead of ids")]
    conditions: Vec<Condition>,
    /// Say how many jobs it would be, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask; only a terminal is asked, and only when the jobs are not named by their ids
    #[arg(short, long)]
    pub(super) yes: bool,
}

/// Which jobs.
pub(super) enum Wanted {
    Ids(Vec<IdSuffix>),
    Matching(Filter),
}

impl SelectionArgs {
    /// Returns which jobs are meant.
    ///
    /// # Errors
    ///
    /// Exit code 2 when none is named.
    pub(super) fn wanted(&self) -> Result<Wanted, CommandError> {
        if !self.ids.is_empty() {
            return Ok(Wanted::Ids(self.ids.clone()));
        }
        let has_filter = self.queue.is_some() || self.status.is_some() || self.older_than.is_some();
        if !has_filter && self.conditions.is_empty() {
            let hint = "give ids, or say which: --queue, --status, --older-than, --where";
            return Err(CommandError::usage("no job is named").hint(hint));
        }
        Ok(Wanted::Matching(Filter {
            queue: self.queue.clone(),
            state: self.status,
            older_than: self.older_than,
            conditions: self.conditions.clone(),
        }))
    }
}
