//! `pm pg restore`

use super::tool::Tool;
use crate::context::Context;
use crate::error::CommandError;
use serde::Serialize;
use std::io::{self, IsTerminal};
use std::process::Stdio;

/// Restores pm's schema from a backup on stdin, whole or not at all
///
/// A database that has pm's tables already is refused, unless --clean says to drop them first,
/// with all their jobs. It is one transaction: after any trouble everything is as before.
///
/// Example:
///   pm pg restore --db postgres://localhost/copy < pm.dump
///   pm pg restore --clean < pm.dump
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RestoreArgs {
    /// Drop the tables that are there, with all jobs
    #[arg(long)]
    clean: bool,
}

#[derive(Serialize)]
struct Restored<'a> {
    schema: &'a str,
    /// The version of the restored tables.
    version: u32,
}

pub(super) async fn run(context: &mut Context, args: &RestoreArgs) -> Result<(), CommandError> {
    if io::stdin().is_terminal() {
        let message = "the backup comes from stdin, and that is a terminal";
        return Err(CommandError::usage(message).hint("read it from a file: pm pg restore < pm.dump"));
    }
    let settings = context.settings()?;
    let schema = settings.schema.as_str();
    let queue = context.connect_unchecked().await?;
    if !args.clean && queue.schema_version().await? > 0 {
        let message = format!("schema \"{schema}\" of that database has pm's tables already; nothing was changed");
        return Err(CommandError::refused(message).hint("--clean drops them first, with all their jobs"));
    }
    let mut tool = Tool::new("pg_restore", &settings)?;
    tool.command.args(["--single-transaction", "--no-owner", "--no-privileges"]);
    if args.clean {
        tool.command.args(["--clean", "--if-exists"]);
    }
    tool.command.stdin(Stdio::inherit());
    tool.run(context, "Restoring", "nothing was changed").await?;
    let version = queue.schema_version().await?;
    if version == 0 {
        let message = format!("what was restored is not in schema \"{schema}\"");
        return Err(CommandError::refused(message).hint("the backup is of another schema; name it with --schema"));
    }
    let sentence = format!("Restored schema \"{schema}\", at version {version}.");
    context.output.done(&Restored { schema, version }, &sentence)
}
