//! `pm job next`

use super::show::show;
use crate::context::Context;
use crate::error::CommandError;
use crate::input::parse_queue;
use crate::render::Format;
use pm_core::QueueName;
use pm_driver_tokio_postgres::{Head, JobAck, PendingJob, Queue, RawPayload, Uuid};

/// So many candidates are looked at together.
const CANDIDATES: usize = 10;
/// Others were faster so many times: then it is given up.
const TRIES: usize = 20;

/// Takes the next job of a queue and shows it
///
/// The job stays leased for as long as its queue says; its number is shown, so that
/// `pm job done ID --lease NUMBER` or `pm job fail` ends it only while nobody else has it.
/// With --ack it is finished as soon as it is shown. With --peek it is shown and nothing is
/// written. Exit code 1 when the queue is paused or no job is ready.
///
/// Example:
///   pm job next mail
///   pm job next mail --peek
///   pm job next mail --ack --json
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct NextArgs {
    /// The queue
    #[arg(value_name = "QUEUE", value_parser = parse_queue)]
    queue: QueueName,
    /// Show it and take nothing
    #[arg(long, conflicts_with = "ack")]
    peek: bool,
    /// Finish it once it is shown
    #[arg(long)]
    ack: bool,
}

pub(super) async fn run(context: &mut Context, args: &NextArgs) -> Result<(), CommandError> {
    let queue = context.connect().await?;
    if args.peek {
        let head = head(&queue, &args.queue, 1).await?;
        let first = head.jobs.first().ok_or_else(|| empty(&args.queue))?;
        return show(context, &queue, first.id).await;
    }
    let (id, ack) = take(&queue, &args.queue).await?;
    if let Err(error) = show(context, &queue, id).await.and_then(|()| context.output.flush()) {
        // Nobody saw it, so nobody has it.
        ack.release().await?;
        return Err(error);
    }
    if args.ack {
        return Ok(ack.commit().await?);
    }
    let lease = ack.leave();
    if context.output.format() == Format::People {
        context.output.say(&format!("It is yours until its lease ends: pm job done {id} --lease {}", lease.number));
    }
    Ok(())
}

/// Takes the first job that nobody else takes at the same time.
async fn take(queue: &Queue, name: &QueueName) -> Result<(Uuid, JobAck), CommandError> {
    for _ in 0..TRIES {
        for job in head(queue, name, CANDIDATES).await?.jobs {
            if let Some(taken) = queue.fetch_job::<RawPayload>(job.id).await? {
                return Ok((job.id, PendingJob::into_parts(taken).1));
            }
        }
    }
    Err(CommandError::refused(format!("others were faster at every job of queue \"{name}\"")).hint("try again"))
}

/// Returns the head of the queue, which is neither paused nor empty.
async fn head(queue: &Queue, name: &QueueName, limit: usize) -> Result<Head, CommandError> {
    let head = queue.next_jobs(name.as_str(), limit).await?;
    if head.is_paused {
        let hint = format!("pm queue resume \"{name}\"");
        return Err(CommandError::refused(format!("queue \"{name}\" is paused")).hint(hint));
    }
    if head.jobs.is_empty() { Err(empty(name)) } else { Ok(head) }
}

fn empty(name: &QueueName) -> CommandError {
    CommandError::refused(format!("no job of queue \"{name}\" is ready"))
}
