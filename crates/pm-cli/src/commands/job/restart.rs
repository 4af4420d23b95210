//! `pm job restart`

use super::bulk::{Action, SelectionArgs, run as change};
use crate::context::Context;
use crate::error::CommandError;

/// Makes jobs pending and ready immediately, and resets their retry count
///
/// A job in progress is reported and not restarted, with exit code 1; with --force it is
/// restarted, and its worker can no longer settle it. Jobs of a paused queue stay paused. A job
/// whose key is reserved by another job of its queue is reported and not restarted, also with
/// --force.
///
/// Example:
///   pm job restart --status failed --where reason~timeout
///   pm job restart 9f3c 77ab
///   pm job restart --queue mail --status failed --dry-run
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Also restart jobs in progress, taking them from their workers
    #[arg(long)]
    force: bool,
}

pub(super) async fn run(context: &mut Context, args: &RestartArgs) -> Result<(), CommandError> {
    change(context, &args.selection, Action::Restart { force: args.force }).await
}
