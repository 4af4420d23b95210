//! Commands that use Postgres's own programs.

mod backup;
mod restore;
mod script;
mod tool;

use crate::context::Context;
use crate::error::CommandError;

/// Backs up pm's tables, and restores them
///
/// Postgres's own pg_dump, pg_restore and psql do the work: those of the directory in
/// PM_PG_BINDIR, if that is set, else those of PATH.
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
