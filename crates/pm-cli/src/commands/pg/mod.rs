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
            PgCommand::Backup => backup::run(context).await,
            PgCommand::Restore(args) => restore::run(context, &args).await,
        }
    }
}
