//! `pm job get`

use crate::context::Context;
use crate::error::CommandError;
use crate::input::parse_id;
use crate::path::{Path, parse_path};
use crate::render::payload_value;
use pm_core::IdSuffix;

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
    /// The id of the job, or the end of it
    #[arg(value_name = "ID", value_parser = parse_id, allow_hyphen_values = true)]
    id: IdSuffix,
}

pub(super) async fn run(context: &mut Context, args: &GetArgs) -> Result<(), CommandError> {
    let queue = context.connect().await?;
    let id = crate::id::resolve(&queue, &args.id).await?;
    let payload = queue.payload(id).await?.ok_or(pm_core::Error::JobNotFound(id))?;
    let value = payload_value(&payload)
        .map_err(|problem| CommandError::refused(format!("the payload of job {id} cannot be decoded: {problem}")))?;
    context.output.value(value.at(&args.path).map_err(CommandError::refused)?)
}
