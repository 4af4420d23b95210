//! `pm job fail`

use super::bulk::{Action, SelectionArgs, run as change};
use crate::context::Context;
use crate::error::CommandError;

/// Marks jobs as failed that are pending, paused or in progress
///
/// They are not retried. The worker of a job in progress loses its lease: it can no longer settle
/// the job.
///
/// Example:
///   pm job fail 9f3c --message "the customer is gone"
///   pm job fail 9f3c -m "no such mailbox" --lease 5577006791947779410
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct FailArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// The reason
    #[arg(short, long, value_name = "MESSAGE")]
    message: String,
    /// Only if the job is in progress and its lease has this number, as printed by `pm job next`
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, conflicts_with_all = ["queue", "status", "older_than", "conditions"])]
    lease: Option<i64>,
}

pub(super) async fn run(context: &mut Context, args: &FailArgs) -> Result<(), CommandError> {
    let reason = args.message.clone();
    change(context, &args.selection, Action::Fail { reason, lease: args.lease }).await
}
