//! Commands that run Postgres's client programs.

mod restore;
mod script;
mod tool;

use crate::context::Context;
use crate::error::CommandError;
use std::io::{self, IsTerminal};
use std::process::Stdio;
use tool::Tool;

/// Backs up and restores pm's tables
///
/// These commands run Postgres's pg_dump, pg_restore and psql: from the directory in PM_PG_BINDIR
/// if it is set, else from PATH.
///
/// Example:
///   pm pg backup > pm.dump
#[derive(clap::Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum PgCommand {
    /// Writes a backup of pm's schema to stdout, in pg_dump's custom format
    ///
    /// It is a consistent snapshot, taken while workers continue. It contains no owners and
    /// privileges, so that another role can restore it. pg_dump must be of the server's version or
    /// newer.
    ///
    /// Example:
    ///   pm pg backup > pm.dump
    #[command(verbatim_doc_comment)]
    Backup,
    Restore(restore::RestoreArgs),
}

impl PgCommand {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), CommandError> {
        match self {
            PgCommand::Backup => back_up(context).await,
            PgCommand::Restore(args) => restore::run(context, &args).await,
        }
    }
}

async fn back_up(context: &mut Context) -> Result<(), CommandError> {
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
