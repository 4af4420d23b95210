//! `pm job next`

use super::one::show;
use crate::context::Context;
use crate::error::CommandError;
use crate::text::shell_quoted;
use pm_core::QueueName;
use pm_driver_tokio_postgres::{Head, JobAck, PendingJob, Queue, RawPayload, Uuid};

/// How many candidates are read at a time.
const CANDIDATES: usize = 10;
/// How many times to read candidates before giving up under contention.
const TRIES: usize = 20;

/// Claims the next job of a queue and shows it
///
/// The lease lasts as long as the queue's setting. Its number is shown: with it,
/// `pm job done ID --lease NUMBER` and `pm job fail` end the job only while it still has this
/// lease. With --ack the job is finished as soon as it is shown. With --peek it is shown and
/// nothing is written. Exit code 1 when the queue is paused or no job is ready.
///
/// Example:
///   pm job next mail
///   pm job next mail --peek
///   pm job next mail --ack --json
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct NextArgs {
    /// The queue
    #[arg(value_name = "QUEUE", value_parser = QueueName::new)]
    queue: QueueName,
    /// Show the job without claiming it
    #[arg(long, conflicts_with = "ack")]
    peek: bool,
    /// Finish the job once it is shown
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
    let (id, ack) = claim(&queue, &args.queue).await?;
    if let Err(error) = show(context, &queue, id).await.and_then(|()| context.output.flush()) {
        // The job was not shown, so the user cannot settle it.
        ack.release().await?;
        return Err(error);
    }
    if args.ack {
        return Ok(ack.commit().await?);
    }
    let lease = ack.leave();
    let finish = format!("pm job done {id} --lease {}", lease.number);
    context.output.note(&format!("Leased to you until the lease expires. To finish it: {finish}"));
    Ok(())
}

/// Claims the first job that no other worker claims at the same time.
async fn claim(queue: &Queue, name: &QueueName) -> Result<(Uuid, JobAck), CommandError> {
    for _ in 0..TRIES {
        for job in head(queue, name, CANDIDATES).await?.jobs {
            if let Some(claimed) = queue.fetch_job::<RawPayload>(job.id).await? {
                return Ok((job.id, PendingJob::into_parts(claimed).1));
            }
        }
    }
    Err(CommandError::refused(format!("other workers claimed every job of queue \"{name}\" first")).hint("try again"))
}

/// Returns the head of the queue; an error when it is paused or empty.
async fn head(queue: &Queue, name: &QueueName, limit: usize) -> Result<Head, CommandError> {
    let head = queue.next_jobs(name.as_str(), limit).await?;
    if head.is_paused {
        let resume = format!("queue resume {}", shell_quoted(name.as_str()));
        return Err(CommandError::refused(format!("queue \"{name}\" is paused")).hint_command("resume it", resume));
    }
    if head.jobs.is_empty() { Err(empty(name)) } else { Ok(head) }
}

fn empty(name: &QueueName) -> CommandError {
    CommandError::refused(format!("no job of queue \"{name}\" is ready"))
}
