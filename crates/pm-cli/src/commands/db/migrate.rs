//! `pm db migrate`

use crate::context::Context;
use crate::error::CommandError;
use pm_driver_tokio_postgres::{SCHEMA_VERSION, migration_script};
use serde::Serialize;

/// Makes pm's tables, or brings them up to date
///
/// Any number of processes may do so at once; it is one transaction and takes no long lock.
/// With nothing to do it changes nothing.
///
/// Example:
///   pm db migrate
///   pm db migrate --check || echo "not up to date"
///   pm db migrate --print > pm.sql
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MigrateArgs {
    /// Print the SQL and do nothing; no database is needed
    #[arg(long, conflicts_with = "check")]
    print: bool,
    /// Do nothing; exit 1 when the tables are missing or behind
    #[arg(long)]
    check: bool,
}

#[derive(Serialize)]
struct Migration<'a> {
    schema: &'a str,
    /// The version found, 0 when there were no tables.
    found: u32,
    /// The version this program works with.
    wanted: u32,
    migrated: bool,
}

pub(super) async fn run(context: &mut Context, args: &MigrateArgs) -> Result<(), CommandError> {
    let schema = context.settings()?.schema;
    if args.print {
        return context.output.text(&migration_script(&schema));
    }
    let queue = context.connect_unchecked().await?;
    let found = queue.schema_version().await?;
    let report = |migrated| Migration { schema: schema.as_str(), found, wanted: SCHEMA_VERSION, migrated };
    if args.check && found < SCHEMA_VERSION {
        context.output.done(&report(false), &format!("Schema \"{schema}\" {}.", standing(found)))?;
        let message = format!("schema \"{schema}\" is not at version {SCHEMA_VERSION}");
        return Err(CommandError::refused(message).hint("run: pm db migrate"));
    }
    // It refuses a newer schema, and writes nothing when there is nothing to do.
    queue.migrate().await?;
    let sentence = match found {
        SCHEMA_VERSION => format!("Schema \"{schema}\" is up to date, at version {SCHEMA_VERSION}."),
        0 => format!("Created schema \"{schema}\", at version {SCHEMA_VERSION}."),
        found => format!("Migrated schema \"{schema}\" from version {found} to {SCHEMA_VERSION}."),
    };
    context.output.done(&report(found != SCHEMA_VERSION), &sentence)
}

fn standing(found: u32) -> String {
    match found {
        0 => "has no tables of pm".to_owned(),
        found => format!("is at version {found}"),
    }
}
