//! `pm db prune`

use crate::context::Context;
use crate::error::CommandError;
use crate::render::{Progress, Total, is_watched, jobs};
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
    // All jobs are looked at; those of deleted queues are not in the total.
    let total = if is_watched() { Some(Total::of(&queue.list_queues().await?)) } else { None };
    let mut stop = Stop::listen()?;
    let mut prune = queue.begin_prune();
    let mut progress = Progress::new("Pruning", total);
    while prune.step().await? {
        progress.show_with(prune.seen(), &format!("{} deleted", prune.deleted()));
        if stop.was_asked() {
            drop(progress);
            let message = format!("stopped before the end; pruned {}", jobs(prune.deleted()));
            return Err(CommandError::refused(message).hint("run it again to go on"));
        }
    }
    drop(progress);
    let pruned = prune.deleted();
    context.output.done(&Pruned { pruned }, &format!("Pruned {}.", jobs(pruned)))
}
