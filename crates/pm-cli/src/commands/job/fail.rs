//! `pm job fail`

use super::bulk::{Action, SelectionArgs, run as change};
use crate::context::Context;
use crate::error::CommandError;

/// Declares jobs failed for good that are pending, paused or in progress
///
/// They are not retried. The holder of a job in progress is overruled: its word about it no
/// longer counts.
///
/// Example:
///   pm job fail 9f3c --message "the customer is gone"
///   pm job fail 9f3c -m "no such mailbox" --lease 5577006791947779410
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct FailArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Why
    #[arg(short, long, value_name = "MESSAGE")]
    message: String,
    /// Only while the job is in progress under the lease of this number, as `pm job next` told it
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, conflicts_with_all = ["queue", "status", "older_than", "conditions"])]
    lease: Option<i64>,
}

pub(super) async fn run(context: &mut Context, args: &FailArgs) -> Result<(), CommandError> {
    let reason = args.message.clone();
    change(context, &args.selection, Action::Fail { reason, lease: args.lease }).await
}
