//! `pm job wait`

use crate::context::Context;
use crate::duration::parse_duration;
use crate::error::CommandError;
use crate::render::{JobEnd, RowStream, jobs};
use pm_core::IdSuffix;
use pm_driver_tokio_postgres::{ErrorKind, Queue, Uuid};
use std::time::Duration;
use tokio::time::timeout_at;

/// Waits until jobs have ended, and prints how, a line each
///
/// Exit code 0 when all of them have finished, 1 when one has failed, was cancelled or deleted, or
/// has not ended within --timeout. A soft failure with retries left does not end a job.
///
/// Example:
///   pm job wait 9f3c && pm job result 9f3c
///   pm job wait 9f3c 7428 --timeout 5m
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct WaitArgs {
    /// The ids of the jobs, or the ends of them
    #[arg(value_name = "ID", required = true, value_parser = IdSuffix::new)]
    ids: Vec<IdSuffix>,
    /// How long to wait for all of them together; without it, for ever
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

pub(super) async fn run(context: &mut Context, args: &WaitArgs) -> Result<(), CommandError> {
    let deadline = args.timeout.and_then(|timeout| tokio::time::Instant::now().checked_add(timeout));
    let queue = context.connect().await?;
    let mut ids = Vec::new();
    for suffix in &args.ids {
        ids.push(crate::id::resolve(&queue, suffix).await?);
    }
    let mut rows = RowStream::default();
    let (mut unfinished, mut late) = (0, 0);
    for id in ids {
        let waited = match deadline {
            Some(deadline) => timeout_at(deadline, queue.wait(id)).await,
            None => Ok(queue.wait(id).await),
        };
        let end = match waited {
            Ok(Ok(job)) => JobEnd { id, job: Some(job) },
            Ok(Err(error)) if error.kind() == ErrorKind::JobNotFound => JobEnd { id, job: None },
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => look(&queue, id).await?,
        };
        unfinished += u64::from(!end.is_finished());
        late += u64::from(!end.has_ended());
        rows.row(&mut context.output, &end, JobEnd::line)?;
    }
    rows.end(&mut context.output)?;
    match (unfinished, late) {
        (0, _) => Ok(()),
        (count, 0) => Err(CommandError::refused(format!("{} did not finish", jobs(count)))),
        (count, late) => {
            let message = format!("{} did not finish; {late} of them had not ended at the timeout", jobs(count));
            Err(CommandError::refused(message))
        }
    }
}

/// Reads a job for which the time is over.
async fn look(queue: &Queue, id: Uuid) -> Result<JobEnd, CommandError> {
    Ok(JobEnd { id, job: queue.get_job(id).await? })
}
