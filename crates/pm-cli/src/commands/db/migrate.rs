//! `pm db migrate`

use crate::context::Context;
use crate::error::CommandError;
use crate::render::Value;
use pm_core::SchemaName;
use pm_driver_tokio_postgres::{SCHEMA_VERSION, migration_script};

/// Creates pm's tables, or migrates them to the current version
///
/// Any number of processes may migrate at the same time. The migration is one transaction and
/// holds no lock for long. It changes nothing when the tables are up to date.
///
/// Example:
///   pm db migrate
///   pm db migrate --check || echo "not up to date"
///   pm db migrate --print > pm.sql
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MigrateArgs {
    /// Print the SQL instead of running it; needs no database
    #[arg(long, conflicts_with = "check")]
    print: bool,
    /// Change nothing; exit code 1 when the tables are missing or outdated
    #[arg(long)]
    check: bool,
}

pub(super) async fn run(context: &mut Context, args: &MigrateArgs) -> Result<(), CommandError> {
    let schema = context.settings()?.schema;
    if args.print {
        return context.output.text(&migration_script(&schema));
    }
    let queue = context.connect_unchecked().await?;
    let found = queue.schema_version().await?;
    let report = |migrated: bool| {
        Value::named([
            ("schema", schema.as_str().into()),
            // The version found; 0 without tables.
            ("found", Value::number(found)),
            // The version that this program needs.
            ("wanted", Value::number(SCHEMA_VERSION)),
            ("migrated", migrated.into()),
        ])
    };
    if args.check && found < SCHEMA_VERSION {
        context.output.done(&report(false), &current(&schema, found))?;
        let message = format!("schema \"{schema}\" is not at version {SCHEMA_VERSION}");
        return Err(CommandError::refused(message).hint_migrate());
    }
    // This fails for a newer schema, and writes nothing when the schema is up to date.
    queue.migrate().await?;
    let sentence = match found {
        SCHEMA_VERSION => format!("Schema \"{schema}\" is up to date, at version {SCHEMA_VERSION}."),
        0 => format!("Created schema \"{schema}\", at version {SCHEMA_VERSION}."),
        found => format!("Migrated schema \"{schema}\" from version {found} to {SCHEMA_VERSION}."),
    };
    context.output.done(&report(found != SCHEMA_VERSION), &sentence)
}

fn current(schema: &SchemaName, found: u32) -> String {
    match found {
        0 => format!("pm is not installed in schema \"{schema}\"."),
        found => format!("Schema \"{schema}\" is at version {found}."),
    }
}
