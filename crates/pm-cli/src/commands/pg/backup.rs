//! `pm pg backup`

use super::tool::Tool;
use crate::context::Context;
use crate::error::CommandError;
use std::io::{self, IsTerminal};
use std::process::Stdio;

/// Writes a backup of pm's schema to stdout, in pg_dump's custom format
///
/// It is a consistent snapshot, taken while workers continue. It contains no owners and
/// privileges, so that another role can restore it. pg_dump must be of the server's version or
/// newer.
///
/// Example:
///   pm pg backup > pm.dump
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct BackupArgs {}

pub(super) async fn run(context: &mut Context) -> Result<(), CommandError> {
    if io::stdout().is_terminal() {
        let message = "a backup cannot be written to a terminal";
        return Err(CommandError::usage(message).hint_command("write it to a file", "pg backup > pm.dump"));
    }
    let settings = context.settings()?;
    // This reports connection problems in pm's own messages, and checks that the tables exist.
    context.connect().await?;
    let mut tool = Tool::connected("pg_dump", &settings)?;
    // Quoted, so that the name is not taken for a pattern; a schema name contains no quotes.
    tool.command.args(["--format=custom", "--no-owner", "--no-privileges"]);
    tool.command.arg(format!("--schema=\"{}\"", settings.schema)).stdin(Stdio::null());
    tool.run(context, "Backing up", "the backup is not complete").await
}
