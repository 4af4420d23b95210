//! `pm queue rename`

use crate::context::Context;
use crate::error::CommandError;
use crate::input::parse_queue;
use pm_core::QueueName;
use serde::Serialize;

/// Renames a queue; jobs, settings and leases are kept
///
/// It is one write, whatever the number of jobs. Workers of the old name stop; they can still
/// settle the jobs they have leased.
///
/// Example:
///   pm queue rename mail post
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RenameArgs {
    /// The old name
    #[arg(value_name = "FROM", value_parser = parse_queue)]
    from: QueueName,
    /// The new name
    #[arg(value_name = "TO", value_parser = parse_queue)]
    to: QueueName,
}

#[derive(Serialize)]
struct Renamed<'a> {
    from: &'a str,
    to: &'a str,
}

pub(super) async fn run(context: &mut Context, args: &RenameArgs) -> Result<(), CommandError> {
    let (from, to) = (args.from.as_str(), args.to.as_str());
    context.connect().await?.rename_queue(from, to).await?;
    context.output.done(&Renamed { from, to }, &format!("Renamed queue \"{from}\" to \"{to}\"."))
}
