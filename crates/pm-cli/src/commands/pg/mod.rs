//! Commands that run Postgres's client programs.

mod backup;
mod restore;
mod script;
mod tool;

use crate::context::Context;
use crate::error::CommandError;

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
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
}

impl PgCommand {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), CommandError> {
        match self {
            PgCommand::Backup(_) => backup::run(context).await,
            PgCommand::Restore(args) => restore::run(context, &args).await,
        }
    }
}
