//! `pm db prune`

use crate::context::Context;
use crate::error::CommandError;
use crate::render::{Progress, Value, jobs, stderr_is_terminal, sum};
use crate::stop::Stop;

pub(super) async fn run(context: &mut Context) -> Result<(), CommandError> {
    let queue = context.connect().await?;
    // Every job is visited. Those of deleted queues are not in the total.
    let total = match stderr_is_terminal() {
        true => Some(sum(queue.list_queues().await?.iter().flat_map(|queue| queue.counts))),
        false => None,
    };
    let mut stop = Stop::listen()?;
    let mut prune = queue.begin_prune();
    let mut progress = Progress::new("Pruning", total);
    while prune.step().await? {
        progress.show_with(prune.seen(), &format!("{} deleted", prune.deleted()));
        if stop.was_requested() {
            drop(progress);
            let message = format!("interrupted after pruning {}", jobs(prune.deleted()));
            return Err(CommandError::refused(message).hint("run it again to continue"));
        }
    }
    drop(progress);
    let pruned = prune.deleted();
    context.output.done(&Value::named([("pruned", Value::number(pruned))]), &format!("Pruned {}.", jobs(pruned)))
}
