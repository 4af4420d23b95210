//! `pm job get`

use crate::context::Context;
use crate::error::CommandError;
use crate::input::{Path, parse_id, parse_path};
use crate::render::payload_value;
use pm_core::IdSuffix;

/// Prints a part of a job's payload
///
/// Texts and bytes come out exactly as they are, with nothing added; numbers, true, false and
/// null as text; lists and maps as JSON. With --json everything is JSON, bytes as "0x…".
///
/// A path is keys and places from 0, like items[0].pdf; keys with dots, brackets or quotes
/// stand in brackets: items["a.b"]. A single dot is the whole payload. Nothing there: exit
/// code 1.
///
/// Example:
///   pm job get items[0].pdf 9f3c > invoice.pdf
///   pm job get 'headers["x.y"]' 9f3c
#[allow(rustdoc::broken_intra_doc_links, reason = "the help, which this is, writes places as items[0]")]
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct GetArgs {
    /// Which part
    #[arg(value_name = "PATH", value_parser = parse_path, allow_hyphen_values = true)]
    path: Path,
    /// The job's id, or the end of it
    #[arg(value_name = "ID", value_parser = parse_id, allow_hyphen_values = true)]
    id: IdSuffix,
}

pub(super) async fn run(context: &mut Context, args: &GetArgs) -> Result<(), CommandError> {
    let queue = context.connect().await?;
    let id = crate::id::resolve(&queue, &args.id).await?;
    let payload = queue.payload(id).await?.ok_or(pm_core::Error::JobNotFound(id))?;
    let value = payload_value(&payload)
        .map_err(|problem| CommandError::refused(format!("the payload of job {id} cannot be read: {problem}")))?;
    context.output.value(value.at(&args.path).map_err(CommandError::refused)?)
}
