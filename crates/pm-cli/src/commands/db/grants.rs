//! `pm db grants`

use crate::context::Context;
use crate::error::CommandError;
use pm_core::grants::{RoleKind, grant_script};

/// Prints the minimal grants for a role
///
/// It only prints SQL and needs no database: pipe it into psql as the owner of the schema or as a
/// superuser. The SQL can be run again, and should be after a migration that adds tables.
///
/// A migrator creates and changes tables. A reader reads everything. An enqueuer adds jobs. A
/// worker claims and settles jobs, enqueues, reaps, fires schedules, and reads everything. An
/// operator does everything but migrate.
///
/// Example:
///   pm db grants --role app --for worker | psql "$PM_DATABASE_URL"
///   pm db grants --role shop --for enqueuer --migrator deploy
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct GrantsArgs {
    /// The role, which must exist [default: pm_KIND]
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// What the role is for [default: worker; without --role, all kinds]
    #[arg(long = "for", value_name = "KIND", value_parser = ["migrator", "reader", "enqueuer", "worker", "operator"])]
    kind: Option<String>,
    /// The role that migrates: the grants include the tables of its future migrations
    #[arg(long, value_name = "NAME")]
    migrator: Option<String>,
}

pub(super) fn run(context: &mut Context, args: &GrantsArgs) -> Result<(), CommandError> {
    let schema = context.settings()?.schema;
    for name in [&args.role, &args.migrator].into_iter().flatten() {
        if name.is_empty() || name.len() > 63 || name.contains('\0') {
            return Err(CommandError::usage(format!("{name:?} is not a valid role name: 1 to 63 bytes")));
        }
    }
    let kinds = match (args.kind.as_deref().and_then(RoleKind::from_name), &args.role) {
        (Some(kind), _) => vec![kind],
        (None, Some(_)) => vec![RoleKind::Worker],
        (None, None) => RoleKind::ALL.to_vec(),
    };
    let script = |kind: RoleKind| {
        let role = args.role.clone().unwrap_or_else(|| format!("pm_{}", kind.name()));
        grant_script(kind, &role, &schema, args.migrator.as_deref())
    };
    let scripts: Vec<_> = kinds.into_iter().map(script).collect();
    context.output.text(&scripts.join("\n"))
}
