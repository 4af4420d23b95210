//! `pm pg backup`

use super::tool::Tool;
use crate::context::Context;
use crate::error::CommandError;
use std::io::{self, IsTerminal};
use std::process::Stdio;

/// Writes a backup of pm's schema to stdout, in pg_dump's custom format
///
/// It is one consistent picture, taken while everything goes on. Owners and privileges are
/// left out, so that another role can restore it. pg_dump must be of the server's version or
/// newer.
///
/// Example:
///   pm pg backup > pm.dump
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct BackupArgs {}

pub(super) async fn run(context: &mut Context) -> Result<(), CommandError> {
    if io::stdout().is_terminal() {
        let message = "a backup is nothing for a terminal";
        return Err(CommandError::usage(message).hint("write it to a file: pm pg backup > pm.dump"));
    }
    let settings = context.settings()?;
    // It says what is wrong with the database in our own words, and that the tables are there.
    context.connect().await?;
    let mut tool = Tool::connected("pg_dump", &settings)?;
    // Quotes keep a name from being read as a pattern; a schema's name holds none itself.
    tool.command.args(["--format=custom", "--no-owner", "--no-privileges"]);
    tool.command.arg(format!("--schema=\"{}\"", settings.schema)).stdin(Stdio::null());
    tool.run(context, "Backing up", "the backup is not complete").await
}
