//! `pm queue delete`

use super::find::find;
use crate::ask;
use crate::context::Context;
use crate::error::CommandError;
use crate::render::{Progress, Value, jobs, stderr_is_terminal, sum};
use crate::stop::Stop;
use pm_core::QueueName;
use pm_driver_tokio_postgres::Count;

/// Deletes a queue with all its jobs, in any state, and its schedules
///
/// On a terminal it asks for confirmation when the queue is not empty. The queue disappears first;
/// then its jobs are deleted in steps. If the command is interrupted, `pm db prune` deletes the
/// rest.
///
/// Example:
///   pm queue delete mail
///   pm queue delete mail --yes
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct DeleteArgs {
    /// The queue
    #[arg(value_name = "QUEUE", value_parser = QueueName::new)]
    queue: QueueName,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

pub(super) async fn run(context: &mut Context, args: &DeleteArgs) -> Result<(), CommandError> {
    let name = args.queue.as_str();
    let queue = context.connect().await?;
    let mut total = None;
    if stderr_is_terminal() {
        let counted = sum(find(&queue, &args.queue).await?.counts);
        if !args.yes && ask::is_possible() {
            confirm(name, counted)?;
        }
        total = Some(counted);
    }
    let mut stop = Stop::listen()?;
    let mut deletion = queue.begin_deletion(name).await?;
    let mut progress = Progress::new(format!("Deleting queue \"{name}\""), total);
    while deletion.step().await? {
        progress.show(deletion.deleted());
        if stop.was_requested() {
            drop(progress);
            let message = format!("interrupted; deleted queue \"{name}\" and {} so far", jobs(deletion.deleted()));
            return Err(CommandError::refused(message).hint_command("to delete the rest", "db prune"));
        }
    }
    drop(progress);
    let deleted = deletion.deleted();
    let sentence = format!("Deleted queue \"{name}\" and {}.", jobs(deleted));
    context.output.done(&Value::named([("queue", name.into()), ("deleted", Value::number(deleted))]), &sentence)
}

/// Asks for confirmation when the queue is not empty.
fn confirm(name: &str, counted: Count) -> Result<(), CommandError> {
    let about = if counted.is_estimate { "about " } else { "" };
    match counted.jobs {
        0 => Ok(()),
        count => ask::confirm(&format!("Delete queue \"{name}\" with {about}{}?", jobs(count))),
    }
}
