//! `pm job move`

use super::bulk::{Action, SelectionArgs, run as change};
use crate::context::Context;
use crate::error::CommandError;
use crate::input::parse_queue;
use pm_core::QueueName;

/// Moves jobs to another queue; they keep id, payload, priority and lease
///
/// They are paused if that queue is paused. A job whose key is reserved there is reported and not
/// moved, with exit code 1.
///
/// Example:
///   pm job move 9f3c --to mail-slow
///   pm job move --queue mail --status pending -t mail-slow --yes
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MoveArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// The queue to move to
    #[arg(short, long, value_name = "QUEUE", value_parser = parse_queue)]
    to: QueueName,
}

pub(super) async fn run(context: &mut Context, args: &MoveArgs) -> Result<(), CommandError> {
    change(context, &args.selection, Action::Move { to: args.to.to_string() }).await
}
