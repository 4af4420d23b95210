//! `pm db doctor`

use crate::context::Context;
use crate::duration::parse_duration;
use crate::error::CommandError;
use crate::render::FixableFinding;
use std::time::Duration;

/// Diagnoses common problems and suggests fixes
///
/// It checks for transactions, standbys and replication slots that keep vacuum from removing dead
/// rows (and names their owners); dead rows that vacuum does not remove; missing and invalid
/// indexes; sequential scans of large tables; expired leases that were not reaped; a clock that
/// differs from the database's; queues with ready jobs that no worker claims; disabled autovacuum;
/// transaction ID wraparound; unfinished deletions of queues; row-level security and missing
/// grants; tables that are views, foreign, distributed, partitioned or unlogged, and triggers on
/// them; sequences that are behind after a failover; leftovers of deleted jobs; search paths in
/// which pg_catalog is not first.
///
/// For each problem it prints what was found, why it matters, and a command that fixes it: read
/// the command before you run it. It writes nothing to the database. Exit code 1 when a problem
/// was found. Only superusers and members of pg_read_all_stats see the transactions of other
/// roles.
///
/// Example:
///   pm db doctor
///   pm db doctor --json --threshold 1m
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct DoctorArgs {
    /// How long a transaction may be open, a lease be expired, and a ready job wait
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration)]
    threshold: Duration,
}

pub(super) async fn run(context: &mut Context, args: &DoctorArgs) -> Result<(), CommandError> {
    let pm = context.pm_on_schema()?;
    let findings = context.connect_unchecked().await?.doctor(args.threshold).await?;
    let findings: Vec<_> = findings.into_iter().map(|finding| FixableFinding::new(finding, &pm)).collect();
    context.output.show_all(&findings, |screen| {
        let paragraphs: Vec<_> = findings.iter().map(|finding| finding.paragraph(screen.colour)).collect();
        paragraphs.join("\n")
    })?;
    match findings.len() {
        0 => context.output.note("No problems found."),
        1 => return Err(CommandError::refused("1 problem found")),
        count => return Err(CommandError::refused(format!("{count} problems found"))),
    }
    Ok(())
}
