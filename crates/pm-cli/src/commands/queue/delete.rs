//! `pm queue delete`

use crate::ask;
use crate::context::Context;
use crate::error::CommandError;
use crate::input::parse_queue;
use crate::render::{Progress, jobs};
use crate::stop::Stop;
use pm_core::{QueueName, State};
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
    if !args.yes && ask::is_possible() {
        ask_about(&queue, name).await?;
    }
    let mut stop = Stop::listen()?;
    let deleted = tokio::select! {
        deleted = Progress::new(format!("Deleting queue \"{name}\""), None).during(queue.delete_queue(name)) => deleted?,
        () = stop.asked() => {
            let message = format!("stopped; queue \"{name}\" may be gone with some of its jobs left in the tables");
            return Err(CommandError::refused(message).hint("to clear away what is left: pm db prune"));
        }
    };
    let sentence = format!("Deleted queue \"{name}\" and {}.", jobs(deleted));
    context.output.done(&Deleted { queue: name, deleted }, &sentence)
}

/// Asks whether to go on when the queue is not empty.
async fn ask_about(queue: &Queue, name: &str) -> Result<(), CommandError> {
    let queues = queue.list_queues().await?;
    let found = queues.iter().find(|queue| queue.name == name);
    let found = found.ok_or_else(|| pm_core::Error::QueueNotFound(name.to_owned()))?;
    let counts = State::ALL.map(|state| found.count(state));
    let count: u64 = counts.iter().map(|count| count.jobs).sum();
    let about = if counts.iter().any(|count| count.is_estimate) { "about " } else { "" };
    match count {
        0 => Ok(()),
        count => ask::confirm(&format!("Delete queue \"{name}\" with {about}{}?", jobs(count))),
    }
}
