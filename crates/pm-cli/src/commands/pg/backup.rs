//! `pm pg backup`

use super::tool::Tool;
use crate::context::Context;
use crate::error::CommandError;
use std::io::{self, IsTerminal};
use std::process::Stdio;

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
