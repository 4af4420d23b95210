//! `pm job copy`

use crate::context::Context;
use crate::error::CommandError;
use crate::input::{parse_id, parse_queue};
use crate::render::{Format, Value};
use pm_core::{IdSuffix, QueueName};
use pm_driver_tokio_postgres::EnqueueOptions;

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
    /// The id of the job, or the end of it
    #[arg(value_name = "ID", value_parser = parse_id, allow_hyphen_values = true)]
    id: IdSuffix,
    /// The queue of the new job
    #[arg(short, long, value_name = "QUEUE", value_parser = parse_queue)]
    to: QueueName,
}

pub(super) async fn run(context: &mut Context, args: &CopyArgs) -> Result<(), CommandError> {
    let queue = context.connect().await?;
    let source = crate::id::resolve(&queue, &args.id).await?;
    let id = queue.copy_job(source, args.to.as_str(), EnqueueOptions::default()).await?;
    match context.output.format() {
        Format::Human => context.output.text(&format!("{id}\n")),
        Format::Json | Format::Ndjson => {
            let copy_of = Value::plain(source);
            let copied = [("id", Value::plain(id)), ("copy_of", copy_of), ("queue", args.to.as_str().into())];
            context.output.done(&Value::named(copied), "")
        }
    }
}
