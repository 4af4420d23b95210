//! Selecting jobs by their ids or by filters.

use super::pages::Filter;
use crate::error::CommandError;
use pm_core::IdSuffix;

/// The options that select jobs.
#[derive(clap::Args)]
pub(crate) struct SelectionArgs {
    /// The ids of the jobs, or the ends of the ids
    #[arg(value_name = "ID", value_parser = IdSuffix::new, conflicts_with_all = ["queue", "status", "older_than", "conditions"])]
    pub(in crate::commands::job) ids: Vec<IdSuffix>,
    #[command(flatten)]
    pub(super) filter: Filter,
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
        if self.ids.is_empty() && self.filter == Filter::default() {
            let hint = "give ids or filters: --queue, --status, --older-than, --where";
            return Err(CommandError::usage("no job given").hint(hint));
        }
        Ok(())
    }
}
