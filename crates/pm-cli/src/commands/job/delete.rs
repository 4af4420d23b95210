//! `pm job delete`

use super::bulk::{Action, SelectionArgs, run as change};
use crate::context::Context;
use crate::error::CommandError;

/// Deletes jobs in any state, with their payloads and attempts
///
/// The worker of a job in progress loses its lease.
///
/// Example:
///   pm job delete --status finished --where 'created<2026-01-01'
///   pm job delete 9f3c
///   pm job delete --queue mail --status finished --older-than 30d
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    selection: SelectionArgs,
}

pub(super) async fn run(context: &mut Context, args: &DeleteArgs) -> Result<(), CommandError> {
    change(context, &args.selection, Action::Delete).await
}
