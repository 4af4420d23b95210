//! Selecting jobs by their ids or by filters.

use crate::duration::parse_duration;
use crate::error::CommandError;
use crate::input::{Condition, parse_condition, parse_state};
use pm_core::{IdSuffix, QueueName, State};
use std::time::Duration;

/// A filter on jobs: what is given must all be met. Ages are by the database's clock.
#[derive(Debug, Clone, PartialEq, Eq, Default, clap::Args)]
#[group(skip)]
pub(in crate::commands::job) struct Filter {
    /// Jobs of this queue
    #[arg(short, long, value_name = "QUEUE", value_parser = QueueName::new, help_heading = "Instead of ids")]
    pub(in crate::commands::job) queue: Option<QueueName>,
    /// Jobs that are pending, paused, in-progress, finished or failed
    #[arg(short, long, value_name = "STATUS", value_parser = parse_state, help_heading = "Instead of ids")]
    pub(in crate::commands::job) status: Option<State>,
    /// Jobs added longer ago than this, like 7d
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Instead of ids")]
    pub(in crate::commands::job) older_than: Option<Duration>,
    /// Jobs that meet this condition, like reason~timeout, retries>2 or created<2026-01-01; can be repeated
    #[arg(long = "where", value_name = "CONDITION", value_parser = parse_condition, help_heading = "Instead of ids")]
    pub(in crate::commands::job) conditions: Vec<Condition>,
    /// Whether cancelled jobs do not match.
    #[arg(skip)]
    pub(in crate::commands::job) without_cancelled: bool,
}

/// The options that select jobs.
#[derive(clap::Args)]
pub(crate) struct SelectionArgs {
    /// The ids of the jobs, or the ends of the ids
    #[arg(value_name = "ID", value_parser = IdSuffix::new, conflicts_with_all = ["queue", "status", "older_than", "conditions"])]
    pub(in crate::commands::job) ids: Vec<IdSuffix>,
    #[command(flatten)]
    pub(in crate::commands::job) filter: Filter,
    /// Print how many jobs would be changed, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask for confirmation; it is asked for only on a terminal, and not when ids are given
    #[arg(short, long)]
    pub(super) yes: bool,
}

impl SelectionArgs {
    /// Checks that jobs are selected, by ids or by a filter. Errors: exit code 2 when none are.
    pub(super) fn check(&self) -> Result<(), CommandError> {
        if self.ids.is_empty()
            && self.filter == (Filter { without_cancelled: self.filter.without_cancelled, ..Filter::default() })
        {
            let hint = "give ids or filters: --queue, --status, --older-than, --where";
            return Err(CommandError::usage("no job given").hint(hint));
        }
        Ok(())
    }
}
