//! `pm job show`

use crate::context::Context;
use crate::error::CommandError;
use crate::input::parse_id;
use crate::render::FullJob;
use pm_core::IdSuffix;
use pm_driver_tokio_postgres::{Error, Queue, Uuid};

/// Shows a job with its payload and its failed attempts, as YAML
///
/// Up to 32 bytes are shown like "0x00ff", more as `<N bytes>`. For a payload that cannot be
/// decoded, the reason and the size are shown.
///
/// Example:
///   pm job show 9f3c
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ShowArgs {
    /// The id of the job, or the end of it
    #[arg(value_name = "ID", value_parser = parse_id, allow_hyphen_values = true)]
    id: IdSuffix,
}

pub(super) async fn run(context: &mut Context, args: &ShowArgs) -> Result<(), CommandError> {
    let queue = context.connect().await?;
    let id = crate::id::resolve(&queue, &args.id).await?;
    show(context, &queue, id).await
}

/// Shows a job with all details.
pub(super) async fn show(context: &mut Context, queue: &Queue, id: Uuid) -> Result<(), CommandError> {
    let job = read(queue, id).await?.ok_or(pm_core::Error::JobNotFound(id))?;
    context.output.document(&job)
}

/// Reads a job with all details, if it exists.
pub(in crate::commands) async fn read(queue: &Queue, id: Uuid) -> Result<Option<FullJob>, Error> {
    let Some(job) = queue.get_job(id).await? else { return Ok(None) };
    let attempts = queue.attempts(id).await?;
    let payload = queue.payload(id).await?;
    Ok(Some(FullJob::new(job, attempts, payload.as_ref())))
}
