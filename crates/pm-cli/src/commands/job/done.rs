//! `pm job done`

use super::bulk::{Action, SelectionArgs, run as change};
use crate::context::Context;
use crate::error::CommandError;

/// Marks jobs as finished that are pending, paused or in progress
///
/// The worker of a job in progress loses its lease: it can no longer settle the job.
///
/// Example:
///   pm job done 9f3c
///   pm job done 9f3c --lease 5577006791947779410
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct DoneArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Only if the job is in progress and its lease has this number, as printed by `pm job next`
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, conflicts_with_all = ["queue", "status", "older_than", "conditions"])]
    lease: Option<i64>,
}

pub(super) async fn run(context: &mut Context, args: &DoneArgs) -> Result<(), CommandError> {
    change(context, &args.selection, Action::Done { lease: args.lease }).await
}
