//! `pm db grants`

use crate::context::Context;
use crate::error::CommandError;
use pm_core::grants::{RoleKind, grant_script};

/// Prints the grants that a role needs, and no others
///
/// It prints only, and needs no database: pipe it into psql as the owner of the schema, or as a
/// superuser. It can be run again, and should be after a migration that adds tables.
///
/// A migrator makes and changes tables. A reader looks at everything. An enqueuer puts jobs on
/// queues. A worker takes and ends jobs, enqueues, reaps, fires schedules, and looks at
/// everything. An operator does all but migrate.
///
/// Example:
///   pm db grants --role app --for worker | psql "$PM_DATABASE_URL"
///   pm db grants --role shop --for enqueuer --migrator deploy
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct GrantsArgs {
    /// The role, which must exist [default: pm_ and the kind]
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// What the role is for; all kinds are printed when neither this nor a role is given
    #[arg(long = "for", value_name = "KIND", value_parser = ["migrator", "reader", "enqueuer", "worker", "operator"])]
    kind: Option<String>,
    /// The role that migrates: the tables of its later migrations are granted too
    #[arg(long, value_name = "NAME")]
    migrator: Option<String>,
}

pub(super) fn run(context: &mut Context, args: &GrantsArgs) -> Result<(), CommandError> {
    let schema = context.settings()?.schema;
    for name in [&args.role, &args.migrator].into_iter().flatten() {
        if name.is_empty() || name.len() > 63 || name.contains('\0') {
            return Err(CommandError::usage(format!("{name:?} cannot be the name of a role: 1 to 63 bytes")));
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
