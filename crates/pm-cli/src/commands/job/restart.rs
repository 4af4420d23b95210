//! `pm job restart`

use super::bulk::{Action, SelectionArgs, run as change};
use crate::context::Context;
use crate::error::CommandError;

/// Makes jobs pending again, ready at once, with no failures to their name
///
/// A job in progress is named and left alone, with exit code 1; with --force it is taken from
/// its holder, whose word about it no longer counts. A paused queue still holds its jobs.
/// A job whose key another job of its queue holds is named and left alone, also with --force.
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
    /// Take jobs in progress from their holders
    #[arg(long)]
    force: bool,
}

pub(super) async fn run(context: &mut Context, args: &RestartArgs) -> Result<(), CommandError> {
    change(context, &args.selection, Action::Restart { force: args.force }).await
}
