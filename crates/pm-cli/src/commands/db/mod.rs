//! Commands about the database as a whole.

mod doctor;
mod grants;
mod migrate;
mod prune;
mod reap;
mod sql;
mod stats;

use crate::context::Context;
use crate::error::CommandError;

/// Manages pm's tables
///
/// Example:
///   pm db migrate
#[derive(clap::Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum DbCommand {
    Migrate(migrate::MigrateArgs),
    Stats(stats::StatsArgs),
    Doctor(doctor::DoctorArgs),
    Grants(grants::GrantsArgs),
    Reap(reap::ReapArgs),
    Prune(prune::PruneArgs),
    Sql(sql::SqlArgs),
}

impl DbCommand {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), CommandError> {
        match self {
            DbCommand::Migrate(args) => migrate::run(context, &args).await,
            DbCommand::Doctor(args) => doctor::run(context, &args).await,
            DbCommand::Grants(args) => grants::run(context, &args),
            DbCommand::Stats(_) => stats::run(context).await,
            DbCommand::Reap(_) => reap::run(context).await,
            DbCommand::Prune(_) => prune::run(context).await,
            DbCommand::Sql(args) => sql::run(context, &args),
        }
    }
}
