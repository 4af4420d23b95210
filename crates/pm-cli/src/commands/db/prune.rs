//! `pm db prune`

use crate::context::Context;
use crate::error::CommandError;
use crate::render::{Progress, jobs};
use crate::stop::Stop;
use serde::Serialize;

/// Deletes ended jobs that their queue does not retain any longer, once
///
/// How long that is, `pm queue set QUEUE --retain TIME` says; for ever unless set. What is left
/// of deleted queues goes as well. It works in small steps and can be stopped and run again.
///
/// Example:
///   pm db prune
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct PruneArgs {}

#[derive(Serialize)]
struct Pruned {
    pruned: u64,
}

pub(super) async fn run(context: &mut Context) -> Result<(), CommandError> {
    let queue = context.connect().await?;
    let mut stop = Stop::listen()?;
    let pruned = tokio::select! {
        pruned = Progress::new("Pruning", None).during(queue.prune()) => pruned?,
        () = stop.asked() => {
            let message = "stopped before the end; what was deleted by then stays deleted";
            return Err(CommandError::refused(message).hint("run it again to go on"));
        }
    };
    context.output.done(&Pruned { pruned }, &format!("Pruned {}.", jobs(pruned)))
}
