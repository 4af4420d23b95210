//! The commands about one job: `pm job show`, `get`, `result` and `copy`.

use crate::context::Context;
use crate::error::CommandError;
use crate::path::{Path, parse_path};
use crate::render::{FullJob, Value, payload_value};
use pm_core::{Codec, IdSuffix, QueueName};
use pm_driver_tokio_postgres::{EnqueueOptions, Error, Queue, RawPayload, Uuid};
use serde_json::value::RawValue;

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
    #[command(flatten)]
    job: IdArgs,
}

#[derive(clap::Args)]
pub(crate) struct IdArgs {
    /// The id of the job, or the end of it
    #[arg(value_name = "ID", value_parser = IdSuffix::new, allow_hyphen_values = true)]
    id: IdSuffix,
}

impl IdArgs {
    /// Connects, and returns the id of the job.
    async fn find(&self, context: &mut Context) -> Result<(Queue, Uuid), CommandError> {
        let queue = context.connect().await?;
        let id = crate::id::resolve(&queue, &self.id).await?;
        Ok((queue, id))
    }
}

/// Prints a part of a job's payload
///
/// Strings and bytes are printed unchanged, without a newline; numbers, true, false and null as
/// text; lists and maps as JSON. With --json everything is JSON, with bytes as "0x…".
///
/// A path consists of keys and of indexes from 0, like items[0].pdf; keys with dots, brackets or
/// quotes are written in brackets: items["a.b"]. A single dot is the whole payload. Exit code 1
/// when there is no value at the path.
///
/// Example:
///   pm job get items[0].pdf 9f3c > invoice.pdf
///   pm job get 'headers["x.y"]' 9f3c
#[allow(rustdoc::broken_intra_doc_links, reason = "this is help text, in which items[0] is a path")]
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct GetArgs {
    /// The path of the part
    #[arg(value_name = "PATH", value_parser = parse_path, allow_hyphen_values = true)]
    path: Path,
    #[command(flatten)]
    job: IdArgs,
}

/// Prints the result of a finished job, if its worker has stored one
///
/// Strings are printed unchanged, without a newline; numbers, true, false and null as text; lists
/// and maps as JSON. With --json everything is JSON. Exit code 1 when the job has no result.
///
/// Example:
///   pm job result 9f3c
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ResultArgs {
    #[command(flatten)]
    job: IdArgs,
}

/// Adds a job with the payload of another, and prints its id
///
/// The payload is stored once and shared. Priority and description are copied, the key is not.
/// The new job is ready immediately unless its queue is paused.
///
/// Example:
///   pm job copy 9f3c --to mail-test
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CopyArgs {
    #[command(flatten)]
    job: IdArgs,
    /// The queue of the new job
    #[arg(short, long, value_name = "QUEUE", value_parser = QueueName::new)]
    to: QueueName,
}

pub(super) async fn run_show(context: &mut Context, args: &ShowArgs) -> Result<(), CommandError> {
    let (queue, id) = args.job.find(context).await?;
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

pub(super) async fn run_get(context: &mut Context, args: &GetArgs) -> Result<(), CommandError> {
    let (queue, id) = args.job.find(context).await?;
    let payload = queue.payload(id).await?.ok_or(pm_core::Error::JobNotFound(id))?;
    let value = payload_value(&payload)
        .map_err(|problem| CommandError::refused(format!("the payload of job {id} cannot be decoded: {problem}")))?;
    context.output.value(value.at(&args.path).map_err(CommandError::refused)?)
}

pub(super) async fn run_result(context: &mut Context, args: &ResultArgs) -> Result<(), CommandError> {
    let (queue, id) = args.job.find(context).await?;
    let Some(json) = queue.result::<Box<RawValue>>(id).await? else {
        let job = queue.job(id).await?;
        return Err(CommandError::refused(format!("job {id} has no result; it is {}", job.state)));
    };
    let stored = RawPayload { codec: Codec::Json, bytes: String::from(Box::<str>::from(json)).into() };
    let value = payload_value(&stored)
        .map_err(|problem| CommandError::refused(format!("the result of job {id} cannot be decoded: {problem}")))?;
    context.output.value(&value)
}

pub(super) async fn run_copy(context: &mut Context, args: &CopyArgs) -> Result<(), CommandError> {
    let (queue, source) = args.job.find(context).await?;
    let id = queue.copy_job(source, args.to.as_str(), EnqueueOptions::default()).await?;
    let copied = [("id", Value::plain(id)), ("copy_of", Value::plain(source)), ("queue", args.to.as_str().into())];
    context.output.answer(&Value::named(copied), &id.to_string())
}
