//! `pm queue delete`

use crate::ask;
use crate::context::Context;
use crate::error::CommandError;
use crate::input::parse_queue;
use crate::render::{Progress, Total, is_watched, jobs};
use crate::stop::Stop;
use pm_core::QueueName;
use pm_driver_tokio_postgres::Queue;
use serde::Serialize;

/// Deletes a queue with all its jobs, whatever they are doing, and its schedules
///
/// On a terminal it asks when the queue is not empty. Nobody finds the queue from the first
/// moment on; then its jobs go in steps. Stopped halfway, `pm db prune` goes on with it.
///
/// Example:
///   pm queue delete mail
///   pm queue delete mail --yes
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct DeleteArgs {
    /// The queue
    #[arg(value_name = "QUEUE", value_parser = parse_queue)]
    queue: QueueName,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Serialize)]
struct Deleted<'a> {
    queue: &'a str,
    /// How many jobs went with it.
    deleted: u64,
}

pub(super) async fn run(context: &mut Context, args: &DeleteArgs) -> Result<(), CommandError> {
    let name = args.queue.as_str();
    let queue = context.connect().await?;
    let mut total = None;
    if is_watched() {
        let counted = count(&queue, name).await?;
        if !args.yes && ask::is_possible() {
            ask_about(name, counted)?;
        }
        total = Some(counted);
    }
    let mut stop = Stop::listen()?;
    let mut deletion = queue.begin_deletion(name).await?;
    let mut progress = Progress::new(format!("Deleting queue \"{name}\""), total);
    while deletion.step().await? {
        progress.show(deletion.deleted());
        if stop.was_asked() {
            drop(progress);
            let message = format!("stopped; queue \"{name}\" is gone, and {} with it", jobs(deletion.deleted()));
            return Err(CommandError::refused(message).hint("to clear away what is left of it: pm db prune"));
        }
    }
    drop(progress);
    let deleted = deletion.deleted();
    let sentence = format!("Deleted queue \"{name}\" and {}.", jobs(deleted));
    context.output.done(&Deleted { queue: name, deleted }, &sentence)
}

async fn count(queue: &Queue, name: &str) -> Result<Total, CommandError> {
    let queues = queue.list_queues().await?;
    let found = queues.iter().find(|queue| queue.name == name);
    let found = found.ok_or_else(|| pm_core::Error::QueueNotFound(name.to_owned()))?;
    Ok(Total::of([found]))
}

/// Asks whether to go on when the queue is not empty.
fn ask_about(name: &str, counted: Total) -> Result<(), CommandError> {
    let about = if counted.is_estimate { "about " } else { "" };
    match counted.jobs {
        0 => Ok(()),
        count => ask::confirm(&format!("Delete queue \"{name}\" with {about}{}?", jobs(count))),
    }
}
